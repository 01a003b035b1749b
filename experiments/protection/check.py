"""Mistakes in a config, found before anything is trained or claimed."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.protection import lock
from experiments.training import train
from keyjax.schemes import registry as schemes

_AT_LEAST_ONE = (
  "train.batch_size",
  "train.accumulate",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "evaluate.batch_size",
  "evaluate.wrong_keys",
  "evaluate.distance_keys",
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
)


def config(config: ConfigDict, dataset: data.Dataset, model: nn.Module) -> None:
  """Checks numbers, optimiser, devices, and that each scheme fits the model.

  Args:
    config: the whole config.
    dataset: its data.
    model: its model; only shapes go through it.

  Raises:
    ValueError: something does not fit; it says what.
  """
  for fields, least, said in (
    (_AT_LEAST_ONE, 1, "at least 1"),
    (_AT_LEAST_ZERO, 0, "0 or more"),
  ):
    for field in fields:
      value = functools.reduce(
        lambda x, name: x[name], field.split("."), config
      )
      if not least <= value < math.inf:  # Nor NaN.
        raise ValueError(f"{field}={value}: {said}")
  if not 0 < config.train.epochs < math.inf:
    raise ValueError(f"train.epochs={config.train.epochs}: more than 0")
  train.check_devices(config.train)
  batch = {
    "image": data.to_input(jnp.asarray(dataset.train_images[:1])),
    "label": jnp.asarray(dataset.train_labels[:1]),
  }
  variables = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
  _recipe(config.train, dataset, variables)
  for spec in config.schemes.values():
    scheme(spec.scheme, dict(spec.args), model, variables, batch)


def _recipe(config: ConfigDict, dataset: data.Dataset, variables: Any) -> None:
  """Checks the optimiser, and what is for images alone."""
  steps = train.num_steps(config, dataset.num_examples)
  optimizer = train.make_optimizer(config, steps)
  jax.eval_shape(optimizer.init, variables["params"])
  for field in ("pad", "flip", "cutout", "mixup"):
    if dataset.is_text and config[field]:
      raise ValueError(f"train.{field} is for images, the data are text")
  for field in ("label_smoothing", "ema"):
    if not 0 <= config[field] < 1:
      raise ValueError(f"train.{field}={config[field]}: from 0 to below 1")
  first, last = config.profile
  if first > last:
    raise ValueError(f"train.profile={config.profile}: (first step, last step)")


def scheme(
  name: str,
  args: dict[str, Any],
  model: nn.Module,
  variables: Any,
  batch: Any,
) -> None:
  """Checks that a scheme's key can be made for a model, on shapes alone.

  Raises:
    ValueError: it cannot; it says why.
  """
  this = lock.build(name, args, model)
  if name == lock.CHAIN:
    for part, part_args in args["parts"]:
      scheme(part, dict(part_args), model, variables, batch)
    return
  entry = schemes.get(name)
  if entry.key_source is schemes.KeySource.PARAMS:  # None are trained yet.
    if entry.check is not None:
      entry.check(variables, **args)
  else:
    prepared = jax.eval_shape(this.prepare, variables)
    this.scheme.keygen(keyjax.Secret.generate(), prepared, batch)
