"""Property inference: what plain weights tell, ciphertext does not."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import data
from experiments.attacking import meta, properties, shadows
from keyjax import tree

NETS = 96


def halves(prevalence: float) -> tuple[shadows.Nets, shadows.Nets]:
  dataset = data.load("digits", num_train=600)
  model = shadows.make_model(dataset, hidden=8)
  first, second = (
    shadows.train(
      model,
      dataset.train_images[i::2],
      dataset.train_labels[i::2],
      prevalence,
      NETS,
      150,
      i,
    )
    for i in (0, 1)
  )
  return first, second


def share(own: shadows.Nets, targets: shadows.Nets, of: str) -> float:
  guessed = meta.CLASSIFIERS[of](own.params, own.label, targets.params)
  return float((guessed == targets.label).mean())


def test_a_missing_class_shows_in_plain_weights_and_not_in_ciphertext() -> None:
  own, targets = halves(0.0)
  assert share(own, targets, "sets of neurons") > 0.85
  scheme = keyjax.deep_lock("counter")
  locked = [
    nets._replace(
      params=properties.lock_all(scheme, "deep_lock", nets.params, None)
    )
    for nets in (own, targets)
  ]
  for of in meta.CLASSIFIERS:
    # Four standard deviations of a coin.
    assert abs(share(*locked, of) - 0.5) < 2 / np.sqrt(NETS), of
  # Each file has a key of its own: biases of one value are not alike.
  zeros = jax.tree.map(jnp.zeros_like, own.params)
  file = properties.lock_all(scheme, "deep_lock", zeros, None)
  words = np.asarray(tree.as_words(jax.tree.leaves(file)[0]))
  assert len(np.unique(words, axis=0)) == NETS


def test_the_order_of_neurons_changes_no_feature() -> None:
  rng = np.random.default_rng(0)
  layers = {
    "dense_0": {"kernel": rng.normal(size=(2, 6, 4)), "bias": np.ones((2, 4))},
    "head": {"kernel": rng.normal(size=(2, 4, 3)), "bias": np.ones((2, 3))},
  }
  order = np.array([2, 0, 3, 1])
  moved = {
    "dense_0": {
      "kernel": layers["dense_0"]["kernel"][..., order],
      "bias": layers["dense_0"]["bias"][:, order],
    },
    "head": {
      "kernel": layers["head"]["kernel"][:, order],
      "bias": layers["head"]["bias"],
    },
  }
  for features in (meta.ordered, meta.statistics):
    a, b = (features({"params": x}) for x in (layers, moved))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_rows_and_table(tmp_path: pathlib.Path) -> None:
  rows = properties.run(str(tmp_path), 8, 5, ("plain", "hpnn"))
  lines = (tmp_path / "rows.jsonl").read_text().splitlines()
  assert len(lines) == len(rows) == 3 * 3
  for row in rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["commit"] and row["hardware"] and row["networks"] == 8
  table = properties.table(rows)
  assert table.row_count == 9


@pytest.mark.parametrize(("nets", "steps"), [(1, 5), (-3, 5), (8, 0)])
def test_too_few_networks_or_steps(
  nets: int, steps: int, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(ValueError, match=f"nets={nets}, steps={steps}: at least"):
    properties.run(str(tmp_path / "out"), nets, steps)
  assert not (tmp_path / "out").exists()


def test_rows_stay_until_there_are_others(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  file = tmp_path / "rows.jsonl"
  file.write_text("those of an earlier run\n")

  def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt

  monkeypatch.setattr(properties, "_play", interrupt)
  with pytest.raises(KeyboardInterrupt):
    properties.run(str(tmp_path), 2, 1, ("plain",))
  assert file.read_text() == "those of an earlier run\n"
