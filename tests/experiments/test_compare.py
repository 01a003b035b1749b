"""Runs of different configs side by side, in a terminal and as a page."""

import io
import json
import pathlib
import re

import pytest
import rich.console

from experiments import compare
from experiments.report import compare as page
from experiments.report import tables
from experiments.run.config import base
from experiments.run.workdir import Workdir
from tests.experiments.report.test_report import (
  BASE,
  accuracy,
  cells,
  locked,
  parse,
  plain,
  words,
)

HPNN = {"mechanism": "hpnn", "options": {}}


def write(folder: pathlib.Path, rows) -> str:
  """Write the files of a finished run."""
  config = base()
  config.name = folder.name
  Workdir(config, str(folder))
  (folder / "results.json").write_text(json.dumps(rows))
  return str(folder)


@pytest.fixture
def folders(tmp_path) -> list[str]:
  first = plain() + [r | HPNN for r in locked("hpnn", "HPNN")]
  second = [r | {"dataset": "mnist"} for r in plain()]
  second += [r | HPNN for r in locked("hpnn", "HPNN", blind=True)]
  second += locked("shf", "SHF, <M=4>")
  return [write(tmp_path / "a", first), write(tmp_path / "b", second)]


def test_the_page_has_each_run_beside_its_own_plain_model(folders) -> None:
  tree = parse(page.render(compare.read(folders)))
  assert words(tree.find(".//h1")) == "Two runs side by side"
  assert "One lock in every run, on digits, mnist." in words(
    tree.find(".//p[@class='lead']")
  )
  names = [words(x) for x in tree.findall(".//th[@colspan]")]
  assert [x.split("/")[-1][:1] for x in names] == ["a", "b"]
  shown = cells(tree, 0, "HPNN")
  assert shown[1].startswith("96.25") and shown[2].startswith("13.25")
  assert shown[1].endswith("−1.5 points") and "43.75" in shown[3]
  assert shown[4].startswith("96.25") and "mostly NaN" in shown[5]
  assert cells(tree, 0, "SHF, <M=4>")[1:4] == ["–"] * 3
  assert "give nearly all key bits" in " ".join(cells(tree, 1, "HPNN"))


def test_the_terminal_shows_the_same(folders) -> None:
  console = rich.console.Console(file=io.StringIO(), width=200)
  console.print(compare.table(compare.read(folders)))
  text = console.file.getvalue()  # type: ignore[attr-defined]
  row = next(x for x in text.splitlines() if "HPNN" in x)
  assert re.findall(r"NaN|\d+\.\d+", row) == [
    *("96.25", "13.25", "43.75"),
    *("96.25", "NaN", "NaN"),
  ]
  assert [x for x in text.splitlines() if "SHF" in x][0].count("–") == 1


def test_verdicts_are_those_of_the_report(folders) -> None:
  found = tables.verdicts(page.locks(compare.read(folders)))
  assert found["HPNN"].startswith("access control by degradation; ")
  assert "broken by" in found["HPNN"]
  assert "measured elsewhere: " in found["HPNN"]


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ([], "two runs or more"),
    (["a"], "two runs or more"),
    (["a", "a/"], "is there twice"),
    (["a", "none"], "none has no run.json"),
    (
      ["a", "attacks"],
      "attacks is not the folder of a run of experiments.main",
    ),
  ],
)
def test_what_cannot_be_compared(folders, tmp_path, names, message) -> None:
  rows = [accuracy("hpnn", "wrong", 0.5) | BASE]
  write(tmp_path / "attacks", rows)
  with pytest.raises(ValueError, match=re.escape(message)):
    compare.read([f"{tmp_path}/{x}" for x in names])
