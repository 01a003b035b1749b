"""Differentially private training of `config.train.dp` (DP-SGD).

Every step draws a Poisson batch, clips the gradient of each example, adds up
over the devices, and adds noise once. The batches and the noise come from a
secret of the run, which is not `config.train.seed`: a seed is in the config,
and whoever knows it subtracts the noise. Both are functions of secret and step,
so that a run that resumes with its keys continues with the same ones.

What does not depend on training examples stays as it is: the initial weights,
the order of augmentation. `keyjax.defenses.private` has the mathematics, and
`docs/privacy_training.md` what the guarantee is worth.
"""

import math
import sys
from typing import Any

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.data.dataset import Streamed
from experiments.training import lora
from experiments.training.step import (
  CLASSIFYING,
  State,
  augmented,
  mean_loss,
  rng_of_step,
  with_dropout,
)
from keyjax import parallel, tasks
from keyjax.defenses import private
from keyjax.defenses.private import gradients

_MARGIN = (
  1.5  # Largest batch, in mean batches; for small ones one more in 10^4.
)


def check(config: ConfigDict, dataset: data.Dataset, variables: Any) -> None:
  """Raise a ValueError unless a training can be private.

  Args:
    config: `config.train`.
    dataset: Data to train on.
    variables: Variables of the model, or their shapes.
  """
  dp = config.dp
  if not dp.on:
    return
  if (dp.epsilon != 0) == (dp.noise_multiplier != 0):
    raise ValueError(
      f"train.dp.epsilon={dp.epsilon}, noise_multiplier={dp.noise_multiplier}: "
      "give one of the two, and 0 for the other"
    )
  for field in ("epsilon", "noise_multiplier"):
    if not 0 <= dp[field] < math.inf:
      raise ValueError(f"train.dp.{field}={dp[field]}: must be more than 0")
  if not 0 < dp.clip < math.inf:
    raise ValueError(f"train.dp.clip={dp.clip}: must be more than 0")
  if not 0 < dp.delta < 1:
    raise ValueError(f"train.dp.delta={dp.delta}: must be between 0 and 1")
  if dp.noise not in gradients.GENERATORS:
    known = ", ".join(gradients.GENERATORS)
    raise ValueError(f"train.dp.noise={dp.noise!r}: choose from {known}")
  if dp.truncate and dp.truncate < config.batch_size:
    raise ValueError(
      f"train.dp.truncate={dp.truncate}: must be 0, or at least "
      f"train.batch_size={config.batch_size}"
    )
  _check_examples(config, dataset, variables)


def _check_examples(
  config: ConfigDict, dataset: data.Dataset, variables: Any
) -> None:
  """Check that the gradient of an example is its own."""
  others = set(variables) - {"params", lora.BASE}
  if others:
    raise ValueError(
      f"train.dp does not fit this model: {', '.join(sorted(others))} mix the "
      "examples of a batch; choose a model without batch normalisation"
    )
  if config.mixup:
    raise ValueError("train.mixup mixes examples: leave it out under train.dp")
  if config.defense.name:
    raise ValueError("train.defense does not go with train.dp")
  if dataset.is_text:
    raise ValueError(
      "train.dp protects one example, and those of a text are parts of one "
      "document: choose data of images"
    )
  if isinstance(dataset, Streamed):
    raise ValueError(
      f"train.dp draws from examples in memory; {dataset.name} is streamed"
    )


def guarantee(config: ConfigDict, dataset: data.Dataset) -> private.Guarantee:
  """Return what a training of `config.train` guarantees.

  Raises:
    ValueError: If a number is out of range.
    KeyringError: If the extra `privacy` is not installed.
  """
  dp = config.dp
  training = _training(config, dataset)
  noise = dp.noise_multiplier or private.noise_multiplier(training, dp.epsilon)
  return private.Guarantee(
    epsilon=private.epsilon(training, noise),
    noise_multiplier=noise,
    clipping_norm=dp.clip,
    generator=dp.noise,
    training=training,
  )


def _training(config: ConfigDict, dataset: data.Dataset) -> private.Training:
  examples = dataset.num_examples
  per_epoch = data.steps_per_epoch(examples, config.batch_size)
  limit = config.dp.truncate or math.ceil(_MARGIN * config.batch_size)
  return private.Training(
    examples=examples,
    batch_size=config.batch_size,
    steps=max(1, round(config.epochs * per_epoch)),
    delta=config.dp.delta,
    truncated_at=limit if limit < examples else None,
  )


def batches(
  config: ConfigDict, dataset: data.Dataset, secret: keyjax.Secret
) -> grain.MapDataset:
  """Return the Poisson batches, by step, as `data.batches` does its own.

  They have one shape, for all devices: `real`, bool[b], is False in the rows
  that only fill a batch, which are zeros.

  Args:
    config: `config.train`.
    dataset: Data to train on.
    secret: Secret of the training's batches and noise.
  """
  training = _training(config, dataset)
  limit = training.truncated_at or training.examples
  unit = jax.device_count() * config.accumulate
  size = -(-limit // unit) * unit
  rows = private.poisson_rows(
    training.examples,
    training.batch_size,
    truncated_at=limit,
    size=size,
    secret=secret.child("batches"),
  )
  share = size // jax.process_count()
  start = share * jax.process_index()

  def batch(step: int) -> dict[str, np.ndarray]:
    picked = rows(step)[start : start + share]
    real = picked >= 0
    found = {"real": real}
    for name, of in (
      ("image", dataset.train_images),
      ("label", dataset.train_labels),
    ):
      found[name] = np.zeros((share, *of.shape[1:]), of.dtype)
      found[name][real] = of[picked[real]]
    return found

  return grain.MapDataset.range(sys.maxsize).map(batch)


def keyed(key: Any, config: ConfigDict, secret: keyjax.Secret) -> Any:
  """Return the key argument of a private step: the scheme's, and the noise's.

  The noise is an argument as well, in no closure and no checkpoint.
  """
  rng = private.noise_rng(secret.child("noise"), config.dp.noise)
  return key, jax.device_get(jax.random.key_data(rng))


def make_step(
  config: ConfigDict,
  model: nn.Module,
  scheme: keyjax.Scheme,
  optimizer: optax.GradientTransformation,
  noise_multiplier: float,
  task: str = "classes",
) -> parallel.Step:
  """Return the private step of one device, for `parallel.data_parallel`.

  Its key is that of `keyed`. Metrics are those of the examples of the batch,
  without noise: they are for the owner alone.

  Args:
    config: `config.train`.
    model: Linen module without batch statistics.
    scheme: Scheme whose `bind` is applied.
    optimizer: What turns gradients into updates.
    noise_multiplier: Standard deviation of the noise, in clipping norms.
    task: As in `step.make_step`.
  """
  generator = gradients.GENERATORS[config.dp.noise]

  def step(state: State, keys: Any, batch: Any) -> tuple[State, Any]:
    key, words = keys
    noise = jax.random.wrap_key_data(jnp.asarray(words), impl=generator)
    real = batch["real"]
    examples = {k: v for k, v in batch.items() if k != "real"}
    rng = rng_of_step(config.seed, state.step)
    examples = augmented(config, rng, examples)
    # All examples of a device leave out the same units.
    apply_fn = with_dropout(scheme.bind(key, model.apply), model, rng)
    params = state.variables["params"]
    fixed = {k: v for k, v in state.variables.items() if k != "params"}

    def loss_fn(params: Any, example: Any) -> tuple[jax.Array, Any]:
      logits = apply_fn(
        {"params": params, **fixed}, example["image"], train=True
      )
      label = example["label"]
      if task not in CLASSIFYING:
        loss = tasks.get(task).loss(logits, label).mean()
        return loss, {"loss": loss}
      loss = mean_loss(logits, example, config.label_smoothing)
      hit = jnp.mean(logits.argmax(-1) == label, dtype=jnp.float32)
      return loss, {"loss": loss, "accuracy": hit}

    total, metrics = private.clipped_sum(
      loss_fn,
      params,
      examples,
      real,
      clipping_norm=config.dp.clip,
      parts=config.accumulate,
    )
    shown = {k: jnp.where(real, v, 0).sum() for k, v in metrics.items()}
    count = real.sum(dtype=jnp.float32)
    total, shown, count = parallel.total((total, shown, count))
    # The same on every device: the noise of a step is added once.
    noisy = private.with_noise(
      total,
      jax.random.fold_in(noise, state.step),
      clipping_norm=config.dp.clip,
      noise_multiplier=noise_multiplier,
    )
    # By the mean size: the size of this batch would tell of an example.
    grads = jax.tree.map(lambda x: x / config.batch_size, noisy)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, updates), **fixed}
    means = {k: v / jnp.maximum(count, 1) for k, v in shown.items()}
    return State(state.step + 1, variables, opt_state), means

  return step
