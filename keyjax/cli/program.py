"""The program: from arguments to an exit code."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from keyjax.cli import (
  card,
  checkpoints,
  data,
  exit_codes,
  hardware,
  inspection,
  keyrings,
  keys,
  recipients,
  release,
  release_log,
  shares,
  signatures,
)
from keyjax.cli.exit_codes import FILES, INTERRUPTED, USAGE, Failure
from keyjax.cli.output import Result, show, show_failure
from keyjax.cli.parsers import (
  SHELLS,
  Parser,
  PrintCompletion,
  PrintVersion,
  unknown_arguments,
)
from keyjax.leaks import looks_secret

_WORD = re.compile(r"[a-z]{4,8}", re.IGNORECASE)  # A word of SLIP-39.
_WORDS_OF_A_SHARE = 20
_DESCRIPTION = """\
Keys and sealed checkpoints of JAX models.

Keys are never given on the command line, where `ps` and the shell's history
show them. A SOURCE says where a key is stored: file:PATH (mode 600), env:NAME,
or fd:NUMBER of an open descriptor. KEYJAX_IDENTITY holds a source for commands
that are run without -i. Work is done on the CPU unless JAX_PLATFORMS says
otherwise.

`keyjax COMMAND --help` has examples for each command. They work in the order of
this list, in a folder with a model.safetensors (in Python,
`keyjax.checkpoint.write_weights` writes one) and, for `card`, the rows.jsonl of
`experiments.attack`; for `serve-keys` and those after it, with the policy, keys
and certificates that docs/release.md makes.

Completion: put eval "$(keyjax --print-completion bash)", or the one for zsh,
into your shell's startup file."""


def main(argv: Sequence[str] | None = None) -> int:
  """Run one command.

  Args:
    argv: Arguments after `keyjax`; those of the process by default.

  Returns:
    The exit code; see `keyjax --help`.

  Raises:
    SystemExit: If help or a completion script was printed.

  Example:
    >>> main(["rotate", "KEYJAX-SECRET-SECRET:AAAA"])
    2
  """
  if argv is None:
    # This process is ours: hide what Orbax's threads raise at exit.
    sys.unraisablehook = lambda _: None
  argv = sys.argv[1:] if argv is None else list(argv)
  try:
    args = parse(argv)
    result = _run(args)
    show(result, args.json)
    return result.code
  except KeyboardInterrupt:
    return show_failure(Failure(INTERRUPTED, "interrupted"), False)
  except BrokenPipeError:  # The reader of our output has gone.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FILES
  except Exception as error:
    failure = exit_codes.classify(error)
    if failure is None:
      raise
    return show_failure(failure, "--json" in argv)


def build() -> Parser:
  """Return the parser of the whole program."""
  parser = Parser(prog="keyjax", description=_DESCRIPTION)
  parser.add_argument(
    "--print-completion",
    action=PrintCompletion,
    choices=SHELLS,
    help="print a completion script and exit",
  )
  parser.add_argument(
    "--version",
    action=PrintVersion,
    nargs=argparse.REMAINDER,
    help="print the version of KeyJAX and exit; with -v also its cipher",
  )
  commands = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  for module in (
    keys,
    checkpoints,
    inspection,
    recipients,
    shares,
    card,
    signatures,
    keyrings,
    hardware,
    data,
    release,
    release_log,
  ):
    module.add(commands)
  return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Parse a command line.

  Raises:
    Failure: If it cannot be parsed, or contains a key.
  """
  refuse_secrets(argv)
  args, rest = build().parse_known_args(argv)
  if rest:
    raise Failure(USAGE, f"{unknown_arguments(rest)}; see {args.prog} --help")
  return args


def refuse_secrets(argv: Sequence[str]) -> None:
  """Raise a `Failure` if an argument looks like a key or a share of one.

  Example:
    >>> refuse_secrets(["inspect", "model", "-i", "file:alice.key"])
  """
  words = [n for n, word in enumerate(argv, 1) if _WORD.fullmatch(word)]
  if len(words) >= _WORDS_OF_A_SHARE:
    _refuse(words[0])
  for number, argument in enumerate(argv, 1):
    if looks_secret(argument) or argument.count(" ") >= _WORDS_OF_A_SHARE:
      _refuse(number)


def _refuse(number: int) -> NoReturn:
  raise Failure(
    USAGE,
    f"argument {number} looks like a private key or a share of one: other "
    "users can see the command line; give file:PATH, env:NAME or fd:NUMBER, "
    "and stop using this key",
  )


def _run(args: argparse.Namespace) -> Result:
  # Files are sealed on the host: leave accelerators to training jobs.
  if "jax" not in sys.modules:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
  with _quiet():
    return args.run(args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keep log messages off the terminal: every failure becomes one line."""
  from absl import logging  # Not needed for `--help`.

  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    yield
  finally:
    logging.set_verbosity(before)
