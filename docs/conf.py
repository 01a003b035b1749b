"""Sphinx settings of the site; `docs/build.py` gathers its pages."""

import importlib.metadata
import re
from typing import Any

project = "KeyJAX"
author = "the KeyJAX authors"
copyright = "the KeyJAX authors, Apache-2.0"
release = version = importlib.metadata.version("keyjax")

extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
]
root_doc = "index"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

smartquotes = False  # They turn -- of an option into a dash.

# Headings are link targets, as on GitHub; a link to another one is an error.
myst_heading_anchors = 4

# Single backquotes in docstrings are code, not references.
default_role = "code"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_use_ivar = True
napoleon_numpy_docstring = False
# Types that are not on this site, of KeyJAX or others, are named all the same.
nitpick_ignore_regex = [("py:class", ".*")]

html_theme = "furo"
html_title = f"KeyJAX {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

# An indented block below a paragraph of a docstring is code, as in Markdown.
_CODE = re.compile(r"^(?![-*\d ])([^\n]*\S)\n\n(?=    \S)", re.M)


def _mark_code(app: Any, what: str, name: str, *given: Any) -> None:
  lines = given[-1]
  lines[:] = _CODE.sub(r"\1\n\n::\n\n", "\n".join(lines)).split("\n")


# Defaults of named tuples are values; those of functions are kept as written.
_FUNCTION = re.compile(
  r"<(?:built-in )?function ((?:[\w.]|<\w+>)+)(?: at \w+)?>"
)


def _name_functions(app: Any, what: str, name: str, *given: Any) -> Any:
  signature, returns = given[-2:]
  return signature and _FUNCTION.sub(_name, signature), returns


def _name(match: re.Match[str]) -> str:
  return "..." if "<" in match[1] else match[1]  # Lambdas have no name.


def _skip_fields(app: Any, what: str, name: str, obj: Any, *_: Any) -> Any:
  """Leave out fields of named tuples, which the class describes."""
  alias = str(getattr(obj, "__doc__", "")).startswith("Alias for field")
  return True if alias else None


def setup(app: Any) -> None:
  """Read docstrings before napoleon does."""
  app.connect("autodoc-process-docstring", _mark_code, priority=400)
  app.connect("autodoc-process-signature", _name_functions)
  app.connect("autodoc-skip-member", _skip_fields)
