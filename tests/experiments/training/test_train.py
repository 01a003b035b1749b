"""The trainer: any devices, exact resumption, nothing saved of a bad run."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.data.sets import cifar10
from experiments.protection import lock
from experiments.training import train
from keyjax import Secret, checkpoint, parallel
from tests import trees
from tests.experiments.training.runs import DIGITS, create, fit, settings


@pytest.fixture(autouse=True, scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
  """Share the compiled step between a run and the runs that resume it."""
  names = {
    "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
  }
  before = {name: getattr(jax.config, name) for name in names}
  for name, value in names.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def as_users_run_it() -> Iterator[None]:
  """Allow the standard promotion, which Optax needs."""
  with jax.numpy_dtype_promotion("standard"):
    yield


class Run(NamedTuple):
  folder: pathlib.Path
  variables: Any


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
  """Six steps under the defaults; copy the folder to change it."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  with jax.numpy_dtype_promotion("standard"):
    return Run(folder, fit(folder, settings(), create()))


def lines(folder: pathlib.Path) -> list[dict[str, float]]:
  """Return the metrics, except those that depend on the clock."""
  text = (folder / "metrics.jsonl").read_text()
  found = [json.loads(line) for line in text.splitlines()]
  for line in found:
    assert line.pop("images_per_second") > 0
    assert line.pop("step_seconds") > 0
    line.pop("seconds_left")
  return found


# ------------------------------------------------------------------ devices


def curve(count: int, how: str = "pmap") -> tuple[list[float], Any]:
  """Run six steps with the trainer's own parts, on `count` devices."""
  config, model = settings(), create()
  optimizer = train.make_optimizer(config, 6)
  step = train.make_step(config, model, keyjax.identity(), optimizer)
  run = parallel.data_parallel(step, how, jax.devices()[:count])
  state = train.init_state(model, optimizer, DIGITS, config.seed)
  source, losses = data.batches(DIGITS, 64, config.seed), []
  for i in range(6):
    state, metrics = run(state, (), source[i])
    losses.append(float(metrics["loss"]))
  return losses, jax.device_get(state.variables)


def test_any_number_of_devices_gives_the_same_run(whole: Run) -> None:
  losses, one = curve(1)
  variables = whole.variables
  logged = [line["loss"] for line in lines(whole.folder)]
  np.testing.assert_allclose(logged, losses, rtol=1e-5)
  for x, y in zip(
    jax.tree.leaves(variables), jax.tree.leaves(one), strict=True
  ):
    np.testing.assert_allclose(x, y, atol=1e-5)
  assert losses[-1] < 0.99 * losses[0]
  # The trainer uses only these parts, on 8 devices.
  losses, eight = curve(8)
  assert logged == losses
  trees.assert_same_bits(variables, eight)


@pytest.mark.parametrize(
  "pad, flip", [pytest.param(0, False, marks=pytest.mark.slow), (1, True)]
)
def test_shard_map_equals_pmap(
  pad: int, flip: bool, tmp_path: pathlib.Path
) -> None:
  ends = []
  for how in ("pmap", "shard_map"):
    config = settings(parallel=how, pad=pad, flip=flip)
    ends.append(fit(tmp_path / how, config, create()))
  trees.assert_same_bits(*ends)
  assert lines(tmp_path / "pmap") == lines(tmp_path / "shard_map")


def test_fsdp_trains_as_pmap_does(tmp_path: pathlib.Path) -> None:
  ends = []
  for how in ("pmap", "fsdp"):
    config, model = cases()["sharded"]
    config.parallel = how
    ends.append(fit(tmp_path / how, config, model))
  for x, y in zip(*map(jax.tree.leaves, ends), strict=True):
    np.testing.assert_allclose(x, y, atol=1e-4)
  logged = [[x["loss"] for x in lines(tmp_path / h)] for h in ("pmap", "fsdp")]
  np.testing.assert_allclose(*logged, rtol=1e-4)


# --------------------------------------------------------------- resumption


@dataclasses.dataclass
class Breaks:
  """Training batches whose disk fails."""

  source: Any
  last: int

  def __getitem__(self, step: int) -> Any:
    if step == self.last:
      raise OSError("the disk is gone")
    return self.source[step]


class Case(NamedTuple):
  """A training: its config and model."""

  config: ConfigDict
  model: models.Classifier


def cases() -> dict[str, Case]:
  return {
    "recipe": Case(
      settings(
        pad=1,
        flip=True,
        cutout=2,
        mixup=0.3,
        optimizer="adamw",
        weight_decay=0.1,
        clip=1.0,
        ema=0.5,
        label_smoothing=0.1,
        accumulate=2,
        decay_leaves=".*kernel",
      ),
      create(),
    ),
    "hpnn": Case(
      settings(
        parallel="shard_map",
        optimizer="sgd",
        schedule="triangle",
        weight_decay=1e-3,
      ),
      create(),
    ),
    "sharded": Case(
      settings(parallel="fsdp", weight_decay=1e-3),
      create(hidden=(256,)),  # Its first kernel has 16,384 weights.
    ),
    "batch norm": Case(
      settings(batch_size=16, epochs=3 / 8, pad=1),
      create("resnet18", width=2),
    ),
  }


def locked(model: models.Classifier) -> tuple[keyjax.Scheme, Any]:
  """Return HPNN for a model, and a key."""
  scheme = lock.build("hpnn", {"units": 16}, model).scheme
  images = {"image": data.to_float(DIGITS.train_images[:2])}
  variables = jax.eval_shape(model.init, jax.random.key(0), images["image"])
  return scheme, scheme.keygen(Secret.generate(), variables, images)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(x, marks=[] if x in ("hpnn",) else [pytest.mark.slow])
    for x in cases()
  ],
)
def test_resumption_gives_the_same_bits(
  name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  config, model = cases()[name]
  scheme, key = locked(model) if name == "hpnn" else (None, ())
  steps = train.num_steps(config, 128)
  whole = fit(tmp_path / "whole", config, model, scheme, key)
  batches = data.batches

  def breaking(*args: Any, **kwargs: Any) -> Breaks:
    return Breaks(batches(*args, **kwargs), steps - 1)

  with monkeypatch.context() as patch:
    patch.setattr(data, "batches", breaking)
    with pytest.raises(OSError, match="the disk is gone"):
      fit(tmp_path / "parts", config, model, scheme, key)
  assert [x["step"] for x in lines(tmp_path / "parts")] == [*range(1, steps)]
  kept = sorted(p.name for p in (tmp_path / "parts/checkpoints").iterdir())
  assert kept[-1] == str((steps - 1) // 2 * 2)
  resumed = fit(tmp_path / "parts", config, model, scheme, key)
  trees.assert_same_bits(whole, resumed)
  assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
  # A run that is done takes no step.
  again = fit(tmp_path / "parts", config, model, scheme, key)
  trees.assert_same_bits(whole, again)
  assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
  if name == "batch norm":
    mean = whole["batch_stats"]["norm_stem"]["mean"]
    assert np.any(mean != 0), "batch statistics moved"


@pytest.mark.parametrize(
  "how",
  [
    "pmap",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("shard_map", "fsdp")),
  ],
)
def test_prefetched_batches_change_no_bit(
  how: str, tmp_path: pathlib.Path
) -> None:
  ends = []
  for ahead in (0, 2, 9):  # More than there are steps.
    config, model = settings(), create()
    if how == "fsdp":
      config, model = cases()["sharded"]
    config.update(parallel=how, prefetch=ahead)
    ends.append(fit(tmp_path / str(ahead), config, model))
    assert lines(tmp_path / str(ahead)) == lines(tmp_path / "0")
    trees.assert_same_bits(ends[0], ends[-1])


def test_a_run_that_stopped_draws_its_prefetched_batches_again(
  whole: Run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  asked = contextlib.nullcontext(lambda step: step == 3)
  with monkeypatch.context() as patch:
    patch.setattr(train.preemption, "watch", lambda: asked)
    with pytest.raises(train.preemption.Preempted, match="step 3 of 6"):
      fit(tmp_path / "parts", settings(), create())
  drawn: list[int] = []
  batches = data.batches

  @dataclasses.dataclass
  class Counts:
    source: Any

    def __getitem__(self, step: int) -> Any:
      drawn.append(step)
      return self.source[step]

  monkeypatch.setattr(data, "batches", lambda *a: Counts(batches(*a)))
  resumed = fit(tmp_path / "parts", settings(), create())
  assert drawn == [3, 4, 5]
  trees.assert_same_bits(whole.variables, resumed)
  assert lines(whole.folder) == lines(tmp_path / "parts")


def test_the_key_matters_to_training(tmp_path: pathlib.Path) -> None:
  config, model = cases()["hpnn"]
  scheme, key = locked(model)
  plain = fit(tmp_path / "plain", config, model)
  under = fit(tmp_path / "locked", config, model, scheme, key)
  a = plain["params"]["head"]["kernel"]
  b = under["params"]["head"]["kernel"]
  assert not np.allclose(a, b, atol=1e-3)


def test_half_a_line_of_metrics_is_dropped(
  whole: Run, tmp_path: pathlib.Path
) -> None:
  copy = tmp_path / "run"
  shutil.copytree(whole.folder, copy)
  with (copy / "metrics.jsonl").open("a") as file:
    file.write('{"step": 7, "lo')
  fit(copy, settings(), create())
  assert lines(copy) == lines(whole.folder)


# ------------------------------------------------------------------- errors


# The first loss is finite; then decay makes 3e38 overflow.
@pytest.mark.parametrize("every, decay", [(2, 0.0), (100, 0.0), (1, 100.0)])
def test_a_loss_that_is_not_finite_is_an_error_and_not_saved(
  every: int, decay: float, tmp_path: pathlib.Path
) -> None:
  config = settings(
    optimizer="sgd",
    schedule="constant",
    learning_rate=3e38,
    weight_decay=decay,
    checkpoint_every=every,
  )
  with pytest.raises(ValueError, match="loss is not finite.*learning_rate"):
    fit(tmp_path, config, create())
  with checkpoint.Manager(tmp_path / "checkpoints") as manager:
    assert manager.latest_step() is None


def test_a_run_that_breaks_later_keeps_its_last_good_checkpoint(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  batches = data.batches

  def spoilt(*args: Any, **kwargs: Any) -> Any:
    source = batches(*args, **kwargs)
    return {
      i: dict(x, image=np.where(i < 3, x["image"], np.float32("nan")))
      for i, x in ((i, source[i]) for i in range(6))
    }

  monkeypatch.setattr(data, "batches", spoilt)
  with pytest.raises(ValueError, match="not finite"):
    fit(tmp_path, settings(), create())
  with checkpoint.Manager(tmp_path / "checkpoints") as manager:
    assert manager.latest_step() == 2


def test_a_batch_that_the_devices_do_not_divide(
  tmp_path: pathlib.Path,
) -> None:
  with pytest.raises(ValueError, match="batch_size=60 .* 8 devices"):
    fit(tmp_path / "run", settings(batch_size=60), create())
  assert not (tmp_path / "run").exists()


# -------------------------------------------------------------- a large net


@pytest.mark.slow
def test_the_full_resnet18_takes_two_steps() -> None:
  """Width 64, CIFAR stem, 32 x 32 x 3, 11.2 million parameters."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
  labels = np.arange(8, dtype=np.int32)
  cifar = dataclasses.replace(DIGITS, train_images=images, train_labels=labels)
  model = models.create(
    "resnet18", 10, mean=cifar10.MEAN, std=cifar10.STD, width=64
  )
  config = settings(
    optimizer="sgd", schedule="constant", learning_rate=0.01, pad=4, flip=True
  )
  optimizer = train.make_optimizer(config, 2)
  state = train.init_state(model, optimizer, cifar, 0)
  count = sum(x.size for x in jax.tree.leaves(state.variables["params"]))
  assert 11_100_000 < count < 11_300_000
  step = train.make_step(config, model, keyjax.identity(), optimizer)
  run = parallel.data_parallel(step, devices=jax.devices()[:1])
  losses = []
  for _ in range(2):
    state, metrics = run(state, (), {"image": images, "label": labels})
    losses.append(float(metrics["loss"]))
  assert np.isfinite(losses).all()
  assert losses[0] != losses[1]
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.variables))
