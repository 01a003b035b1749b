"""The poisoning command: studies, rows that stop and continue, the page."""

import json
import pathlib
import re
import types
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import poisoning as command
from experiments import poisons
from experiments.report import poisoning as report
from experiments.run import results
from experiments.studies import base
from experiments.tables import blocks
from tests.experiments.docstrings import load_config

TARGET = "as <before>"


def study(runs: list[int]) -> types.SimpleNamespace:
  """Return a study of two points of a curve, a number and a picture."""

  def run(lab: base.Lab) -> list[base.Figure]:
    runs.append(lab.seed)
    lab.show("label_flips", "a poison", np.full((2, 4, 4, 1), lab.seed / 2))
    hits = np.arange(10) < 5 + lab.seed
    return [
      base.share("none: accuracy", hits, TARGET, "accuracy", 0.0),
      base.share("half: accuracy", ~hits, "", "accuracy", 0.5),
      base.number("steps", 300.0),
      base.number("drawn alone", 0.5, 1, "", "accuracy", 0.25)._replace(
        drawn=True
      ),
    ]

  return types.SimpleNamespace(
    TITLE="A study", SENTENCE="It falls.", DATASETS=("digits",), AXIS="share",
    run=run,
  )  # fmt: skip


def config(**fields: Any) -> ConfigDict:
  made = load_config("poisoning.py", "digits")
  made.num_train, made.num_test = 60, 20
  made.poisoning.studies = ("label_flips",)
  made.poisoning.seeds = 2
  made.update_from_flattened_dict(fields)
  return made


def test_rows_resume_and_the_page_draws_them(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  runs: list[int] = []
  monkeypatch.setattr(poisons, "get", lambda name: study(runs))
  folder, copy = tmp_path / "run", tmp_path / "poisoning_digits.json"
  rows = command.run(config(), str(folder), copy=str(copy))
  assert runs == [0, 1] and len(rows) == 8
  assert command.run(config(), str(folder)) == rows and runs == [0, 1]
  more = command.run(config(**{"poisoning.seeds": 3}), str(folder))
  assert runs == [0, 1, 2] and more[:8] == rows
  figures = results.read_json(copy)
  assert [r["value"] for r in figures] == [0.55, 0.45, 300.0, 0.5]
  assert [r.get("x") for r in figures] == [0.0, 0.5, None, 0.25]
  page = (folder / "poisoning.html").read_text()
  assert "accuracy, end to end" in page
  assert page.count("<img") == 2 and page.count("<circle") == 3
  assert "as &lt;before&gt;" in page and "<before>" not in page
  assert not re.search(r"\b(None|nan)\b", page)
  kept = json.loads((folder / "studies" / "pictures.json").read_text())
  assert [p["seed"] for p in kept.values()] == [0]
  block = "<!-- begin poisoning: x -->\n<!-- end poisoning -->"
  text = blocks.fill(block, tmp_path)
  assert "**A study.** It falls." in text
  # A point between those of a curve is in no table.
  assert "drawn alone" not in text and ">drawn alone<" not in page
  assert "| none: accuracy | 55.0 % (50.0 to 60.0) | as <before> |" in text


def test_a_page_without_curves_has_tables() -> None:
  row = results.row({}, metric="study", study="s", study_title="One figure",
                    sentence="It is.", title="x", value=0.5, low=0.4, high=0.6,
                    interval="x", images=3, target="", seed=0)  # fmt: skip
  text = report.render([row], {})
  assert "One figure" in text and "<circle" not in text


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"poisoning.studies": ("flips",)}, "'flips'.*label_flips"),
    ({"poisoning.seeds": 0}, r"poisoning\.seeds=0"),
    ({"dataset": "bits"}, "label_flips is measured on digits, mnist"),
  ],
)
def test_a_wrong_field_is_named(fields, message, tmp_path) -> None:
  with pytest.raises(ValueError, match=message):
    command.run(config(**fields), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
  with pytest.raises(ValueError, match="no poisoning.*configs/poisoning.py"):
    command.run(load_config("quickstart.py"), str(tmp_path / "run"))


@pytest.mark.slow
def test_flipped_labels_are_measured(tmp_path: pathlib.Path) -> None:
  made = config(**{"num_train": 300, "num_test": 100, "poisoning.seeds": 1})
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    rows = command.run(made, str(tmp_path / "run"))
  by = {r["title"]: r["value"] for r in rows}
  assert by["0% of labels at random: accuracy"] > 0.85
  assert by["50% of labels at random: accuracy"] < 0.8
  name = "{} of class 3 as 8: taken for 8"
  assert by[name.format("70%")] > 0.5 > by[name.format("0%")]
