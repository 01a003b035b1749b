"""Mistakes in a config, found before anything is trained or claimed."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import keyjax
from experiments import data, lock, train

_AT_LEAST_ONE = (
  "train.batch_size",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep",
  "evaluate.batch_size",
  "evaluate.wrong_keys",
  "evaluate.distance_keys",
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
  for field in _AT_LEAST_ONE:
    value = config
    for name in field.split("."):
      value = value[name]
    if value < 1:
      raise ValueError(f"{field}={value}: at least 1")
  train.check_devices(config.train)
  train.make_optimizer(
    config.train, train.num_steps(config.train, len(dataset.train_labels))
  )
  shape = (1, *dataset.train_images.shape[1:])
  batch = {"image": jnp.zeros(shape), "label": jnp.zeros(1, jnp.int32)}
  variables = jax.eval_shape(model.init, jax.random.key(0), batch["image"])
  for spec in config.schemes.values():
    scheme(spec.scheme, dict(spec.args), model, variables, batch)


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
  if name == "chain":
    for part, part_args in args["parts"]:
      scheme(part, dict(part_args), model, variables, batch)
  elif name == "adv_params":  # Its key is made from trained params.
    paths = keyjax.tree.flatten(variables)[0]
    pattern = args.get("layers", ".*kernel")
    if not any(map(keyjax.tree.matcher(pattern), paths)):
      raise ValueError(f"adv_params: no leaf matches layers={pattern!r}")
  else:
    prepared = jax.eval_shape(this.prepare, variables)
    this.scheme.keygen(keyjax.Secret.generate(), prepared, batch)
