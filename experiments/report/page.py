"""One HTML file that loads nothing: escaped elements, the style, the frame."""

import html
from collections.abc import Iterable
from typing import Any

from experiments.report.style import STYLE

# The page forbids itself to fetch anything, whatever a title contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_VOID = ("meta", "img")


class Html(str):
  """Markup, which `element` does not escape again."""


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
  """Return an element; everything that is not `Html` is escaped.

  Args:
    name: Tag.
    *children: Text, `Html`, numbers; None is left out.
    **attributes: `class_` for class, `stroke_width` for stroke-width; None is
      left out.

  Example:
    >>> element("td", "a < b", class_="name")
    '<td class="name">a &lt; b</td>'
  """
  shown = "".join(
    f' {k.rstrip("_").replace("_", "-")}="{html.escape(str(v))}"'
    for k, v in attributes.items()
    if v is not None
  )
  if name in _VOID:
    return Html(f"<{name}{shown} />")
  inner = "".join(_markup(c) for c in children if c is not None)
  return Html(f"<{name}{shown}>{inner}</{name}>")


def _markup(child: Any) -> str:
  return child if isinstance(child, Html) else html.escape(str(child))


def document(title: str, *body: Html) -> str:
  """Return the whole page."""
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
    element(
      "meta", name="viewport", content="width=device-width, initial-scale=1"
    ),
    element("meta", name="color-scheme", content="light dark"),
    element("title", title),
    element("style", Html(STYLE)),
  )
  main = element("body", element("main", *body))
  return "<!doctype html>\n" + element("html", head, main, lang="en") + "\n"


def section(title: str, *body: Html | str) -> Html:
  """Return a section of the page; text becomes paragraphs."""
  parts = [b if isinstance(b, Html) else element("p", b) for b in body]
  return element("section", element("h2", title), *parts)


def definitions(
  pairs: Iterable[tuple[str, Any]], class_: str | None = None
) -> Html:
  """Return a list of terms, each with its description."""
  parts = []
  for term, description in pairs:
    parts += [element("dt", term), element("dd", description)]
  return element("dl", *parts, class_=class_)


def flag(text: str) -> Html:
  """Return a conspicuous warning."""
  return element("span", text, class_="flag")
