"""What each lock is worth: class, key space, best known break, verdict."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from experiments.report.page import Html, element, section
from experiments.report.svg import THIN
from experiments.report.view import DASH
from keyjax.attacks import verdict


class Worth(NamedTuple):
  """One scheme of the table.

  Attributes:
    title: Name for people.
    mechanism: Name of the scheme, or `chain`.
    options: Its arguments.
    bits: Base-2 logarithm of its number of keys; None if unknown.
    rows: Attacks that were played against it.
    baselines: Rows among which those of training from scratch are.
  """

  title: str
  mechanism: str
  options: Mapping[str, Any]
  bits: float | None = None
  rows: tuple[Mapping[str, Any], ...] = ()
  baselines: tuple[Mapping[str, Any], ...] = ()

  @property
  def verdict(self) -> str:
    """The verdict in words."""
    return verdict.in_words(
      self.mechanism, self.options, self.rows, self.baselines
    )


def table(schemes: Iterable[Worth]) -> Html:
  """Return the section: one row for each scheme."""
  titles = ("lock", "class", "key space", "best known break", "verdict")
  head = [element("th", t, scope="col") for t in titles]
  body = [element("tr", *_cells(s)) for s in schemes]
  parts = element("thead", element("tr", *head)), element("tbody", *body)
  made = element("table", *parts, class_="words")
  reach = {"role": "region", "tabindex": "0", "aria_label": "worth"}
  return section(
    "What each lock is worth",
    "The class and the best known break are those that the scheme’s own file "
    "states; the verdict also counts the attacks of this run on the stolen "
    "file. A key space bounds guessing only.",
    element("div", made, class_="scroll", **reach),
  )


def _cells(scheme: Worth) -> list[Html]:
  security_class, bits, verdict_in_words = texts(scheme)
  stated = verdict.known(scheme.mechanism, scheme.options)
  return [
    element("th", scheme.title, scope="row"),
    element("td", security_class),
    element("td", bits),
    element("td", stated.breaks),
    element("td", verdict_in_words),
  ]


def texts(scheme: Worth) -> tuple[str, str, str]:
  """Return the class, the key space and the verdict of a scheme."""
  stated = verdict.known(scheme.mechanism, scheme.options)
  bits = DASH if scheme.bits is None else f"{scheme.bits:.1f}{THIN}bits"
  return stated.security_class, bits, scheme.verdict
