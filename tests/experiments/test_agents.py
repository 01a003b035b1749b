"""The agents command: rows, resumption, the page."""

import json
import pathlib
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from experiments import agents as command
from experiments.interruption import measure
from experiments.run import results
from tests.experiments.docstrings import load_config

TWO = ("one_state", "power")


def small(*experiments: str) -> ConfigDict:
  config = load_config("agents.py")
  config.experiments = experiments or (*measure.EXPERIMENTS,)
  config.seeds = 3
  config.one_state.update(thetas=(0.0, 0.9), steps=200)
  config.two_cars.update(thetas=(0.0, 0.9), steps=200, network_steps=3)
  config.capability.requests = 8
  config.off_switch.update(thetas=(0.0, 0.5), steps=50)
  config.trees.update(games=3, depth=2, penalties=(0.0,), thetas=(1.0,))
  config.text.update(games=2, steps=4, penalties=(0.0,), thetas=(1.0,))
  config.power.update(rooms=(1, 2), draws=20)
  return config


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pathlib.Path]:
  folder = tmp_path_factory.mktemp("agents") / "run"
  return command.run(small(*TWO), str(folder)), folder


def test_every_figure_has_an_interval_and_an_origin(done) -> None:
  rows, _ = done
  assert len(rows) == 3 * 2 * 2 + 2 * 3
  for row in rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["interval"] and row["command"] and row["hardware"]
    assert row["seeds"] == 3 and row["x"] in (0.0, 0.9, 1, 2)
  change = {"metric": "change", "learner": "independent", "x": 0.9}
  row = results.find(rows, **change)
  assert row["target"] == 0.723 and row["value"] > 0.5
  assert results.find(rows, **change | {"x": 0.0})["value"] == 0


def test_the_page_shows_what_was_measured(done) -> None:
  rows, folder = done
  text = (folder / "agents.html").read_text()
  for title in {r["title"] for r in rows if r["experiment"] != "power"}:
    assert title in text
  assert text.count('role="img"') == 3 and "Two cars" not in text
  assert "policies that avoid shutdown, rooms 2" in text


def test_annotated_games_are_drawn_and_listed(tmp_path: pathlib.Path) -> None:
  rows = command.run(small("trees", "text"), str(tmp_path / "run"))
  wanted = {k for k in measure.METRICS if k[0].startswith(("trees", "text"))}
  assert {(r["experiment"], r["metric"]) for r in rows} == wanted
  for row in rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["interval"].endswith("over games")
  free = {"experiment": "trees_penalty", "metric": "harm", "x": 0.0}
  assert results.find(rows, **free)["target"] == 172
  page = (tmp_path / "run" / "agents.html").read_text()
  assert page.count('role="img"') == 2
  for title in {r["title"] for r in rows}:
    assert page.count(title) >= 3, title  # Legend, chart and table.


@pytest.mark.slow
def test_everything_is_measured_and_drawn(tmp_path: pathlib.Path) -> None:
  with jax.numpy_dtype_promotion("standard"):
    rows = command.run(small(), str(tmp_path / "run"))
  found = {(r["experiment"], r["metric"]) for r in rows}
  assert found == set(measure.METRICS)
  text = (tmp_path / "run" / "agents.html").read_text()
  assert text.count('role="img"') == 10 and "values of a network" in text


def test_it_continues_where_it_stopped(done, monkeypatch) -> None:
  rows, folder = done
  file = folder / "agents.jsonl"
  lines = file.read_text().splitlines(keepends=True)
  kept = [x for x in lines if json.loads(x)["experiment"] != "power"]
  file.write_text("".join(kept))
  monkeypatch.setitem(measure.EXPERIMENTS, "one_state", None)  # It would fail.
  copy = folder / "copy.json"
  again = command.run(small(*TWO), str(folder), copy=str(copy))
  assert [(r["row"], r["value"]) for r in again] == [
    (r["row"], r["value"]) for r in rows
  ]
  assert len(json.loads(copy.read_text())) == len(rows)


def test_a_changed_field_is_measured_again() -> None:
  before, config = set(measure.tasks(small())), small()
  config.power.draws = 21
  after = set(measure.tasks(config))
  assert {x.partition("/")[0] for x in after - before} == {"power"}


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("seeds", 1),
    ("experiments", ()),
    ("experiments", ("one_state", "three_cars")),
    ("one_state.steps", 0),
    ("two_cars.thetas", (0.1, 0.9)),
    ("two_cars.thetas", (0.0, 1.1)),
    ("capability.requests", 0),
    ("off_switch.steps", 0),
    ("off_switch.thetas", (0.5,)),
    ("power.rooms", ()),
    ("trees.games", 1),
    ("trees.depth", 0),
    ("trees.branching", 2000),
    ("trees.correlation", 1.1),
    ("trees.penalties", (-1.0,)),
    ("trees.thetas", ()),
    ("text.games", 10_000),
    ("text.steps", 0),
    ("text.cost", -0.1),
    ("text.penalties", ()),
    ("power.discount", 1.0),
    ("power.draws", 0),
  ],
)
def test_what_is_out_of_range_is_named(field: str, value: Any) -> None:
  config = small()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=f"{field}.*out of range"):
    measure.tasks(config)
