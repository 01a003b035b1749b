"""Groups of models that train with noise or with dropout, and their audit."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models as load_models
from experiments.membership import dropout, private
from keyjax.attacks.fit import Recipe, cross_entropy
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows
from keyjax.defenses.private.accountant import in_words
from tests.experiments.privacy_job import run, tiny
from tests.experiments.small_job import SECRET, Rows


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, str]:
  """Models that memorise wrong labels, with noise and with none of it."""
  pytest.importorskip("jax_privacy", reason="keyjax[privacy] is not installed")
  folder = tmp_path_factory.mktemp("private") / "run"
  config = tiny(
    delta=1e-5,
    pool=240,
    noise=0.9,
    targets=1,
    replies=(),
    attacks=("loss",),
    trainings={
      name: {"epsilon": epsilon, "epochs": 60.0, **more}
      for name, epsilon, more in (
        ("one", 1.0, {}),
        ("four", 4.0, {}),
        ("fault", 1.0, {"forget_noise": True}),
      )
    },
  )
  config.model_args.hidden = (64,)
  with config.unlocked():
    del config.schemes.counter, config.schemes.hpnn
  return run(config, folder), (folder / "privacy.html").read_text()


@pytest.mark.slow  # Steps of four trainings are compiled.
def test_an_audit_finds_that_noise_is_forgotten(audited: Any) -> None:
  rows, _ = audited
  found = {r["training"]: r for r in rows if r["metric"] == "epsilon_bound"}
  assert set(found) == {"none", "one", "four", "fault"}
  for name in ("one", "four"):
    row = found[name]
    assert row["value"] <= row["privacy"]["epsilon"] <= row["privacy"]["steps"]
  assert found["fault"]["value"] > found["fault"]["privacy"]["epsilon"]
  assert found["fault"]["forgets_noise"] and "privacy" not in found["none"]
  assert found["one"]["privacy"]["examples"] > 120  # The most of any model.
  assert "train" not in found["one"]["privacy"]


@pytest.mark.slow
def test_an_epsilon_is_shown_with_what_it_assumes(audited: Any) -> None:
  rows, page = audited
  for r in rows:
    if "privacy" in r:
      assert in_words(r["privacy"]) in page
  assert len(re.findall("<svg", page)) == 1 + 3


def test_without_noise_and_with_all_members_a_private_step_is_a_plain_one() -> (
  None
):
  pytest.importorskip("jax_privacy", reason="keyjax[privacy] is not installed")
  rng = np.random.default_rng(0)
  images = rng.normal(size=(16, 4)).astype(np.float32)
  pool = Examples(images, rng.integers(3, size=16).astype(np.int32))
  members = np.arange(16) % 2 == np.arange(2)[:, None]  # bool[2, 16]
  recipe = Recipe("sgd", 0.1, batch_size=8)
  training = private.guarantee(
    members, recipe, 3, epsilon=8.0, delta=1e-5, clip=1e6
  )
  assert (training.training.examples, training.training.batch_size) == (8, 8)
  silent = training._replace(noise_multiplier=0.0)

  def train(found: Any) -> Any:
    how = found and private.procedure(apply, members, recipe, found, SECRET)
    return shadows.train(
      apply, init, pool, members, recipe, steps=3, each=0, procedure=how
    ).params["w"]

  def apply(params: Any, x: Any) -> Any:
    return x @ params["w"]

  def init(rng: Any) -> Any:
    return {"w": jax.random.normal(rng, (4, 3))}

  plain, without, noisy = map(train, (None, silent, training))
  np.testing.assert_allclose(without, plain, 1e-4, 1e-5)
  assert np.abs(noisy - plain).max() > 1
  np.testing.assert_array_equal(noisy, train(training))


def test_dropout_is_what_a_step_of_flax_does() -> None:
  model = load_models.create("mlp", 3, (0.0,), (1.0,), hidden=(8,))
  image = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)
  label = (np.arange(6) % 3).astype(np.int32)
  recipe = Recipe("sgd", 0.1, batch_size=6)
  members = np.ones((1, 6), bool)

  def init(rng: Any) -> Any:
    return model.init(rng, image[:1])

  def train(rate: float) -> Any:
    how = dropout.procedure(model, rate, recipe, 6, seed=3)
    return shadows.train(
      model.apply,
      init,
      Examples(image, label),
      members,
      recipe,
      3,
      steps=1,
      each=0,
      procedure=how,
    ).params

  start = init(jax.random.fold_in(jax.random.key(3), 0))
  rng = jax.random.fold_in(jax.random.key(3), 0)  # Of model 0, and its step 0.
  rngs = {"dropout": jax.random.fold_in(rng, 0)}
  order = np.random.default_rng([3, 0]).permutation(6)

  def loss(params: Any, net: Any) -> Any:
    logits = net.apply(params, image[order], train=True, rngs=rngs)
    return cross_entropy(logits, jnp.asarray(label[order]))

  for rate in (0.0, 0.5):
    grads = jax.grad(loss)(start, model.clone(dropout=rate))
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, start, grads)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a[0], b, 1e-4, 1e-6),
      train(rate),
      moved,
    )
  none = jax.grad(loss)(start, model)
  half = jax.grad(loss)(start, model.clone(dropout=0.5))
  assert not np.allclose(
    none["params"]["head"]["kernel"], half["params"]["head"]["kernel"]
  )
