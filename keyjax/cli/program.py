"""From arguments to an exit code."""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence

from keyjax.cli import failures
from keyjax.cli.commands import parse
from keyjax.cli.failures import Failure
from keyjax.cli.output import Result, show, show_failure


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command.

  Args:
    argv: what stands behind `keyjax`; by default what the shell gave.

  Returns:
    The exit code; see `keyjax --help`.

  Raises:
    SystemExit: help or a completion script was printed.

  Example:
    >>> main(["rotate", "KEYJAX-SECRET-SECRET:AAAA"])
    2
  """
  if argv is None:
    # Our own process: what Orbax's threads leave behind is not for users.
    sys.unraisablehook = lambda _: None
  argv = sys.argv[1:] if argv is None else list(argv)
  try:
    args = parse(argv)
    result = _run(args)
    show(result, args.json)
    return result.code
  except KeyboardInterrupt:
    return show_failure(Failure(failures.INTERRUPTED, "interrupted"), False)
  except BrokenPipeError:  # Whoever read the output has gone.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return failures.FILES
  except Failure as failure:
    return show_failure(failure, "--json" in argv)
  except Exception as error:
    known = failures.classify(error)
    if known is None:
      raise
    return show_failure(known, "--json" in argv)


def _run(args: argparse.Namespace) -> Result:
  # Files are sealed on the host: leave accelerators to who trains on them.
  if "jax" not in sys.modules:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
  module, _, name = args.run.partition(":")
  with _quiet():
    command = getattr(importlib.import_module(f"keyjax.cli.{module}"), name)
    return command(args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps logs off the terminal: what fails is raised, and becomes one line."""
  from absl import logging  # Not needed for `--help`.

  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)
