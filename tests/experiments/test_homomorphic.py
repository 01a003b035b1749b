"""The homomorphic command: rows, figures, and the real processes."""

import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import homomorphic as command
from experiments.encrypted import figures, measure, training
from experiments.run import results
from experiments.tables import blocks
from experiments.tables import homomorphic as table
from keyjax.errors import ArgumentError
from tests.experiments.docstrings import load_config


def small(*parts: str) -> ConfigDict:
  config = load_config("homomorphic.py")
  config.parts = parts or tuple(measure.PARTS)
  config.seeds = 2
  config.network.update(hidden=(8,), epochs=2, queries=3)
  config.paillier.update(outputs=2, bits=(2048,))
  config.regression.test = 4
  return config


def rows() -> list[dict[str, Any]]:
  """Return rows of two seeds, as a run has them."""
  base = {"title": "CKKS network", "model": "64-8-10", "queries": 100}
  found = [
    {"metric": "agreement", "value": 1.0},
    {"metric": "max_error", "value": 0.002},
    {"metric": "question_bytes", "value": 170_000.4},
  ]
  return [
    results.row(results.provenance() | base | {"part": "network"}, **r)
    | {"seed": seed, "value": r["value"] * (1 - seed / 100)}
    for r in found
    for seed in (0, 1)
  ]


def test_figures_are_means_and_ranges_over_seeds() -> None:
  made = rows()
  made[1]["value"] = 0.98
  agreement, error, sent = figures.over_seeds(made)
  assert agreement["value"] == 0.99 and agreement["seeds"] == [0, 1]
  assert agreement["interval"] == "Clopper-Pearson over 200 questions"
  assert 0.96 < agreement["low"] < 0.97 and agreement["high"] < 1
  assert error["low"] == 0.00198 and error["high"] == 0.002
  assert table.cell(sent).startswith("169,150 (168,300 to 170,000)")


def test_a_document_quotes_the_figures(tmp_path: pathlib.Path) -> None:
  results.write_json(tmp_path / "homomorphic.json", figures.over_seeds(rows()))
  block = "<!-- begin homomorphic: x -->\n<!-- end homomorphic -->"
  text = blocks.fill(block, tmp_path)
  assert "**CKKS network**, 64-8-10; 100 questions a seed" in text
  assert "| largest error | 0.002 |" in text
  assert "seeds 0, 1; commit" in text
  assert table.homomorphic(tmp_path / "none") == []


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("parts", ()),
    ("parts", ("network", "words")),
    ("seeds", 0),
    ("network.hidden", ()),
    ("network.queries", 0),
    ("paillier.bits", (1024,)),
    ("paillier.bits", (2049,)),
    ("regression.test", 1),
  ],
)
def test_a_field_out_of_range_is_named(field: str, value: Any) -> None:
  config, last = small(), field.rpartition(".")[2]
  section = config[field.partition(".")[0]] if "." in field else config
  section[last] = value
  with pytest.raises(ValueError, match=f"^{field}=.*: out of range") as e:
    measure.tasks(config)
  assert "\n" not in str(e.value)


def test_a_network_too_deep_ends_before_anything_is_trained() -> None:
  config = small()
  config.network.hidden = (8,) * 13
  with pytest.raises(ArgumentError, match="too deep: 27 levels"):
    measure.tasks(config)
  config.network.update(hidden=(8,), activation=(0.0, 1.0, 0.0))
  with pytest.raises(ArgumentError, match="c not 0"):
    measure.tasks(config)


def test_a_changed_field_is_measured_again() -> None:
  before, config = set(measure.tasks(small())), small()
  config.network.epochs = 3
  after = set(measure.tasks(config))
  assert {x.partition("/")[0] for x in after - before} == {"network"}
  assert len(after) == 6


def test_the_regression_is_least_squares() -> None:
  train, test = training.diabetes(small().regression, seed=0)
  assert len(test.targets) == 4 and len(train.targets) == 438
  assert np.abs([*train.inputs, *test.inputs]).max() == 1
  layer = training.fitted(train)["dense_0"]
  found = (train.inputs @ layer["kernel"] + layer["bias"])[:, 0]
  rest = train.targets - found
  np.testing.assert_allclose(train.inputs.T @ rest, 0, atol=1e-8)
  assert 0.4 < training.determination(found, train.targets) < 0.6


@pytest.mark.slow
def test_every_part_is_right_and_resumed(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  for module in ("tenseal", "phe"):
    pytest.importorskip(module, reason="pip install 'keyjax[homomorphic]'")
  config, copy = small(), tmp_path / "copy.json"
  config.seeds = 1
  with jax.numpy_dtype_promotion("standard"):
    found = command.run(config, str(tmp_path / "run"), copy=str(copy))
  for part, most in (("network", 1e-2), ("regression", 1e-3)):
    wanted = {"part": part, "metric": "max_error"}
    assert 0 < results.find(found, **wanted)["value"] < most
  assert results.find(found, metric="agreement")["value"] == 1
  r2 = [results.find(found, metric=m)["value"] for m in ("r2", "r2_encrypted")]
  assert abs(r2[0] - r2[1]) < 1e-3
  layer = results.find(found, part="paillier", metric="max_error")
  assert layer["value"] < 1e-3
  for row in found:
    assert row["commit"] and row["command"] and row["hardware"]
    assert row["metric"] in table.METRICS
  monkeypatch.setattr(measure, "PARTS", dict.fromkeys(measure.PARTS))
  again = command.run(config, str(tmp_path / "run"))
  assert json.loads(copy.read_text()) == again == found
