"""The capability command: rows, resumption, the page."""

import json
import pathlib
from typing import Any

import pytest
from ml_collections import ConfigDict

from experiments import capability as command
from experiments.capabilities import attackers, figures, measure, training
from experiments.run import results
from experiments.tables import blocks
from tests.experiments.docstrings import load_config


def unchanged(scene, rng):
  del rng
  setting = {"learning_rate": 1e-3, "steps": 1}
  yield attackers.Attacked(setting, scene.params, scene.module, scene.present)


UNTRAINED = attackers.ATTACKS["fine_tune"]._replace(play=unchanged)


def small(*tasks: str) -> ConfigDict:
  config = load_config("capability.py")
  config.tasks = tasks or measure.TASKS
  config.seeds = 2
  for name in measure.TASKS:
    own = config[name]
    own.update(batch_size=6, steps=2, expert_steps=2, both_steps=2)
    own.update(tests=10, choosing=5, demonstrations=(2, 4))
    own.model_args.update(features=4, depth=1, heads=1)
    own.sweep.update(steps=(1,), learning_rates=(1e-3,))
    own.attacks = ("fine_tune", "prune")
  config.digits.digits = 3
  config.text.update(public="python_help", modules=("argparse",), window=8)
  return config


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, pathlib.Path]:
  folder = tmp_path_factory.mktemp("capability") / "run"
  with pytest.MonkeyPatch.context() as patch:
    # `test_learning` covers training, which is what takes time.
    patch.setattr(training, "lessons", lambda name, config: [])
    patch.setitem(attackers.ATTACKS, "fine_tune", UNTRAINED)
    return command.run(small("digits"), str(folder)), folder


def test_every_figure_has_an_interval_and_an_origin(done) -> None:
  rows, _ = done
  models, trained, pruned = 5 * 2 + 1, 4 * 2, 3
  differences = 2 * 2 + 2 + 1  # Of models, of fine-tuning, of pruning.
  assert len(rows) == models + trained + pruned + differences
  for row in rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["interval"] and row["command"] and row["hardware"]
    assert row["seeds"] == len(row["values"]) == 2 and row["seed"] == [0, 1]
    assert row["options"]["model_args"]["features"] == 4
    assert row["parameters"] > 100
  tuned = {"attack": "fine_tune", "demonstrations": 4, "metric": "restricted"}
  row = results.find(rows, who="locked", **tuned)
  assert row["best"] == [{"learning_rate": 1e-3, "steps": 1}] * 2
  with pytest.raises(KeyError):
    results.find(rows, **tuned | {"demonstrations": 3})


def test_differences_are_of_the_same_seeds() -> None:
  known = {"task": "digits", "metric": "restricted", "demonstrations": 8}
  known |= {"attack": "fine_tune", "condition": "no_key"}
  rows = [
    known | {"who": who, "seed": seed, "value": value}
    for who, values in {"routed": (0.5, 0.3), "never": (0.4, 0.4)}.items()
    for seed, value in enumerate(values)
  ]
  found = figures.over_seeds(rows)
  assert [r["target"] for r in found[:2]] == [0.0, 0.0]
  assert found[2]["than"] == "never" and len(found) == 3
  assert found[2]["values"] == pytest.approx([0.1, -0.1])
  assert found[2]["low"] < 0 < found[2]["high"]


def test_the_page_shows_what_was_measured(done) -> None:
  _, folder = done
  text = (folder / "capability.html").read_text()
  for title in training.MODELS.values():
    assert title in text
  assert text.count('role="img"') == 1 and "Pruning" in text
  assert (
    "password lock, with the password" in text and "Weight noise" not in text
  )
  assert "sort restricted" in text and "Python" not in text


def test_a_document_quotes_the_figures(done, tmp_path) -> None:
  rows, _ = done
  results.write_json(tmp_path / "capability.json", rows)
  block = "<!-- begin capability: x -->\n<!-- end capability -->"
  text = blocks.fill(block, tmp_path)
  assert "**3 digits**: reverse is public, sort restricted. 1 blocks" in text
  assert "| password lock, with the password |  | .000 |  |" in text
  assert "2 demonstrations | 4 demonstrations |" in text
  name = "| fine-tuning | routed, sealed tier: difference to never trained |"
  assert f"{name} .000 | .000 |" in text
  assert "| without demonstrations | pruning |" in text


def test_it_continues_where_it_stopped(done, monkeypatch) -> None:
  rows, folder = done
  file = folder / "capability.jsonl"
  lines = file.read_text().splitlines(keepends=True)
  assert {json.loads(x)["seed"] for x in lines} == {0, 1}
  monkeypatch.setattr(measure, "measured", None)  # It would fail.
  copy = folder / "copy.json"
  again = command.run(small("digits"), str(folder), copy=str(copy))
  assert [r["value"] for r in again] == [r["value"] for r in rows]
  assert json.loads(copy.read_text()) == again
  file.write_text("".join(x for x in lines if json.loads(x)["seed"] == 0))
  with pytest.raises(TypeError):
    command.run(small("digits"), str(folder))


def test_a_changed_field_is_measured_again() -> None:
  before, config = set(measure.tasks(small())), small()
  config.text.window = 9
  after = set(measure.tasks(config))
  assert {x.partition("/")[0] for x in after - before} == {"text"}
  config.seeds = 3
  assert len(set(measure.tasks(config)) - after) == 2


@pytest.mark.slow
def test_everything_is_measured_and_drawn(tmp_path: pathlib.Path) -> None:
  config = small()
  for name in measure.TASKS:
    config[name].attacks = (*measure.ATTACKS,)
  rows = command.run(config, str(tmp_path / "run"))
  assert {r["attack"] for r in rows} == {"none", *measure.ATTACKS}
  assert {r["task"] for r in rows} == set(measure.TASKS)
  page = (tmp_path / "run" / "capability.html").read_text()
  attacks = attackers.ATTACKS.values()
  drawn = sum(x.trains and not x.needs_many for x in attacks)
  assert page.count('role="img"') == len(measure.TASKS) * drawn


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("seeds", 1),
    ("tasks", ()),
    ("tasks", ("digits", "music")),
    ("digits.digits", 8),
    ("digits.tests", 999),
    ("digits.steps", 0),
    ("digits.learning_rate", 0.0),
    ("digits.demonstrations", (8, 0)),
    ("digits.attacks", ("ask",)),
    ("digits.sweep.steps", ()),
    ("digits.sweep.learning_rates", (0.0,)),
    ("digits.sweep.pruned", (1.0,)),
    ("digits.sweep.bits", (1,)),
    ("text.window", 1),
    ("text.choosing", 0),
  ],
)
def test_what_is_out_of_range_is_named(field: str, value: Any) -> None:
  config = small()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=f"{field}.*out of range"):
    measure.tasks(config)
