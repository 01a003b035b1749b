"""Imports point down: from commands to the ground floor, without cycles.

Imports inside functions count as well.
"""

import ast
import functools
import graphlib
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

# Folders of experiments/, from the ground up: each imports only from tiers
# below its own. Modules at the top are the commands.
TIERS = (
  {"run"},
  {"data", "tables"},
  {"models"},
  {"serving", "training"},
  {"protection", "harms"},
  {
    "attacking",
    "capabilities",
    "encrypted",
    "interpretation",
    "interruption",
    "published",
    "studies",
  },
  {"benchmarks", "claims", "evasion", "membership", "poisons"},
  {"recordings"},
  {"copying"},
  {"report"},
  {"commands"},
)
# It imports the schemes by name, when a key or a config needs one of them.
LOADER = "keyjax.schemes"


@functools.cache
def modules() -> dict[str, set[str]]:
  """Return the modules that each module imports, of this repository."""
  files = {}
  for top in ("keyjax", "experiments"):
    for file in (ROOT / top).rglob("*.py"):
      parts = file.relative_to(ROOT).with_suffix("").parts
      name = ".".join(parts).removesuffix(".__init__")
      files[name] = file
  return {
    name: {x for x in imported(file.read_text(), set(files)) if x != name}
    for name, file in files.items()
  }


def imported(source: str, known: set[str]) -> Iterator[str]:
  """Yield the known modules that a source imports, anywhere in it."""
  for node in ast.walk(ast.parse(source)):
    names: list[str] = []
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute"
      names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
      while name and name not in known:
        name = name.rpartition(".")[0]
      if name:
        yield name


def folder(module: str) -> str:
  """Return the folder of a module; a module at the top of keyjax is its own."""
  top, _, rest = module.partition(".")
  first, _, below = rest.partition(".")
  if top == "keyjax":
    return module if module == LOADER else f"keyjax/{first}"
  if below or first in set().union(*TIERS):
    return first
  return "commands"


def folders() -> dict[str, set[str]]:
  """Return the folders that each folder imports from."""
  found: dict[str, set[str]] = {}
  for module, others in modules().items():
    here = found.setdefault(folder(module), set())
    here |= {folder(x) for x in others} - {folder(module)}
  return found


@pytest.mark.parametrize("graph", [modules, folders])
def test_there_are_no_import_cycles(graph) -> None:
  assert len(graph()) > 20
  graphlib.TopologicalSorter(graph()).prepare()


def test_an_import_cycle_would_be_found() -> None:
  known = {"keyjax.a", "keyjax.b"}
  lazy = "def f():\n  from keyjax import a"
  graph = {
    "keyjax.a": set(imported("import keyjax.b", known)),
    "keyjax.b": set(imported(lazy, known)),
  }
  with pytest.raises(graphlib.CycleError):
    graphlib.TopologicalSorter(graph).prepare()


def test_the_library_never_imports_the_experiments() -> None:
  for module, others in modules().items():
    if module.startswith("keyjax"):
      assert not [x for x in others if x.startswith("experiments")], module


def test_imports_between_folders_of_experiments_point_down() -> None:
  tier = {name: i for i, names in enumerate(TIERS) for name in names}
  for module, others in modules().items():
    here = folder(module)
    if module == "experiments" or here.startswith("keyjax"):
      continue
    for other in others:
      there = folder(other)
      if other.startswith("experiments.") and there != here:
        assert tier[there] < tier[here], f"{module} imports {other}"
