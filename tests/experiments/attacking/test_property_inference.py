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
  locked_nets,
  private_nets,
  property_inference,
  shadows,
)
from experiments.run import config as configs
from experiments.run import results
from experiments.tables import headlines, properties
from keyjax import card as cards
from keyjax import tree
from keyjax.schemes import registry

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
      params=locked_nets.lock_all(scheme, "deep_lock", nets, None).floats
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
  zeros = own._replace(params=jax.tree.map(jnp.zeros_like, own.params))
  file = locked_nets.lock_all(scheme, "deep_lock", zeros, None).floats
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


def nets(keys: Any = None) -> tuple[Any, shadows.Nets]:
  """Return a small MLP, and four of them, not trained."""
  model = models.create("mlp", 10, (0.5,), (0.5,), hidden=(8,))
  rngs = jax.random.split(jax.random.key(0), 4)
  params = jax.vmap(lambda rng: model.init(rng, IMAGES[:1]))(rngs)
  return model, shadows.Nets(params, shadows.alternating(4), keys)


IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 1)).astype(np.float32)
BATCH = {"image": IMAGES}


@pytest.mark.parametrize("name", ["deep_lock", "keyed_noise", "hpnn"])
def test_a_service_answers_as_the_plain_network_and_nobody_else(
  name: str,
) -> None:
  model, found = nets()
  needs = {"apply_fn": model.apply} if name == "hpnn" else {}
  scheme = registry.get(name).factory(**needs)
  locked = locked_nets.lock_all(scheme, name, found, BATCH)
  plain = locked_nets.answers(model.apply, found.params, IMAGES)
  assert plain.shape == (4, 6, 10) and np.isfinite(plain).all()
  served = locked_nets.answers(
    model.apply, locked.files, IMAGES, scheme, locked.keys
  )
  np.testing.assert_allclose(served, plain, rtol=1e-5, atol=1e-6)
  one = jax.tree.map(lambda x: x[0], found.params)
  wrong = locked_nets.answers(
    model.apply,
    locked.files,
    IMAGES,
    scheme,
    locked_nets.new_keys(scheme, one, 4, BATCH),
  )
  for other in (wrong, locked_nets.answers(model.apply, locked.floats, IMAGES)):
    same = np.isclose(other, plain, rtol=1e-3).all((1, 2))
    assert not same.any()


@pytest.mark.parametrize(
  "name",
  [
    "shf",
    pytest.param("np", marks=pytest.mark.slow),
    pytest.param("ffx", marks=pytest.mark.slow),
  ],
)
def test_networks_are_trained_under_keys_of_their_own(name: str) -> None:
  model, found = nets()
  scheme = registry.get(name).factory(block_size=4)
  with pytest.raises(ValueError, match=f"{name}: .* without its keys"):
    locked_nets.lock_all(scheme, name, found, BATCH)
  keys = locked_nets.new_keys(scheme, None, 4, BATCH)
  trained = shadows.train(
    model,
    (255 * IMAGES).astype(np.uint8),
    np.arange(6) % 3,
    prevalence=1.0,
    count=4,
    steps=3,
    seed=0,
    scheme=scheme,
    keys=keys,
  )
  locked = locked_nets.lock_all(scheme, name, trained, BATCH)
  served = locked_nets.answers(
    model.apply, locked.files, IMAGES, scheme, locked.keys
  )
  for i in range(4):  # Network i, under its own key.
    key, params = (
      jax.tree.map(lambda x, i=i: x[i], t) for t in (keys, trained.params)
    )
    bound = scheme.bind(key, model.apply)
    want = bound(params, jnp.asarray(IMAGES))
    np.testing.assert_allclose(served[i], want, rtol=1e-4, atol=1e-5)


def test_answers_that_are_no_numbers_say_nothing() -> None:
  logits = np.array([[[0.0, np.nan], [1.0, 2.0]]], np.float32)
  found = locked_nets.log_probabilities(logits)
  assert found[0, 0].tolist() == [0, 0]
  np.testing.assert_allclose(np.exp(found[0, 1]).sum(), 1, rtol=1e-6)
  assert locked_nets.labels(logits).tolist() == [[[0, 0], [0, 1]]]
  huge = np.array([[[np.float32(3e38), -3e38]]], np.float32)
  assert np.isfinite(locked_nets.log_probabilities(huge)).all()


def test_private_networks_keep_what_is_claimed() -> None:
  pytest.importorskip("jax_privacy")
  model, _ = nets()
  labels = np.arange(6) % 3
  found = private_nets.guarantee(6, 4.0, 3)
  assert found.epsilon <= 4 and found.training.examples == 3
  assert found.training.delta == private_nets.DELTA
  pixels = (255 * IMAGES).astype(np.uint8)
  first, second = (
    private_nets.train(model, pixels, labels, 0.0, 4, found, seed=0)
    for _ in range(2)
  )
  flat = [
    np.concatenate(list(map(np.ravel, jax.tree.leaves(x.params))))
    for x in (first, second)
  ]
  # The noise is fresh: the same seed gives other networks.
  assert np.isfinite(flat).all() and not np.allclose(*flat)


@pytest.fixture
def config() -> ConfigDict:
  """Return three schemes, three properties, few small networks."""
  made = configs.base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (16,)
  made.num_train = 600  # Two halves of one size.
  configs.set_schemes(
    made,
    none=configs.scheme("identity", "no lock"),
    hpnn=configs.scheme("hpnn", "HPNN"),
    adv=configs.scheme("adv_params", "AdvParams"),  # Too slow: not tried.
  )
  for name in shadows.PROPERTIES:
    for known in ("plain", "locked"):
      made_attack = configs.attack(
        "property_inference",
        trials=8,
        steps=5,
        schemes="none|hpnn|adv" if known == "plain" else "hpnn",
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


def test_rows_of_answers_and_of_private_networks(
  config: ConfigDict, tmp_path: pathlib.Path
) -> None:
  pytest.importorskip("jax_privacy")
  config.name = "attack_properties"
  with config.unlocked():
    config.attacks = {}
    del config.schemes.adv
  private = {"private": 8.0, "clipped": None}
  for seen in ("answers", "labels", "wrong_key", "no_key", *private):
    setting: dict[str, Any] = {"property": "absent", "shadows": seen}
    if seen in private:
      setting |= {"shadows": "answers", "epsilon": private[seen]}
    made = configs.attack(
      "property_inference",
      trials=8,
      steps=5,
      schemes="none" if seen in private else ".*",
      grid=(setting,),
      queries=20,
    )
    configs.set_attacks(config, **{seen: made})
  rows = {
    (r["scheme"], r["attack"]): r
    for r in command.run(config, str(tmp_path / "run"))
  }
  assert len(rows) == 10
  for (scheme, seen), row in rows.items():
    served = seen in ("answers", "labels", *private)
    rest = "plain" if scheme == "none" else "wrong"
    assert row["condition"] == ("api" if served else rest)
    assert row["cost"]["queries"] == 20 and row["details"]["nonfinite"] == 0
    assert ("privacy" in row) == (seen == "private")
  # A key changes no answer of a service, and so nothing that they reveal.
  for seen in ("answers", "labels"):
    assert rows["none", seen]["value"] == rows["hpnn", seen]["value"]
  promised = rows["none", "private"]["privacy"]
  assert promised["epsilon"] <= 8 and promised["delta"] == private_nets.DELTA
  assert promised["relation"] and "Poisson" in promised["sampling"]
  found = headlines.over_runs([list(rows.values())], [0], "digits, mlp")
  results.write_json(tmp_path / "attacks.json", found)
  made = "\n".join(properties.properties(tmp_path))
  assert f"epsilon {promised['epsilon']:.2f} at delta 1e-05" in made
  assert "| clipped, no noise | service, right key: logits |" in made
  assert made.count("service, right key: labels alone") == 2


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"trials": 1}, "trials=1, steps=5: must be at least 2 networks"),
    ({"steps": 0}, "trials=8, steps=0: must be at least 2 networks"),
    ({"grid": ()}, "grid: must be one setting with property, shadows"),
    (
      {"grid": ({"property": "absent", "shadows": "plain", "epsilon": 4.0},)},
      "private networks are not locked, not hpnn: set schemes",
    ),
    (
      {"grid": ({"property": "absent", "shadows": "labels"},)},
      "queries=0 for labels: must be the number of images",
    ),
    ({"queries": 3}, "queries=3 for plain: must be .* or 0 for files"),
    (
      {"grid": ({"property": "loud", "shadows": "plain"},)},
      "property='loud': choose from frequent, absent, chance",
    ),
    (
      {"grid": ({"property": "absent", "shadows": "none"},)},
      "shadows='none': choose from plain, locked, known_pair, answers, labels",
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
