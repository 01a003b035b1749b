"""The recipe: each option of `config.train` does what its name says."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.run.config import base
from experiments.training import step, train
from experiments.training.optimizer import averaged, make_optimizer
from keyjax import Secret, parallel
from tests import trees

RNG = np.random.default_rng(0)
BATCH = {
  "image": RNG.integers(0, 256, (8, 8, 8, 1), np.uint8),
  "label": RNG.integers(0, 4, 8).astype(np.int32),
}
MODEL = models.create("mlp", 4, (0.5,), (0.25,), hidden=(6,))


@pytest.fixture(autouse=True)
def as_users_run_it() -> Any:
  with jax.numpy_dtype_promotion("standard"):
    yield


def settings(**fields: Any) -> ConfigDict:
  config = base().train
  config.update(optimizer="sgd", schedule="constant", learning_rate=0.1)
  config.update(fields)
  return config


def one_step(
  config: ConfigDict, model: Any = MODEL, scheme: Any = None, key: Any = ()
) -> tuple[Any, dict[str, float]]:
  """Take one step on one device; return the state and the metrics."""
  optimizer = make_optimizer(config, 10)
  x = data.to_input(jnp.asarray(BATCH["image"][:1]))
  variables = trees.variables(model, x)
  opt_state = optimizer.init(variables["params"])
  state = step.State(jnp.int32(0), variables, opt_state)
  made = step.make_step(config, model, scheme or keyjax.identity(), optimizer)
  run = parallel.data_parallel(made, "pmap", jax.devices()[:1])
  state, metrics = run(jax.device_get(state), key, BATCH)
  return jax.device_get(state), {k: float(v) for k, v in metrics.items()}


@functools.cache
def plain_step() -> tuple[Any, dict[str, float]]:
  return one_step(settings())


def assert_close(a: Any, b: Any, atol: float = 1e-6) -> None:
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, atol=atol)


# -------------------------------------------------------------- accumulation


@pytest.mark.parametrize("parts", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_accumulated_gradients_are_those_of_the_batch(parts: int) -> None:
  whole, metrics = plain_step()
  cut, cut_metrics = one_step(settings(accumulate=parts))
  assert_close(whole.variables, cut.variables)
  assert metrics == pytest.approx(cut_metrics, rel=1e-5)


class Normed(nn.Module):
  """One convolution with batch statistics."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Conv(2, (3, 3), name="conv")(x)
    x = nn.relu(nn.BatchNorm(not train, name="norm")(x))
    return nn.Dense(4, name="head")(x.mean((1, 2)))


def test_accumulation_under_a_key_and_with_batch_statistics() -> None:
  """The lock acts inside the loop; statistics pass from part to part."""
  model = Normed()
  x = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
  variables = jax.eval_shape(model.init, jax.random.key(0), x)
  scheme = keyjax.hpnn(model.apply)
  key = scheme.keygen(Secret.generate(), variables, {"image": x})
  config = settings(accumulate=2)
  made = step.make_step(config, model, scheme, make_optimizer(config, 10))
  state = step.State(
    jax.ShapeDtypeStruct((), jnp.int32),
    variables,
    jax.eval_shape(make_optimizer(config, 10).init, variables["params"]),
  )
  batch = {
    "image": jax.ShapeDtypeStruct((1, 4, 32, 32, 1), jnp.uint8),
    "label": jax.ShapeDtypeStruct((1, 4), jnp.int32),
  }
  mapped = jax.vmap(made, (None, None, 0), axis_name=parallel.AXIS)
  out, _ = jax.eval_shape(mapped, state, key, batch)
  assert jax.tree.structure(out) == jax.tree.structure(state)
  assert "norm" in out.variables["batch_stats"]


def test_parts_that_do_not_divide_are_an_error() -> None:
  with pytest.raises(ValueError, match="64 .* 8 devices x 3 parts"):
    train.check_devices(settings(batch_size=64, accumulate=3))


# ----------------------------------------------------- images and their labels


def test_cutout_blackens_one_square() -> None:
  images = jnp.ones((64, 9, 12, 2))
  cut = np.asarray(data.cutout(jax.random.key(0), images, 4))
  areas = []
  for image in cut:
    hole = image[..., 0] == 0
    assert (image[..., 0] == image[..., 1]).all()
    rows, columns = hole.any(1), hole.any(0)
    assert (hole == rows[:, None] & columns[None, :]).all()
    assert 1 <= rows.sum() <= 4 and 1 <= columns.sum() <= 4
    areas.append(int(hole.sum()))
  assert max(areas) == 16 and len(set(areas)) > 3, (
    "some extend beyond the border"
  )


def test_mixup_mixes_neighbouring_images() -> None:
  image, label = (
    jnp.asarray(BATCH["image"] / 255.0),
    jnp.asarray(BATCH["label"]),
  )
  mixed = data.mixup(jax.random.key(1), {"image": image, "label": label}, 0.4)
  share = np.asarray(mixed["share"])
  assert ((share >= 0) & (share <= 1)).all() and np.ptp(share) > 0.1
  for i in range(8):
    want = share[i] * image[i] + (1 - share[i]) * image[i - 1]
    np.testing.assert_allclose(mixed["image"][i], want, atol=1e-6)
    assert mixed["other_label"][i] == label[i - 1]


def test_the_loss_of_mixed_and_smoothed_labels() -> None:
  logits = jnp.asarray(RNG.normal(size=(8, 4)).astype(np.float32))
  label = BATCH["label"]
  other = np.roll(label, 1)
  share = RNG.random(8).astype(np.float32)
  logp = np.asarray(jax.nn.log_softmax(logits))
  rows = np.arange(8)
  plain = step.mean_loss(logits, {"label": label}, 0.0)
  assert float(plain) == pytest.approx(-logp[rows, label].mean(), rel=1e-5)
  smooth = step.mean_loss(logits, {"label": label}, 0.2)
  want = -(0.8 * logp[rows, label] + 0.2 * logp.mean(1)).mean()
  assert float(smooth) == pytest.approx(want, rel=1e-5)
  batch = {"label": label, "other_label": other, "share": share}
  mixed = step.mean_loss(logits, batch, 0.0)
  want = -(share * logp[rows, label] + (1 - share) * logp[rows, other]).mean()
  assert float(mixed) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("field", ["pad", "cutout", "mixup"])
def test_each_augmentation_changes_the_images(field: str) -> None:
  plain = step.augmented(settings(), jax.random.key(0), BATCH)["image"]
  np.testing.assert_array_equal(plain, data.to_float(BATCH["image"]))
  config = settings(**{field: 2})
  changed = step.augmented(config, jax.random.key(0), BATCH)["image"]
  again = step.augmented(config, jax.random.key(0), BATCH)["image"]
  assert not np.array_equal(plain, changed)
  np.testing.assert_array_equal(changed, again)


def uniform_shares(rng: Any, a: Any, b: Any, shape: Any) -> jax.Array:
  """Stand in for `jax.random.beta`, which takes seconds to compile."""
  return jax.random.uniform(rng, shape)


def test_smoothing_and_mixing_reach_the_step(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setattr(jax.random, "beta", uniform_shares)
  _, metrics = plain_step()
  _, smooth = one_step(settings(label_smoothing=0.3))
  _, mixed = one_step(settings(mixup=0.5))
  losses = {x["loss"] for x in (metrics, smooth, mixed)}
  assert len(losses) == 3 and np.isfinite([*losses]).all()
  assert metrics["accuracy"] == smooth["accuracy"]


# --------------------------------------------------------------- the optimiser


def update(config: ConfigDict, grads: Any, params: Any) -> Any:
  rule = make_optimizer(config, 10)
  return rule.update(grads, rule.init(params), params)[0]


PARAMS = {"a": {"kernel": jnp.array([3.0, 4.0]), "bias": jnp.array([2.0])}}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_decay_shrinks_the_leaves_that_match(optimizer: str) -> None:
  config = settings(
    optimizer=optimizer, weight_decay=0.5, decay_leaves=".*kernel"
  )
  moved = update(config, ZEROS, PARAMS)["a"]
  np.testing.assert_allclose(moved["kernel"], [-0.15, -0.2], rtol=1e-6)
  assert moved["bias"] == 0
  config.decay_leaves = ".*"
  assert float(update(config, ZEROS, PARAMS)["a"]["bias"][0]) < -0.09
  config.decay_leaves = "kernel"
  with pytest.raises(ValueError, match="'kernel' matches no leaf.*a/bias"):
    update(config, ZEROS, PARAMS)


def test_gradients_are_clipped_to_a_norm() -> None:
  grads = {"a": {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}}
  moved = update(settings(clip=1.0), grads, PARAMS)
  assert float(optax.tree.norm(moved)) == pytest.approx(0.1)
  loose = update(settings(clip=10.0), grads, PARAMS)
  assert float(optax.tree.norm(loose)) == pytest.approx(0.5)


def test_averaged_params() -> None:
  """By hand: the decay is min(0.2, (1 + n) / (10 + n)): 0.1, 2/11, 0.2."""
  rule = make_optimizer(settings(ema=0.2), 10)
  params = {"w": jnp.float32(1.0)}
  state, average = rule.init(params), 1.0
  for keep in (0.1, 2 / 11, 0.2, 0.2):
    updates, state = rule.update({"w": jnp.float32(1.0)}, state, params)
    params = optax.apply_updates(params, updates)
    average = keep * average + (1 - keep) * float(params["w"])
    assert float(averaged(state, params)["w"]) == pytest.approx(average)
  assert average != pytest.approx(float(params["w"]))
  plain = make_optimizer(settings(), 10).init(params)
  assert averaged(plain, params) is params


# -------------------------------------------------------------------- numbers


def test_bfloat16_computes_and_float32_is_updated() -> None:
  config = base()
  config.model = "mlp"
  config.model_args.hidden = (6,)
  digits = data.load("digits", num_train=8, num_test=4)
  out = {}
  for dtype in ("float32", "bfloat16"):
    config.train.dtype = dtype
    model = models.from_config(config, digits)
    state, metrics = one_step(settings(), model)
    assert all(x.dtype != "bfloat16" for x in jax.tree.leaves(state))
    out[dtype] = metrics["loss"]
    text = str(
      jax.make_jaxpr(model.apply)(
        state.variables, jnp.zeros((1, 8, 8, 1), jnp.float32)
      )
    )
    assert ("bf16" in text) == (dtype == "bfloat16")
  assert out["bfloat16"] != out["float32"]
  assert out["bfloat16"] == pytest.approx(out["float32"], rel=0.05)


def test_remat_is_for_models_of_blocks() -> None:
  config, digits = base(), data.load("digits", num_train=8, num_test=4)
  config.train.remat = True
  with pytest.raises(ValueError, match="option remat of model cnn"):
    models.from_config(config, digits)
  config.model = "vit_micro"
  assert models.from_config(config, digits).remat


def test_dropout_draws_again_in_each_step_and_not_in_answers() -> None:
  x = data.to_input(jnp.asarray(BATCH["image"]))
  variables = trees.variables(MODEL, x)
  half = MODEL.clone(dropout=0.5)

  def logits(model: nn.Module, number: int, *, trains: bool = True) -> Any:
    rng = step.rng_of_step(0, jnp.int32(number))
    apply_fn = step.with_dropout(model.apply, model, rng)
    return np.asarray(apply_fn(variables, x, train=trains))

  plain = logits(MODEL, 0)
  assert np.array_equal(logits(half, 0, trains=False), plain)
  first, again, other = (logits(half, i) for i in (0, 0, 1))
  assert np.array_equal(first, again)
  assert not np.array_equal(first, other)
  assert not np.array_equal(first, plain)
  found, _ = one_step(settings(), half)
  assert not np.array_equal(
    found.variables["params"]["head"]["kernel"],
    plain_step()[0].variables["params"]["head"]["kernel"],
  )


def test_a_share_of_dropout_is_below_one() -> None:
  for share in (1.0, -0.1):
    with pytest.raises(ValueError, match=f"dropout={share}: from 0 to less"):
      one_step(settings(), MODEL.clone(dropout=share))
