"""What the documentation calls strong was attacked: a row, with an interval."""

import ast
import importlib.util
import pathlib
import re
from collections.abc import Iterator

import pytest
from ml_collections import ConfigDict

from experiments.attacking import plan
from keyjax.attacks import registry
from keyjax.attacks.game import Goal
from tests.conftest import ROOT

WORDS = re.compile(
  r"\b(robust\w*|resist\w*|withst\w+|surviv\w+|unbreakable|immune"
  r"|tamper-?proof|confidential|secure against|(nothing|no attack) known"
  r"|worth nothing)\b",
  re.IGNORECASE,
)
# Words of a claim, and the row of configs/matrix.py that stands behind it.
CLAIMS = {
  "as confidential as AES-CTR, if no nonce": ("counter", "known"),
  "Signs and mantissas of the chosen leaves are": ("keyed_noise", "guess"),
  "nothing known; malleable": ("counter", "known"),
  "Ciphertext is worth nothing": ("counter", "tune_0"),
  "weights worth nothing without a key": ("counter", "tune_1"),
}
# A title of a paper, a denial, a premise.
NOT_CLAIMS = (
  "Block-wise Image Transformation with Secret Key for",
  "Nothing that leaves most weights right survives",
  "With nothing known*, the schedule",
)


def texts() -> dict[str, str]:
  """README, docs, and what the schemes guarantee."""
  found = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
  }
  for file in sorted((ROOT / "keyjax" / "schemes").glob("*.py")):
    found[str(file.relative_to(ROOT))] = "\n\n".join(guarantees(file))
  return found


def guarantees(file: pathlib.Path) -> Iterator[str]:
  kinds = ast.Module, ast.FunctionDef, ast.ClassDef
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, kinds):
      doc = ast.get_docstring(node) or ""
      yield from re.findall(r"^Guarantees:\n((?: .*\n|\n)+)", doc + "\n", re.M)


def unbacked(text: str) -> list[str]:
  """Returns the bold words of a text, but for those that are listed."""
  flat = re.sub(r"\s+", " ", text)
  for known in (*CLAIMS, *NOT_CLAIMS):
    # A listed sentence is taken out as far as its end.
    flat = re.sub(re.escape(known) + r"[^.|]*", "", flat)
  return [
    flat[max(m.start() - 60, 0) : m.end() + 40] for m in WORDS.finditer(flat)
  ]


@pytest.fixture(scope="module")
def matrix() -> ConfigDict:
  file = ROOT / "configs" / "matrix.py"
  spec = importlib.util.spec_from_file_location("matrix", file)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


def test_no_claim_stands_alone() -> None:
  for name, text in texts().items():
    assert not unbacked(text), f"{name}: no row of the matrix is named for it"


def test_a_claim_that_stands_alone_is_found() -> None:
  for text in (
    "The lock is robust\nto fine-tuning.",
    "It resists pruning.",
    "| HPNN | nothing known | x |",
    "As\nconfidential as a wall.",
  ):
    assert len(unbacked(text)) == 1, text
  assert unbacked("nothing known; malleable. It is robust.") != []


def test_what_is_listed_is_said() -> None:
  flat = re.sub(r"\s+", " ", " ".join(texts().values()))
  for known in (*CLAIMS, *NOT_CLAIMS):
    assert known in flat, f"{known!r} is said nowhere: take it off the list"


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_a_row_with_an_interval(
  claim: str, matrix: ConfigDict
) -> None:
  pair = CLAIMS[claim]
  assert pair in set(plan.pairs(matrix))
  spec = matrix.attacks[pair[1]]
  # Of images, or of games with fresh keys: one game has no interval.
  many = registry.get(spec.attack).goal == Goal.FUNCTION or spec.trials > 1
  assert many, f"{pair} is played once"
