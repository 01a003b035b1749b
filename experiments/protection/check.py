"""Checks of a config, before anything is trained or a folder is claimed."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.protection.lock import CHAIN, Lock, build
from experiments.training import defense, dp, lora, train
from keyjax.schemes import registry as schemes

_CLASSES = "classes"
_AT_LEAST_ONE = (
  "train.batch_size",
  "train.accumulate",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "evaluate.batch_size",
  "evaluate.wrong_keys",
)
_AT_LEAST_ZERO = (
  "num_train",
  "num_test",
  "train.learning_rate",
  "train.warmup",
  "train.weight_decay",
  "train.clip",
  "train.pad",
  "train.cutout",
  "train.mixup",
  "train.threads",
  "train.prefetch",
  "evaluate.wrong_images",
  "evaluate.distance_keys",
)


def check_config(
  config: ConfigDict,
  dataset: data.Dataset,
  model: nn.Module,
  locks: Mapping[str, Lock],
) -> None:
  """Check numbers, optimizer, devices, and that each scheme fits the model.

  Args:
    config: Whole config.
    dataset: Data of the config.
    model: Model of the config; only shapes are computed.
    locks: Protections of the config, by label.

  Raises:
    ValueError: If something does not fit; the message says what.
  """
  _check_numbers(config)
  train.check_devices(config.train)
  batch = {
    "image": data.to_input(jnp.asarray(dataset.train_images[:1])),
    "label": jnp.asarray(dataset.train_labels[:1]),
  }
  variables = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
  if config.train.epochs:
    _check_recipe(config.train, dataset, variables)
  if config.train.lora.rank:
    _check_adapters(config, model, variables)
  if dataset.task != _CLASSES and config.train.defense.name:
    raise ValueError(f"train.defense is for {_but(dataset)}")
  defense.check(config.train, model)
  dp.check(config.train, dataset, variables)
  for label, spec in config.schemes.items():
    if locks[label].trains and not config.train.epochs:
      raise ValueError(
        f"schemes.{label}: the model trains under this key, but train.epochs=0"
      )
    if config.train.dp.on and locks[label].key_from_params:
      raise ValueError(
        f"schemes.{label}: its key is found with training examples, which is "
        "not in the budget of train.dp"
      )
    _check_scheme(
      spec.scheme, dict(spec.args), locks[label], model, variables, batch
    )


def _check_numbers(config: ConfigDict) -> None:
  for fields, least, requirement in (
    (_AT_LEAST_ONE, 1, "at least 1"),
    (_AT_LEAST_ZERO, 0, "0 or more"),
  ):
    for field in fields:
      value = functools.reduce(
        lambda x, name: x[name], field.split("."), config
      )
      if not least <= value < math.inf:  # Nor NaN.
        raise ValueError(f"{field}={value}: must be {requirement}")
  if not 0 <= config.train.epochs < math.inf or (
    config.train.epochs == 0 and not config.weights
  ):
    raise ValueError(
      f"train.epochs={config.train.epochs}: must be more than 0, or 0 with "
      "config.weights, which are then used as they are"
    )
  for field, asked in (
    ("defense", config.train.defense.name),
    ("dp", config.train.dp.on),
  ):
    if config.train.epochs == 0 and asked:
      raise ValueError(f"train.{field} needs training, but train.epochs=0")


def _check_adapters(
  config: ConfigDict, model: nn.Module, variables: Any
) -> None:
  """Check that adapters have public weights to adapt, and kernels there."""
  train = config.train
  if not config.weights or not train.epochs:
    raise ValueError(
      f"train.lora.rank={train.lora.rank} adapts config.weights, and trains: "
      "give weights, and train.epochs above 0"
    )
  if train.defense.name:
    raise ValueError("train.defense trains all weights: leave out train.lora")
  adapted = lora.Adapted(model, **train.lora)
  jax.eval_shape(adapted.start, jax.random.key(0), variables)


def _check_recipe(
  config: ConfigDict, dataset: data.Dataset, variables: Any
) -> None:
  """Check the optimizer, and options that only apply to some tasks."""
  steps = train.num_steps(config, dataset.num_examples)
  optimizer = train.make_optimizer(config, steps)
  jax.eval_shape(optimizer.init, variables["params"])
  for field in ("pad", "flip", "cutout", "mixup"):
    if dataset.task != _CLASSES and config[field]:
      raise ValueError(f"train.{field} is for {_but(dataset)}")
  for field in ("label_smoothing", "ema"):
    if not 0 <= config[field] < 1:
      raise ValueError(
        f"train.{field}={config[field]}: must be from 0 to below 1"
      )
  if dataset.task not in (_CLASSES, "tokens") and config.label_smoothing:
    raise ValueError(f"train.label_smoothing is for {_but(dataset)}")
  first, last = config.profile
  if first > last:
    raise ValueError(
      f"train.profile={config.profile}: must be (first step, last step)"
    )


def _but(dataset: data.Dataset) -> str:
  if dataset.is_text:
    return "images, but the data are text"
  return f"images with one class each, but the task is {dataset.task}"


def _check_scheme(
  name: str,
  args: dict[str, Any],
  lock: Lock,
  model: nn.Module,
  variables: Any,
  batch: Any,
) -> None:
  """Check that a key can be made for a model, by shapes only.

  Raises:
    ValueError: If no key can be made; the message says why.
  """
  if name == CHAIN:
    for part, part_args in args["parts"]:
      part_lock = build(part, dict(part_args), model)
      _check_scheme(part, dict(part_args), part_lock, model, variables, batch)
    return
  entry = schemes.get(name)
  if entry.key_source is schemes.KeySource.PARAMS:  # None are trained yet.
    if entry.check is not None:
      entry.check(variables, **args)
  else:
    prepared = jax.eval_shape(lock.prepare, variables)
    lock.scheme.keygen(keyjax.Secret.generate(), prepared, batch)
