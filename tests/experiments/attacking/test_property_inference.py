"""Property inference: plain weights reveal properties, ciphertext does not."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import attack as command
from experiments import data, models
from experiments.attacking import (
  classifiers,
  known_pair,
  property_inference,
  shadows,
)
from experiments.run import config as configs
from keyjax import card as cards
from keyjax import tree

NETS = 96


def halves(prevalence: float) -> tuple[shadows.Nets, shadows.Nets]:
  dataset = data.load("digits", num_train=600)
  model = models.create(
    "mlp", dataset.num_classes, dataset.mean, dataset.std, hidden=(8,)
  )
  first, second = (
    shadows.train(
      model,
      dataset.train_images[i::2],
      dataset.train_labels[i::2],
      prevalence=prevalence,
      count=NETS,
      steps=150,
      seed=i,
    )
    for i in (0, 1)
  )
  return first, second


def share(own: shadows.Nets, targets: shadows.Nets, of: str) -> float:
  guessed = classifiers.CLASSIFIERS[of](own.params, own.label, targets.params)
  return float((guessed == targets.label).mean())


@pytest.mark.slow
def test_a_missing_class_shows_in_plain_weights_and_not_in_ciphertext() -> None:
  own, targets = halves(0.0)
  assert share(own, targets, "sets of neurons") > 0.85
  scheme = keyjax.deep_lock("counter")
  locked = [
    nets._replace(
      params=property_inference.lock_all(scheme, "deep_lock", nets.params, None)
    )
    for nets in (own, targets)
  ]
  # One secret for all: the chain has one keystream, counter mode has many.
  opened = known_pair.opened(
    keyjax.deep_lock("chain"), own.params, targets.params
  )
  assert share(own, targets._replace(params=opened), "sets of neurons") > 0.85
  opened = known_pair.opened(scheme, own.params, targets.params)
  rest = share(own, targets._replace(params=opened), "sets of neurons")
  assert abs(rest - 0.5) < 2 / np.sqrt(NETS)
  for of in classifiers.CLASSIFIERS:
    # Four standard deviations of fair coin flips.
    assert abs(share(*locked, of) - 0.5) < 2 / np.sqrt(NETS), of
  # Each file has its own key: equal biases give different ciphertexts.
  zeros = jax.tree.map(jnp.zeros_like, own.params)
  file = property_inference.lock_all(scheme, "deep_lock", zeros, None)
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
  for features in (classifiers.ordered, classifiers.statistics):
    a, b = (features({"params": x}) for x in (layers, moved))
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.fixture
def config() -> ConfigDict:
  """Return two schemes, two attackers, three properties, few small networks."""
  made = configs.base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (16,)
  made.num_train = 600  # Two halves of one size.
  configs.set_schemes(
    made,
    none=configs.scheme("identity", "no lock"),
    hpnn=configs.scheme("hpnn", "HPNN"),
    shf=configs.scheme("shf", "SHF", block_size=4),
  )
  for name in shadows.PROPERTIES:
    for known in ("plain", "locked"):
      made_attack = configs.attack(
        "property_inference",
        trials=8,
        steps=5,
        schemes="none|hpnn|shf" if known == "plain" else "hpnn",
        grid=({"property": name, "shadows": known},),
      )
      configs.set_attacks(made, **{f"{name}_{known}": made_attack})
  return made


def test_rows_and_card(config: ConfigDict, tmp_path: pathlib.Path) -> None:
  rows = command.run(config, str(tmp_path / "run"))
  lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
  assert len(lines) == len(rows) == 3 * 3
  for row in rows:
    assert row["low"] <= row["value"] <= row["high"]
    assert row["commit"] and row["hardware"] and row["networks"] == 8
    assert row["property"] in shadows.PROPERTIES
    assert row["condition"] == ("plain" if row["scheme"] == "none" else "wrong")
  assert command.table(rows).row_count == 9
  card = cards.make(cards.read_rows(tmp_path / "run" / "rows.jsonl"), "hpnn")
  assert len(card["attacks"]) == 6


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"trials": 1}, "trials=1, steps=5: must be at least 2 networks"),
    ({"steps": 0}, "trials=8, steps=0: must be at least 2 networks"),
    ({"grid": ()}, "grid: must be one setting with property, shadows"),
    (
      {"grid": ({"property": "loud", "shadows": "plain"},)},
      "property='loud': choose from frequent, absent, chance",
    ),
    (
      {"grid": ({"property": "absent", "shadows": "none"},)},
      "shadows='none': choose from plain, locked, known_pair",
    ),
    (
      {"grid": ({"property": "absent", "shadows": "known_pair"},)},
      "known_pair is for files of deep_lock, not none: set schemes",
    ),
  ],
)
def test_mistakes_claim_no_folder(
  config: ConfigDict,
  changed: dict[str, Any],
  message: str,
  tmp_path: pathlib.Path,
) -> None:
  right = {
    "trials": 8,
    "steps": 5,
    "grid": ({"property": "absent", "shadows": "plain"},),
  }
  bad = configs.attack("property_inference", **(right | changed))
  configs.set_attacks(config, bad=bad)
  with pytest.raises(ValueError, match=f"attacks.bad.*{message}"):
    command.run(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_another_network_is_refused(
  config: ConfigDict, tmp_path: pathlib.Path
) -> None:
  config.model_args.hidden = (16, 16)
  with pytest.raises(ValueError, match="an MLP with one hidden layer; set"):
    command.run(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_rows_stay_when_a_run_is_stopped(
  config: ConfigDict, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  judged = property_inference.hits_of
  calls = []

  def interrupt(*args: Any) -> Any:
    calls.append(args)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return judged(*args)

  monkeypatch.setattr(property_inference, "hits_of", interrupt)
  with pytest.raises(KeyboardInterrupt):
    command.run(config, str(tmp_path / "run"))
  written = (tmp_path / "run" / "rows.jsonl").read_text()
  assert len(written.splitlines()) == 1
  rows = command.run(config, str(tmp_path / "run"))
  assert len(rows) == 9 and len(calls) == 2 + 8
  assert (tmp_path / "run" / "rows.jsonl").read_text().startswith(written)
