"""Options and help of `keyjax card`."""

from typing import Any

from keyjax.cli import arguments
from keyjax.cli.arguments import command, group

_MAKE = """\
keyjax card make --rows rows.jsonl --scheme counter --model model-1 \\
  --sign file:owner.key --out card.json"""
_CHECK = """\
keyjax card check card.json --verify-key @owner.key.pub --model model-1"""
_SHOW = "keyjax card show card.json"


def add(commands: Any) -> None:
  """Adds `card` and its three commands."""
  parser = group(
    commands,
    "card",
    "make, check and show security cards",
    """
A card says of one locked model what was measured: scheme and class, accuracy
with and without keys, what each attack got and spent, where and when. It holds
no key. `keyjax card COMMAND --help` says more.
""",
    "\n".join((_MAKE, _CHECK, _SHOW)),
  )
  inner = parser.add_subparsers(
    metavar="COMMAND", required=True, parser_class=arguments.Parser
  )
  _make(inner)
  _check(inner)
  _show(inner)


def _make(commands: Any) -> None:
  parser = command(
    commands,
    "make",
    "card:make",
    "make a card from rows of measurements",
    """
Rows are those of experiments.main (results.json) and experiments.attack
(rows.jsonl). A score without an interval is refused. The checklist is that of
Carlini et al., arXiv 1902.06705; rows answer what they decide, --answers the
rest: {"ITEM": {"answer": "yes", "because": "..."}}, or "no", or
"does not apply".
""",
    _MAKE,
  )
  arguments.path(
    parser,
    "--rows",
    "files of rows",
    nargs="+",
    action="extend",
    required=True,
    metavar="FILE",
  )
  parser.add_argument(
    "--scheme", metavar="LABEL", help="whose rows, if there are several"
  )
  arguments.path(
    parser,
    "--model",
    "the locked checkpoint or file that it speaks of",
    metavar="PATH",
  )
  parser.add_argument(
    "--key-fingerprint",
    action="append",
    default=[],
    metavar="TEXT",
    help="the public name of a key, or VERSION=NAME; may be given again",
  )
  arguments.path(
    parser, "--answers", "the owner's, to the checklist", metavar="FILE.json"
  )
  arguments.path(
    parser, "--out", "the new card", required=True, metavar="CARD.json"
  )
  arguments.signer(parser)
  arguments.secrets(parser, root=False)


def _check(commands: Any) -> None:
  parser = command(
    commands,
    "check",
    "card:check",
    "check a card's form, signature and model",
    """
Without --verify-key the signature is not checked, and anybody may have written
the card. With it, a card that is not signed is refused. Nothing is asked of the
network.
""",
    _CHECK,
  )
  _card(parser)
  arguments.verify_key(parser)
  arguments.path(
    parser, "--model", "must be the model that it speaks of", metavar="PATH"
  )


def _show(commands: Any) -> None:
  parser = command(
    commands,
    "show",
    "card:show",
    "print a card for people",
    "The form is checked; the signature is not: see `check`.",
    _SHOW,
  )
  _card(parser)


def _card(parser: Any) -> None:
  arguments.path(parser, "card", "the card's file", metavar="CARD.json")
