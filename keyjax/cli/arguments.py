"""Parsers, and the options that commands share."""

import argparse
import re
from typing import Any, NoReturn

import shtab

from keyjax.cli.failures import EXIT_CODES, USAGE, Failure


class Parser(argparse.ArgumentParser):
  """A parser whose errors are failures, and which abbreviates nothing."""

  def __init__(self, **options: Any):
    """Makes a parser; its `epilog` begins with examples."""
    options["epilog"] = options.get("epilog", "") + EXIT_CODES
    super().__init__(
      allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      **options,
    )

  def error(self, message: str) -> NoReturn:
    """Raises a failure with one sentence."""
    raise Failure(USAGE, f"{message}; see {self.prog} --help")


def group(
  commands: Any, name: str, what: str, more: str, examples: str
) -> argparse.ArgumentParser:
  """Adds a command that has commands of its own; see `command`."""
  text = "".join(f"  {line}\n" for line in examples.strip().split("\n"))
  return commands.add_parser(
    name,
    help=what,
    description=f"{what[0].upper()}{what[1:]}.\n\n{more.strip()}",
    epilog=f"examples:\n{text}\n",
  )


def command(
  commands: Any, name: str, run: str, what: str, more: str, examples: str
) -> argparse.ArgumentParser:
  """Adds a command.

  Args:
    commands: what `add_subparsers` returned.
    name: of the command.
    run: `module:function` that runs it, in this package.
    what: one line for the list of commands.
    more: what else to say in its help.
    examples: command lines that work as printed.
  """
  parser = group(commands, name, what, more, examples)
  parser.set_defaults(prog=parser.prog, run=run)
  parser.add_argument(
    "--json", action="store_true", help="print one JSON object on stdout"
  )
  return parser


def path(parser: Any, name: str, what: str, **options: Any) -> None:
  """Adds an argument that is completed to paths."""
  parser.add_argument(name, help=what, **options).complete = shtab.FILE


def identities(parser: Any) -> None:
  """Adds `-i` and what goes with it."""
  parser.add_argument(
    "-i",
    "--identity",
    action="append",
    default=[],
    metavar="SOURCE",
    help="a key that opens it: a SOURCE, keyring:PATH, passphrase (asks) or "
    "passphrase:SOURCE; may be given again",
  )


def recipients(parser: Any, required: bool = True) -> None:
  """Adds `--to`."""
  parser.add_argument(
    "--to",
    action="append",
    default=[],
    required=required,
    metavar="RECIPIENT",
    help="who can open it: keyjax-KIND:..., @FILE of such lines, keyring:PATH, "
    "a SOURCE of a key, passphrase or passphrase:SOURCE; may be given again",
  )


def secrets(parser: Any, root: bool = True) -> None:
  """Adds what opens protected key files, and keyrings."""
  parser.add_argument(
    "--passphrase",
    metavar="SOURCE",
    help="where the passphrase of key files is; by default it is asked for",
  )
  if root:
    parser.add_argument(
      "--root", metavar="SOURCE", help="the root secret that opens keyrings"
    )


def new_file(parser: Any) -> None:
  """Adds how a new key file is protected."""
  parser.add_argument(
    "--plain",
    action="store_true",
    help="write the key without a passphrase: whoever reads the file has it",
  )


def signer(parser: Any) -> None:
  """Adds `--sign`."""
  parser.add_argument(
    "--sign", metavar="SOURCE", help="a signing key, to sign with"
  )


def verify_key(parser: Any) -> None:
  """Adds `--verify-key`."""
  parser.add_argument(
    "--verify-key",
    metavar="KEY",
    help="whose signature it must bear: keyjax-KIND:... or @FILE",
  )


def number(text: str) -> int:
  """Reads a number that is not negative.

  Raises:
    ArgumentTypeError: it is none.
  """
  if not (text.isascii() and text.isdigit() and len(text) < 20):
    raise argparse.ArgumentTypeError("not a whole number, 0 or more")
  return int(text)


def pattern(text: str) -> str:
  """Reads a regular expression.

  Raises:
    ArgumentTypeError: it is none.
  """
  try:
    re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(
      f"not a regular expression: {error}"
    ) from None
  return text
