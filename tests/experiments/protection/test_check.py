"""Mistakes in a config are found before anything is trained or claimed."""

import pathlib
from typing import Any

import pytest

from experiments import data, main, models
from experiments.protection import check, lock
from experiments.run.config import base, scheme, set_schemes

DIGITS = data.load("digits")


def run(change: Any = None, **schemes: Any) -> None:
  config = base()
  config.model_args.features = (2,)
  set_schemes(config, **schemes)
  if change:
    change(config)
  model = models.create(
    "cnn", 10, DIGITS.mean, DIGITS.std, **dict(config.model_args)
  )
  locks = lock.build_all(config.schemes, model)
  check.check_config(config, DIGITS, model, locks)


def test_a_right_config_passes() -> None:
  run(
    a=scheme("deep_lock", int8=True),
    b=scheme("adv_params"),
    c=scheme("ffx", block_size=2),
    d=scheme("chain", parts=(("hpnn", {}), ("deep_lock", {}))),
  )


@pytest.mark.parametrize(
  ("name", "args", "message"),
  [
    ("shf", {"block_size": 3}, "block_size=3 does not divide images of 8 x 8"),
    ("hpnn", {"layers": "cov.*"}, "no layer matches 'cov.*'"),
    (
      "adv_params",
      {"layers": "kernel"},
      "no leaf of floats matches layers='kernel'",
    ),
    ("deep_lock", {"bits": 1}, "unknown argument bits"),
    ("aes", {}, "unknown scheme 'aes'"),
    (
      "chain",
      {"parts": (("deep_lock", {}), ("np", {"block_size": 5}))},
      "block_size=5",
    ),
  ],
)
def test_schemes_that_do_not_fit(
  name: str, args: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    run(x=scheme(name, **args))


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("evaluate.wrong_keys", 0, "evaluate.wrong_keys=0: must be at least 1"),
    ("evaluate.distance_keys", -1, "evaluate.distance_keys=-1"),
    ("train.checkpoint_every", 0, "train.checkpoint_every=0"),
    ("train.batch_size", 60, "batch_size=60 does not divide over 8 devices"),
    ("train.optimizer", "sdg", "unknown optimizer 'sdg'"),
    ("train.accumulate", 0, "train.accumulate=0: must be at least 1"),
    ("train.prefetch", -1, "train.prefetch=-1: must be 0 or more"),
    ("train.epochs", -1.0, "train.epochs=-1.0: must be more than 0"),
    ("train.epochs", 0.0, "train.epochs=0.0: must be more than 0"),
    ("train.epochs", float("nan"), "train.epochs=nan: must be more than 0"),
    ("train.batch_size", -128, "train.batch_size=-128: must be at least 1"),
    ("train.keep", 0, "train.keep=0: must be at least 1"),
    ("train.log_every", 0, "train.log_every=0: must be at least 1"),
    (
      "train.learning_rate",
      -0.1,
      "train.learning_rate=-0.1: must be 0 or more",
    ),
    (
      "train.learning_rate",
      float("inf"),
      "learning_rate=inf: must be 0 or more",
    ),
    ("train.clip", -1.0, "train.clip=-1.0: must be 0 or more"),
    ("train.pad", -1, "train.pad=-1: must be 0 or more"),
    (
      "evaluate.wrong_images",
      -5,
      "evaluate.wrong_images=-5: must be 0 or more",
    ),
    ("train.accumulate", 3, "8 devices x 3 parts"),
    (
      "train.label_smoothing",
      1.0,
      "label_smoothing=1.0: must be from 0 to below 1",
    ),
    ("train.ema", -0.1, "train.ema=-0.1: must be from 0"),
    ("train.profile", (5, 2), r"train.profile=\(5, 2\): must be"),
  ],
)
def test_numbers_and_names(field: str, value: Any, message: str) -> None:
  def change(config: Any) -> None:
    section, name = field.split(".")
    config[section][name] = value

  with pytest.raises(ValueError, match=message):
    run(change)


def test_a_decay_that_matches_nothing() -> None:
  def change(config: Any) -> None:
    config.train.weight_decay = 0.1
    config.train.decay_leaves = "kernel"

  with pytest.raises(ValueError, match="decay_leaves='kernel' matches no leaf"):
    run(change)


def test_a_mistake_claims_no_folder(tmp_path: pathlib.Path) -> None:
  config = base()
  set_schemes(config, x=scheme("shf", block_size=3))
  with pytest.raises(ValueError, match="does not divide"):
    main.run(config, str(tmp_path / "run"))
  assert list(tmp_path.iterdir()) == []


def turn_on(field: str = "", value: Any = None, **others: Any) -> Any:
  def change(config: Any) -> None:
    config.train.dp.update(on=True, noise_multiplier=1.0)
    config.update_from_flattened_dict({field: value} | others)

  return change


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("train.dp.noise_multiplier", 0.0, "give one of the two"),
    ("train.dp.epsilon", 2.0, "give one of the two"),
    ("train.dp.noise_multiplier", -1.0, "noise_multiplier=-1.0: must be more"),
    ("train.dp.noise_multiplier", float("nan"), "noise_multiplier=nan"),
    ("train.dp.delta", 0.0, "delta=0.0: must be between 0 and 1"),
    ("train.dp.delta", 1.0, "delta=1.0"),
    ("train.dp.clip", 0.0, "clip=0.0: must be more than 0"),
    ("train.dp.clip", float("inf"), "clip=inf"),
    ("train.dp.noise", "numpy", "'numpy': choose from aes, jax"),
    ("train.dp.truncate", 100, "truncate=100: must be 0, or at least"),
    ("train.mixup", 0.2, "mixup mixes examples"),
    ("train.defense.name", "pgd", "train.defense does not go with train.dp"),
  ],
)
def test_private_training_that_does_not_fit(
  field: str, value: Any, message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    run(turn_on(field, value))


def test_a_private_training_with_a_target() -> None:
  run(
    turn_on("train.dp.epsilon", 2.0, **{"train.dp.noise_multiplier": 0.0}),
    a=scheme("hpnn"),
    b=scheme("deep_lock"),
  )


def test_keys_that_are_found_with_examples_are_not_private() -> None:
  with pytest.raises(ValueError, match="schemes.x: its key is found with"):
    run(turn_on("train.dp.clip", 1.0), x=scheme("adv_params"))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model": "resnet18"}, "batch_stats mix the examples of a batch"),
    (
      {"dataset": "fake", "fake.shape": (8,)},
      "one example, and those of a tex",
    ),
  ],
)
def test_models_and_data_that_are_not_private(
  change: dict[str, Any], message: str
) -> None:
  config = base()
  config.train.dp.update(on=True, epsilon=2.0)
  config.update_from_flattened_dict(change)
  if "dataset" in change:
    config.model = "gpt_micro"
  dataset = data.from_config(config)
  model = models.from_config(config, dataset)
  with pytest.raises(ValueError, match=message):
    check.check_config(config, dataset, model, {})


def test_no_statistics_of_examples_are_in_a_private_model() -> None:
  config = base()
  config.train.dp.on = True
  assert models.from_config(config, DIGITS).mean == (0.5,)
