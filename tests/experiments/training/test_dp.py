"""The private trainer: one noise, one gradient an example, exact resumption."""

import dataclasses
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.protection import lock
from experiments.run.config import base, meaning
from experiments.training import dp, train
from keyjax import Secret, parallel
from keyjax.defenses import private
from tests import trees
from tests.experiments.training.runs import DIGITS, create, settings

pytest.importorskip("jax_privacy", reason="needs pip install 'keyjax[privacy]'")
SLOW = pytest.mark.slow
SECRET = Secret(bytes(range(32)))
MODEL = create()
SILENT = 1e-6  # Noise that was left out, but for rounding.


@pytest.fixture(autouse=True)
def as_users_run_it() -> Any:
  with jax.numpy_dtype_promotion("standard"):
    yield


def private_settings(noise: float = 1.0, **fields: Any) -> ConfigDict:
  fields = {"batch_size": 32, "epochs": 1.0, "optimizer": "sgd"} | fields
  config = settings(**fields)
  config.dp.update(on=True, noise_multiplier=noise, delta=1e-3, noise="jax")
  return config


def fit(folder: pathlib.Path, config: ConfigDict, **given: Any) -> Any:
  scheme, key = given.pop("keyed", (keyjax.identity(), ()))
  given = {"model": MODEL, "secret": SECRET, "dataset": DIGITS} | given
  return train.train(config, scheme=scheme, key=key, folder=folder, **given)


def one_step(
  config: ConfigDict,
  noise: float,
  devices: int = 0,
  secret: Secret = SECRET,
) -> Any:
  """Return the params after a step, on some devices, or without any axis."""
  optimizer = train.make_optimizer(config, 4)
  state = train.init_state(MODEL, optimizer, DIGITS, 0)
  step = dp.make_step(config, MODEL, keyjax.identity(), optimizer, noise)
  batch = dp.batches(config, DIGITS, secret)[0]
  key = dp.keyed((), config, secret)
  if not devices:
    return jax.jit(step)(state, key, batch)[0].variables["params"]
  some = jax.devices()[:devices]
  run = parallel.data_parallel(step, config.parallel, some)
  state = parallel.place(state, config.parallel, some)
  return jax.device_get(run(state, key, batch)[0].variables["params"])


@pytest.mark.parametrize(
  "how",
  ["pmap", *(pytest.param(x, marks=SLOW) for x in ("shard_map", "fsdp"))],
)
def test_noise_is_added_once_whatever_the_devices(how: str) -> None:
  config = private_settings(parallel=how, learning_rate=1.0)
  config.schedule = "constant"
  alone = one_step(config, 3.0)
  spread = one_step(config, 3.0, 8)
  for x, y in zip(*map(jax.tree.leaves, (alone, spread)), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)
  quiet = one_step(config, SILENT, 8)
  change = jax.tree.map(lambda x, y: np.ravel(x - y), spread, quiet)
  noise = np.concatenate(jax.tree.leaves(change))
  # One draw of 3 clipping norms over a mean batch of 32; eight draws: 2.8 x.
  assert abs(noise.std() / (3.0 / 32) - 1) < 0.1


@SLOW
def test_parts_of_a_batch_give_the_same_step() -> None:
  ends = [one_step(private_settings(accumulate=parts), 1.0) for parts in (1, 2)]
  for x, y in zip(*map(jax.tree.leaves, ends), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_no_example_moves_a_step_by_more_than_its_bound() -> None:
  config = private_settings(learning_rate=1.0)
  config.schedule = "constant"
  config.dp.clip = 0.5
  optimizer = train.make_optimizer(config, 4)
  state = train.init_state(MODEL, optimizer, DIGITS, 0)
  step = jax.jit(
    dp.make_step(config, MODEL, keyjax.identity(), optimizer, SILENT)
  )
  key = dp.keyed((), config, SECRET)
  batch = dp.batches(config, DIGITS, SECRET)[0]
  batch["image"][0] = 255  # Of a large gradient.
  ends = []
  for member in (True, False):
    real = batch["real"].copy()
    real[0] = member
    found = step(state, key, batch | {"real": real})[0]
    ends.append(found.variables["params"])
  change = jax.tree.map(lambda x, y: x - y, *ends)
  size = np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(change)))
  assert 0 < size <= 0.5 / 32 + 1e-6


def test_the_audit_of_the_step_catches_a_noise_that_was_left_out() -> None:
  """Many noises of one step with a canary, and as many without."""
  config = private_settings(learning_rate=1.0, batch_size=4)
  config.schedule = "constant"
  few = dataclasses.replace(
    DIGITS,
    train_images=DIGITS.train_images[:4],
    train_labels=DIGITS.train_labels[:4],
  )
  optimizer = train.make_optimizer(config, 1)
  state = train.init_state(MODEL, optimizer, few, 0)
  everyone = {
    "image": few.train_images,
    "label": few.train_labels,
    "real": np.ones(4, bool),
  }
  without = everyone | {"real": np.arange(4) > 0}

  def outcomes(noise: float) -> Any:
    step = dp.make_step(config, MODEL, keyjax.identity(), optimizer, noise)

    def end(words: Any, batch: Any) -> Any:
      params = step(state, ((), words), batch)[0].variables["params"]
      return jnp.concatenate([x.ravel() for x in jax.tree.leaves(params)])

    rng = private.noise_rng(SECRET, "jax")
    words = jax.random.key_data(jax.random.split(rng, (2, 600)))
    run = jax.jit(jax.vmap(end, in_axes=(0, None)))
    return [run(w, b) for w, b in zip(words, (everyone, without), strict=True)]

  exact = [x[0] for x in outcomes(SILENT)]
  direction = exact[0] - exact[1]  # What the canary adds.

  def bound(noise: float) -> float:
    scores = [np.asarray(x @ direction) for x in outcomes(noise)]
    return private.lower_bound(*scores, 1e-5)

  claim = private.epsilon(private.Training(4, 4, 1, delta=1e-5), 2.0)
  assert 0 < bound(2.0) < claim
  assert bound(SILENT) > claim


def test_a_run_resumes_with_the_noise_it_would_have_had(
  tmp_path: pathlib.Path,
) -> None:
  config = private_settings()
  whole = fit(tmp_path / "run", config)
  again = tmp_path / "again" / "checkpoints"
  shutil.copytree(tmp_path / "run" / "checkpoints", again)
  shutil.rmtree(again / "4")
  resumed = fit(tmp_path / "again", config)
  trees.assert_same_bits(whole, resumed)
  other = fit(tmp_path / "other", config, secret=Secret(bytes(32)))
  with pytest.raises(AssertionError):
    trees.assert_same_bits(whole, other)


@SLOW
@pytest.mark.parametrize(
  "name, args, margin",
  [
    ("hpnn", {"units": 12}, 0.1),
    ("shf", {"block_size": 4}, 0.1),
    ("np", {"block_size": 4}, 0.1),
    # Much of a digit is left without the key.
    ("ffx", {"block_size": 4}, 0.0),
  ],
)
def test_it_trains_under_a_key(
  name: str, args: dict[str, Any], margin: float, tmp_path: pathlib.Path
) -> None:
  config = private_settings(0.5, learning_rate=0.2, batch_size=64)
  config.epochs = 50.0
  config.dp.noise = "aes"
  made = lock.build(name, args, MODEL)
  first = {"image": jnp.asarray(DIGITS.train_images[:1] / np.float32(255))}
  variables = MODEL.init(jax.random.key(0), first["image"])
  key = made.scheme.keygen(SECRET, variables, first)
  found = fit(tmp_path, config, keyed=(made.scheme, key))
  images = data.to_input(jnp.asarray(DIGITS.train_images))

  def accuracy(apply_fn: Any) -> float:
    hits = apply_fn(found, images).argmax(-1) == DIGITS.train_labels
    return float(hits.mean())

  right = accuracy(made.scheme.bind(key, MODEL.apply))
  assert right > 0.5 and right > accuracy(MODEL.apply) + margin


def test_a_batch_has_one_shape_and_no_private_filling() -> None:
  config = private_settings(accumulate=3)
  found = [dp.batches(config, DIGITS, SECRET)[i] for i in range(6)]
  assert {x["real"].shape for x in found} == {(48,)}  # 1.5 x 32, 8 x 3 parts.
  counts = {int(x["real"].sum()) for x in found}
  assert len(counts) > 2
  for batch in found:
    assert not batch["image"][~batch["real"]].any()
    assert not batch["label"][~batch["real"]].any()


@SLOW
def test_a_target_becomes_noise() -> None:
  config = private_settings(0.0)
  config.dp.epsilon = 3.0
  found = dp.guarantee(config, DIGITS)
  assert 2.9 < found.epsilon <= 3.0 and found.training.steps == 4
  assert found.training.truncated_at == 48
  config.dp.truncate = 128
  assert dp.guarantee(config, DIGITS).training.truncated_at is None


def test_no_secret_no_training(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match="the secret of its noise is missing"):
    fit(tmp_path, private_settings(), secret=None)


def test_it_is_off_and_absent_by_default() -> None:
  config = base()
  assert "dp" not in meaning(config)["train"]
  config.train.dp.on = True
  assert meaning(config)["train"]["dp"]["clip"] == 1.0


@SLOW
def test_the_audit_of_whole_trainings(capsys: pytest.CaptureFixture) -> None:
  """Of twenty Poisson batches, by the loss of a canary at the end."""
  trials, steps = 1500, 20
  canary = np.full_like(DIGITS.train_images[0], 255)
  images = DIGITS.train_images.copy()
  images[0] = canary
  dataset = dataclasses.replace(DIGITS, train_images=images)
  config = private_settings(learning_rate=0.5, epochs=steps / 4)
  config.schedule = "constant"
  optimizer = train.make_optimizer(config, steps)
  state = train.init_state(MODEL, optimizer, dataset, 0)
  label = jnp.asarray(DIGITS.train_labels[:1])
  words = jax.random.key_data(
    jax.random.split(private.noise_rng(SECRET, "jax"), 2 * trials)
  )

  def drawn(first: int) -> Any:
    every = [
      dp.batches(config, dataset, SECRET.child(str(first + i)))
      for i in range(trials)
    ]
    rows = [x[i] for x in every for i in range(steps)]
    return {
      k: np.stack([x[k] for x in rows]).reshape(
        trials, steps, *rows[0][k].shape
      )
      for k in rows[0]
    }

  inside, outside = drawn(0), drawn(trials)
  is_canary = (outside["image"] == canary).all((3, 4, 5))
  outside["real"] &= ~is_canary  # The neighbour: the same draws without it.

  def scores(noise: float) -> list[np.ndarray]:
    step = dp.make_step(config, MODEL, keyjax.identity(), optimizer, noise)

    def one(words: Any, batches: Any) -> jax.Array:
      def body(state: Any, batch: Any) -> Any:
        return step(state, ((), words), batch)[0], ()

      end, _ = jax.lax.scan(body, jax.tree.map(jnp.asarray, state), batches)
      x = data.to_input(jnp.asarray(canary[None]))
      return jax.nn.log_softmax(MODEL.apply(end.variables, x))[0, label[0]]

    run = jax.jit(lambda w, b: jax.lax.map(lambda x: one(*x), (w, b)))
    return [
      np.asarray(run(words[:trials], inside)),
      np.asarray(run(words[trials:], outside)),
    ]

  training = dp.guarantee(config, dataset).training
  assert training.steps == steps
  forgotten = private.lower_bound(*scores(SILENT), training.delta)
  for claim in (1.0, 2.0, 4.0):
    noise = private.noise_multiplier(training, claim)
    found = private.lower_bound(*scores(noise), training.delta)
    with capsys.disabled():
      print(f"\nepsilon {claim:g}: at least {found:.2f}; noiseless ", end="")
      print(f"{forgotten:.2f}, at delta {training.delta:g}")
    assert found < claim < forgotten
