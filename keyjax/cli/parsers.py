"""Argument parsers, and the options that several commands share."""

import argparse
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from keyjax.cli import exit_codes, kinds
from keyjax.cli.exit_codes import USAGE, Failure
from keyjax.cli.output import Result

SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")


class Parser(argparse.ArgumentParser):
  """A parser that raises `Failure` and accepts no abbreviated options."""

  def __init__(self, **options: Any):
    """Create a parser; its `epilog` begins with examples."""
    options["epilog"] = options.get("epilog", "") + exit_codes.HELP
    super().__init__(
      allow_abbrev=False,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      **options,
    )

  def error(self, message: str) -> NoReturn:
    """Raise a `Failure` with a message of one line."""
    raise Failure(USAGE, f"{message}; see {self.prog} --help")


class PrintCompletion(argparse.Action):
  """The option that prints a completion script and exits."""

  def __call__(
    self,
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    values: Any,
    option_string: str | None = None,
  ) -> None:
    """Print the script for the shell that was named."""
    import shtab  # Slow to import, and needed only here.

    print(shtab.complete(parser, values))
    parser.exit(0)


class PrintVersion(argparse.Action):
  """The option that prints the version and exits."""

  def __call__(
    self,
    parser: argparse.ArgumentParser,
    namespace: argparse.Namespace,
    values: Any,
    option_string: str | None = None,
  ) -> None:
    """Print the version of the installed package, and with -v of others."""
    from importlib import metadata  # Needed only here.

    if values not in ([], ["-v"]):
      parser.error("--version takes -v alone")
    try:
      version = metadata.version("keyjax")
    except metadata.PackageNotFoundError:
      version = "of a checkout that is not installed"
    print(f"{parser.prog} {version}")
    if values:
      print(f"cipher {_cipher()}")
      for name in ("jax", "orbax-checkpoint", "cryptography"):
        print(f"{name} {metadata.version(name)}")
    parser.exit(0)


def _cipher() -> str:
  from keyjax.aes import library  # Needed only here.

  found = library.find()
  if found is None:
    return "not compiled: OpenSSL on the host, a circuit inside jit"
  return f"compiled: {pathlib.Path(found._name).name}"


def add_group(
  commands: Any, name: str, *, summary: str, details: str, examples: str
) -> argparse.ArgumentParser:
  """Add a command that has subcommands; see `add_command`."""
  lines = "".join(f"  {line}\n" for line in examples.strip().split("\n"))
  return commands.add_parser(
    name,
    help=summary,
    description=f"{summary[0].upper()}{summary[1:]}.\n\n{details.strip()}",
    epilog=f"examples:\n{lines}\n",
  )


def add_command(
  commands: Any,
  run: Callable[[argparse.Namespace], Result],
  name: str,
  *,
  summary: str,
  details: str,
  examples: str,
) -> argparse.ArgumentParser:
  """Add a command.

  Args:
    commands: Value that `add_subparsers` returned.
    run: Function that runs the command.
    name: Name of the command.
    summary: One line for the list of commands.
    details: Further paragraphs of the command's help.
    examples: Command lines that work as printed.
  """
  parser = add_group(
    commands, name, summary=summary, details=details, examples=examples
  )
  parser.set_defaults(prog=parser.prog, run=run)
  parser.add_argument(
    "--json", action="store_true", help="print one JSON object on stdout"
  )
  return parser


def add_path(
  parser: Any, name: str, *, complete: str = "file", **options: Any
) -> None:
  """Add an argument that the shell completes to a path.

  Args:
    parser: Parser or group of options.
    name: Name of the argument or option.
    complete: "file" or "directory".
    **options: Options of `add_argument`.
  """
  options.setdefault("type", _path)
  parser.add_argument(name, **options).complete = complete


def _path(text: str) -> str:
  if not text:  # To the system, the current folder.
    raise argparse.ArgumentTypeError("an empty path: name a file or a folder")
  return text


def add_identities(parser: Any) -> None:
  """Add `-i`."""
  parser.add_argument(
    "-i",
    "--identity",
    action="append",
    default=[],
    metavar="SOURCE",
    help=f"key that opens it: a SOURCE, keyring:PATH, "
    f"{_forms('identity')}; can be repeated",
  )


def add_recipients(parser: Any, *, required: bool = True) -> None:
  """Add `--to`; without `required`, tiers may take its place."""
  parser.add_argument(
    "--to",
    action="append",
    default=[],
    required=required,
    metavar="RECIPIENT",
    help="who can open it: keyjax-KIND:..., @FILE with such lines, a SOURCE "
    f"of a key, keyring:PATH, {_forms('recipient')}; can be repeated",
  )


def _forms(role: kinds.Role) -> str:
  """Return the forms that kinds define, for a help text."""
  forms = ", ".join(kinds.argument_forms(role))
  return f"{forms} (see `keyjax keygen --help`)"


def add_checkpoint(parser: Any) -> None:
  """Add the checkpoint that a command works on."""
  add_path(
    parser,
    "path",
    complete="directory",
    metavar="PATH",
    help="a sealed checkpoint",
  )


def add_tier(parser: Any) -> None:
  """Add `--tier NAME`."""
  parser.add_argument(
    "--tier",
    action="append",
    default=[],
    metavar="NAME",
    help="only this tier, of a checkpoint with tiers",
  )


def add_passphrase(parser: Any) -> None:
  """Add `--passphrase`."""
  parser.add_argument(
    "--passphrase",
    metavar="SOURCE",
    help="source of the passphrase of key files; prompts by default",
  )
  parser.add_argument(
    "--any-cost",
    action="store_true",
    help="open with a passphrase of any cost: up to 1 GiB and a minute",
  )


def add_root(parser: Any) -> None:
  """Add `--root`."""
  parser.add_argument(
    "--root", metavar="SOURCE", help="root secret that opens keyrings"
  )


def add_plain(parser: Any) -> None:
  """Add `--plain`."""
  parser.add_argument(
    "--plain",
    action="store_true",
    help="write the key without a passphrase: anyone who reads the file has it",
  )


def add_signer(parser: Any) -> None:
  """Add `--sign`."""
  parser.add_argument("--sign", metavar="SOURCE", help="signing key")


def add_verify_key(parser: Any) -> None:
  """Add `--verify-key`."""
  parser.add_argument(
    "--verify-key",
    metavar="KEY",
    help="public key of the expected signer: keyjax-KIND:... or @FILE",
  )


def add_licensee(parser: Any) -> None:
  """Add `--licensee`."""
  parser.add_argument(
    "--licensee",
    metavar="KEYRING#NAME",
    help="mark it as the copy of a licensee, who can open it too; `keyring "
    "issue` makes licensees, and `keyring trace` finds them",
  )


def add_expected(parser: Any) -> None:
  """Add `--step`, `--name` and `--run`, which a checkpoint must be of."""
  parser.add_argument(
    "--step", type=number, metavar="N", help="expected training step"
  )
  parser.add_argument("--name", help="expected name of the model")
  parser.add_argument(
    "--run", dest="of_run", metavar="RUN", help="expected id of the run"
  )


def number(text: str) -> int:
  """Return a non-negative integer.

  Raises:
    ArgumentTypeError: If the text is not one.
  """
  if not (text.isascii() and text.isdigit() and len(text) < 20):
    raise argparse.ArgumentTypeError("not a whole number, 0 or more")
  return int(text)


def byte_count(text: str) -> int:
  """Return a size in bytes: a number, and perhaps a unit.

  Example:
    >>> byte_count("5GB"), byte_count("512MiB"), byte_count("32")
    (5000000000, 536870912, 32)

  Raises:
    ArgumentTypeError: If the text is not a size.
  """
  found = re.fullmatch(r"([0-9]{1,15}) ?([KMGT]i?)?B?", text.strip(), re.ASCII)
  if not found or not int(found[1]):
    raise argparse.ArgumentTypeError("not a size such as 5GB or 512MiB")
  unit = found[2] or ""
  power = " KMGT".index(unit[:1] or " ")
  return int(found[1]) * (1024 if unit.endswith("i") else 1000) ** power


def pattern(text: str) -> str:
  """Return a regular expression.

  Raises:
    ArgumentTypeError: If the text is not one.
  """
  try:
    re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(
      f"not a regular expression: {error}"
    ) from None
  return text


def unknown_arguments(rest: Sequence[str]) -> str:
  """Return a description of superfluous arguments.

  It repeats no value: one might be a passphrase.
  """
  names = [a.partition("=")[0] for a in rest if a.startswith("--")]
  return f"unknown option {names[0]}" if names else "one argument too many"
