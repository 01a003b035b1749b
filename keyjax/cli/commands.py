"""The command line as a whole, and what it refuses to read."""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

import shtab

from keyjax.cli import card_options, checkpoint_options, keys_options
from keyjax.cli.arguments import Parser
from keyjax.cli.failures import USAGE, Failure
from keyjax.leaks import looks_secret

_WORD = re.compile(r"[a-z]{4,8}", re.IGNORECASE)  # Those of SLIP-39.
_WORDS_OF_A_SHARE = 20
_DESCRIPTION = """\
Keys and sealed checkpoints of JAX models.

Keys never stand on the command line, where `ps` and the shell's history show
them. A SOURCE says where one is: file:PATH (mode 600), env:NAME, or fd:NUMBER
of an open descriptor. KEYJAX_IDENTITY holds a source for commands that are
given no -i. Work is done on the CPU unless JAX_PLATFORMS says otherwise.

`keyjax COMMAND --help` has an example of each; they work in the order of the
list, in a folder that holds a model.safetensors and the rows.jsonl of attacks
(`card` reads those).

Completion: eval "$(keyjax --print-completion bash)", or zsh's, in the file
that your shell reads when it starts."""


def build() -> Parser:
  """Returns the parser of the whole program."""
  parser = Parser(prog="keyjax", description=_DESCRIPTION)
  shtab.add_argument_to(
    parser, ["--print-completion"], help="print a completion script and exit"
  )
  commands = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=Parser
  )
  keys_options.add_keygen(commands)
  checkpoint_options.add(commands)
  keys_options.add(commands)
  card_options.add(commands)
  return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Reads a command line.

  Raises:
    Failure: it cannot be read, or holds a key.
  """
  refuse_secrets(argv)
  args, rest = build().parse_known_args(argv)
  if rest:
    # A value is not repeated: it might be a passphrase.
    names = [a.partition("=")[0] for a in rest if a.startswith("--")]
    what = f"unknown option {names[0]}" if names else "an argument too many"
    raise Failure(USAGE, f"{what}; see {args.prog} --help")
  return args


def refuse_secrets(argv: Sequence[str]) -> None:
  """Raises a failure if an argument looks like a key or a share of one.

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
    f"argument {number} looks like a private key or a share of one: keys "
    "never stand on the command line, where others see them; give "
    "file:PATH, env:NAME or fd:NUMBER, and replace this key",
  )
