"""Defences of a training config: what each trains on, and what it buys."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.run.config import base, meaning
from experiments.training import defense, filters
from keyjax.attacks import evasion
from keyjax.attacks.evasion.losses import cross_entropy
from tests.experiments.training import runs

MODEL = runs.create("mlp", hidden=(32,))


@pytest.fixture(autouse=True)
def as_users_run_it() -> Any:
  with jax.numpy_dtype_promotion("standard"):
    yield


def settings(name: str, epochs: float = 40.0, **fields: Any) -> ConfigDict:
  config = runs.settings(
    epochs=epochs, learning_rate=1e-2, checkpoint_every=1000, log_every=100
  )
  config.defense.update(name=name, **fields)
  return config


def logits(variables: Any, model: Any = MODEL) -> Any:
  return jax.jit(lambda x: model.apply(variables, x))


def accuracy(variables: Any, epsilon: float = 0.0, model: Any = MODEL) -> float:
  x = data.to_input(jnp.asarray(runs.DIGITS.train_images))
  y = jnp.asarray(runs.DIGITS.train_labels)
  fn = logits(variables, model)
  if not epsilon:
    return float((fn(x).argmax(-1) == y).mean())
  found = evasion.bim(fn, x, y, epsilon=epsilon)
  return float(1 - found.success.mean())


def fit(
  folder: pathlib.Path, config: ConfigDict, model: Any = MODEL, **keyed: Any
) -> Any:
  return runs.fit(folder, config, model, **keyed)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
  with jax.numpy_dtype_promotion("standard"):
    return fit(tmp_path_factory.mktemp("plain"), settings(""))


@pytest.mark.parametrize(
  "name",
  [
    "trades",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("fgsm", "pgd", "fast")),
  ],
)
def test_trains_against_attacks(
  name: str, plain: Any, tmp_path: pathlib.Path
) -> None:
  found = fit(tmp_path, settings(name, epsilon=0.1, steps=3))
  assert accuracy(found) > 0.9
  assert accuracy(found, 0.1) > accuracy(plain, 0.1) + 0.1


def test_noise() -> None:
  config = settings("noise", sigma=0.3)
  loss = defense.make_loss(config, MODEL, 1)
  assert loss is not None
  x = data.to_input(jnp.asarray(runs.DIGITS.train_images[:8]))
  y = jnp.asarray(runs.DIGITS.train_labels[:8])
  variables = MODEL.init(jax.random.key(0), x)
  forward = defense.Forward(MODEL.apply, variables, jnp.int32(0))
  rng = jax.random.key(1)
  noisy = x + 0.3 * jax.random.normal(rng, x.shape)
  expected = cross_entropy(MODEL.apply(variables, noisy), y)
  np.testing.assert_allclose(loss(forward, x, y, rng), expected, rtol=1e-6)
  fn = logits(variables)
  averaged = [
    filters.deployed(config, fn, jax.random.key(seed))(x) for seed in (2, 3)
  ]
  assert np.any(averaged[0] != averaged[1])


def test_discrete(tmp_path: pathlib.Path) -> None:
  config = settings("discrete")
  found = fit(tmp_path, config)
  deployed = filters.deployed(config, logits(found), jax.random.key(0))
  x = data.to_input(jnp.asarray(runs.DIGITS.train_images))
  y = jnp.asarray(runs.DIGITS.train_labels)
  assert float((deployed(x).argmax(-1) == y).mean()) > 0.9
  np.testing.assert_array_equal(deployed(x[:8]), deployed(jnp.round(x[:8])))
  adaptive = filters.attacked(config, logits(found), jax.random.key(0))
  slopes = [
    jax.grad(lambda x, fn=fn: fn(x).sum())(x[:8]) for fn in (deployed, adaptive)
  ]
  np.testing.assert_array_equal(adaptive(x[:8]), deployed(x[:8]))
  assert not np.any(slopes[0])
  assert np.any(slopes[1])


@pytest.mark.slow
def test_distilled_saturates_softmax(
  plain: Any, tmp_path: pathlib.Path
) -> None:
  found = fit(tmp_path, settings("distilled", temperature=10.0, epochs=80.0))
  assert accuracy(found) > 0.8
  x = data.to_input(jnp.asarray(runs.DIGITS.train_images))
  largest = [float(jnp.abs(logits(v)(x)).max()) for v in (plain, found)]
  assert largest[1] > 3 * largest[0]
  assert (tmp_path / "teacher" / "checkpoints").is_dir()


def test_saturated_units(plain: Any, tmp_path: pathlib.Path) -> None:
  model = runs.create("mlp", hidden=(32,), activation="sigmoid")
  means = []
  for name in ("", "saturated"):
    folder = tmp_path / (name or "plain")
    found = fit(folder, settings(name, weight=20.0), model)
    assert accuracy(found, model=model) > 0.8
    x = data.to_input(jnp.asarray(runs.DIGITS.train_images))
    _, kept = model.apply(found, x, capture_intermediates=True)
    units = jax.nn.sigmoid(kept["intermediates"]["dense_0"]["__call__"][0])
    means.append(float((units * (1 - units)).mean()))
  assert means[1] < means[0] / 2


def test_hidden_layers_are_keyed() -> None:
  """HPNN's signs act before the captured output."""
  scheme = keyjax.hpnn(MODEL.apply)
  x = jnp.ones((2, 8, 8, 1)) / 2
  variables = MODEL.init(jax.random.key(0), x)
  batch = {"image": x, "label": jnp.zeros(2, jnp.int32)}
  key = scheme.keygen(keyjax.Secret.generate(), variables, batch)

  def hidden(apply_fn: Any) -> np.ndarray:
    forward = defense.Forward(apply_fn, variables, jnp.int32(0))
    captured = forward.hidden(x)[1]
    assert [h.shape for h in captured] == [(2, 32)]
    return np.asarray(captured[0])

  plain, keyed = hidden(MODEL.apply), hidden(scheme.bind(key, MODEL.apply))
  np.testing.assert_allclose(np.abs(keyed), np.abs(plain), rtol=1e-6)
  assert np.any(keyed != plain)


def test_under_a_key(tmp_path: pathlib.Path) -> None:
  """Attacks of the training go through the keyed forward pass."""
  scheme = keyjax.pixel_shuffle("shf", 4)
  x = data.to_input(jnp.asarray(runs.DIGITS.train_images))
  y = jnp.asarray(runs.DIGITS.train_labels)
  batch = {"image": x, "label": y}
  key = scheme.keygen(keyjax.Secret.generate(), {}, batch)
  config = settings("pgd", epsilon=0.1, steps=3)
  found = fit(tmp_path, config, scheme=scheme, key=key)
  right = scheme.bind(key, MODEL.apply)
  hits = [
    float((fn(found, x).argmax(-1) == y).mean()) for fn in (right, MODEL.apply)
  ]
  assert hits[0] > 0.9 > hits[1]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"name": "fgms"}, "fgms.*choose from fgsm, pgd"),
    ({"name": "pgd", "epsilon": 0.0}, r"epsilon=0.0: must be more than 0"),
    ({"name": "pgd", "norm": "l0"}, "norm='l0'"),
    ({"name": "distilled", "temperature": -1.0}, "temperature"),
  ],
)
def test_refused(fields: dict[str, Any], message: str) -> None:
  config = runs.settings()
  config.defense.update(fields)
  with pytest.raises(ValueError, match=message):
    defense.make_loss(config, MODEL, 1)


def test_refuses_mixed_labels_and_models_without_activation() -> None:
  config = runs.settings(mixup=0.2)
  config.defense.name = "pgd"
  with pytest.raises(ValueError, match=r"train\.mixup does not go with"):
    defense.check(config, MODEL)
  config = runs.settings()
  config.defense.name = "saturated"
  resnet = runs.create("resnet18", width=4)
  with pytest.raises(ValueError, match="needs a model whose layers"):
    defense.check(config, resnet)


def test_without_a_defense() -> None:
  assert defense.make_loss(runs.settings(), MODEL, 1) is None
  assert "defense" not in meaning(base())["train"]
