"""What each lock is worth: class, key space, known break, attacks, verdict."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.report.page import Html, element, section
from experiments.report.svg import THIN
from experiments.report.view import DASH
from keyjax.attacks import verdict

_MEASURED = "strongest attack measured elsewhere"
_ELSEWHERE = (
  "This run has played no attack: the last column is the strongest one on the "
  "file in results/, over three seeds, on the network of the config that it "
  "names."
)
_PLAYED = "The verdict also counts the attacks of this run on the stolen file."


class Worth(NamedTuple):
  """One scheme of the table.

  Attributes:
    title: Name for people.
    mechanism: Name of the scheme, or `chain`.
    options: Its arguments.
    bits: Base-2 logarithm of its number of keys; None if unknown.
    rows: Attacks that were played against it.
    baselines: Rows among which those of training from scratch are.
    measured: Strongest attack that was measured elsewhere, in words; see
      `experiments.tables.leaderboard.measured`.
  """

  title: str
  mechanism: str
  options: Mapping[str, Any]
  bits: float | None = None
  rows: tuple[Mapping[str, Any], ...] = ()
  baselines: tuple[Mapping[str, Any], ...] = ()
  measured: str = ""

  @property
  def verdict(self) -> str:
    """The verdict in words."""
    return verdict.in_words(
      self.mechanism, self.options, self.rows, self.baselines
    )


def table(schemes: Iterable[Worth]) -> Html:
  """Return the section: one row for each scheme."""
  shown = list(schemes)
  # A verdict on attacks of this run says more.
  elsewhere = any(s.measured for s in shown) and not any(s.rows for s in shown)
  last = _MEASURED if elsewhere else "verdict"
  titles = "lock", "class", "key space", "best known break", last
  head = [element("th", t, scope="col") for t in titles]
  body = [element("tr", *_cells(s, elsewhere)) for s in shown]
  parts = element("thead", element("tr", *head)), element("tbody", *body)
  made = element("table", *parts, class_="words")
  reach = {"role": "region", "tabindex": "0", "aria_label": "worth"}
  return section(
    "What each lock is worth",
    "The class and the best known break are those that the scheme’s own file "
    f"states. {_ELSEWHERE if elsewhere else _PLAYED} A key space bounds "
    "guessing only.",
    element("div", made, class_="scroll", **reach),
  )


def _cells(scheme: Worth, elsewhere: bool) -> list[Html]:
  security_class, bits, words = texts(scheme)
  stated = verdict.known(scheme.mechanism, scheme.options)
  return [
    element("th", scheme.title, scope="row"),
    element("td", security_class),
    element("td", bits),
    element("td", stated.breaks),
    element("td", scheme.measured or DASH if elsewhere else words),
  ]


def in_words(scheme: Worth) -> str:
  """Return what a lock is worth, in a line for a terminal."""
  security_class, bits, verdict_in_words = texts(scheme)
  measured = f"; measured elsewhere: {scheme.measured}"
  known = "; ".join((security_class, bits, verdict_in_words))
  return known + (measured if scheme.measured else "")


def texts(scheme: Worth) -> tuple[str, str, str]:
  """Return the class, the key space and the verdict of a scheme."""
  stated = verdict.known(scheme.mechanism, scheme.options)
  bits = DASH if scheme.bits is None else f"{scheme.bits:.1f}{THIN}bits"
  return stated.security_class, bits, scheme.verdict
