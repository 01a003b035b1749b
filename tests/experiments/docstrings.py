"""Read docstrings and configs: helpers of the tests of claims."""

import ast
import importlib.util
import pathlib
import re
from collections.abc import Iterator

from ml_collections import ConfigDict

from tests.conftest import ROOT


def sections_of(file: pathlib.Path, *titles: str) -> Iterator[str]:
  """Yield sections of the docstrings in a file."""
  kinds = ast.Module, ast.FunctionDef, ast.ClassDef
  title = "|".join(titles)
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, kinds):
      doc = ast.get_docstring(node) or ""
      pattern = rf"^(?:{title}):\n((?: .*\n|\n)+)"
      yield from re.findall(pattern, doc + "\n", re.M)


def load_config(file: str, *words: str) -> ConfigDict:
  spec = importlib.util.spec_from_file_location(
    "config", ROOT / "configs" / file
  )
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*words)
