"""One training step: the recipe of `config.train`, under a scheme's key."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.training import lora
from experiments.training.defense import DefenseLoss, Forward
from keyjax import parallel, tasks
from keyjax.scheme import ApplyFn

CLASSIFYING = ("classes", "tokens")


@flax.struct.dataclass
class State:
  """The state of a run, as in its checkpoints.

  Attributes:
    step: int32[], number of finished steps.
    variables: Params and batch statistics of the model.
    opt_state: State of the optimizer, with averaged params under
      `config.train.ema`.
  """

  step: jax.Array
  variables: dict[str, Any]
  opt_state: Any


def make_step(
  config: ConfigDict,
  model: nn.Module,
  scheme: keyjax.Scheme,
  optimizer: optax.GradientTransformation,
  defense: DefenseLoss | None = None,
  task: str = "classes",
) -> parallel.Step:
  """Return the pure step of one device, for `parallel.data_parallel`.

  Args:
    config: `config.train`.
    model: Linen module.
    scheme: Scheme whose `bind` is applied.
    optimizer: What turns gradients into updates.
    defense: Loss to train on instead of the recipe's; see
      `experiments.training.defense`. Metrics and batch statistics remain those
      of the unchanged inputs.
    task: What the model does: one of `keyjax.tasks.names()`. Of classes and
      tokens, `accuracy` is among the metrics.
  """
  classifies = task in CLASSIFYING

  def step(state: State, key: Any, batch: Any) -> tuple[State, Any]:
    rng = rng_of_step(config.seed, state.step)
    batch = augmented(config, rng, batch)
    apply_fn = with_dropout(scheme.bind(key, model.apply), model, rng)
    params = state.variables["params"]
    # What never changes is not averaged: the mean of equal floats may round.
    fixed = {k: v for k, v in state.variables.items() if k == lora.BASE}
    rest = {
      k: v for k, v in state.variables.items() if k not in ("params", *fixed)
    }

    def loss_fn(params: Any, rest: Any, batch: Any) -> tuple[jax.Array, Any]:
      logits, new = apply_fn(
        {"params": params, **fixed, **rest},
        batch["image"],
        train=True,
        mutable=list(rest),
      )
      if not classifies:
        loss = tasks.get(task).loss(logits, batch["label"]).mean()
        return loss, (new, {"loss": loss})
      if defense is None:
        loss = mean_loss(logits, batch, config.label_smoothing)
      else:
        variables = {"params": params, **fixed, **rest}
        forward = Forward(apply_fn, variables, state.step)
        loss = defense(
          forward, batch["image"], batch["label"], jax.random.fold_in(rng, 3)
        ).mean()
      hits = jnp.mean(logits.argmax(-1) == batch["label"], dtype=jnp.float32)
      return loss, (new, {"loss": loss, "accuracy": hits})

    grad_fn = jax.grad(loss_fn, has_aux=True)
    found = accumulated(grad_fn, params, rest, batch, config.accumulate)
    grads, new, metrics = parallel.mean(found)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    params = optax.apply_updates(params, updates)
    variables = {"params": params, **fixed, **new}
    return State(state.step + 1, variables, opt_state), metrics

  return step


def augmented(config: ConfigDict, rng: jax.Array, batch: Any) -> Any:
  """Return a batch as model input, augmented as the recipe says."""
  x = data.to_input(batch["image"])
  if config.pad or config.flip:
    x = data.augment(rng, x, config.pad, config.flip)
  if config.cutout:
    x = data.cutout(jax.random.fold_in(rng, 1), x, config.cutout)
  batch = batch | {"image": x}
  if config.mixup:
    batch = data.mixup(jax.random.fold_in(rng, 2), batch, config.mixup)
  return batch


def mean_loss(logits: jax.Array, batch: Any, smoothing: float) -> jax.Array:
  """Return the mean cross-entropy, float32[], over images or tokens.

  Args:
    logits: float32[..., classes].
    batch: `label`, int32[...]; for mixed images also `other_label` and the
      `share` of the first label, float32[...].
    smoothing: Share of each label that is spread evenly over all classes.
  """
  label = batch["label"]
  if not smoothing and "share" not in batch:
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
  classes = logits.shape[-1]
  target = jax.nn.one_hot(label, classes)
  if "share" in batch:
    share = batch["share"][..., None]
    other = jax.nn.one_hot(batch["other_label"], classes)
    target = share * target + (1 - share) * other
  target = optax.smooth_labels(target, smoothing)
  return optax.softmax_cross_entropy(logits, target).mean()


GradFn = Callable[[Any, Any, Any], tuple[Any, tuple[Any, Any]]]


def accumulated(
  grad_fn: GradFn, params: Any, rest: Any, batch: Any, parts: int
) -> tuple[Any, Any, Any]:
  """Return mean gradients, batch statistics and mean metrics over parts.

  Args:
    grad_fn: Function `(params, rest, batch) -> (grads, (rest, metrics))`.
    params: Params to differentiate.
    rest: Batch statistics, passed from part to part.
    batch: Pytree of arrays [rows, ...].
    parts: Number of parts of the batch, in memory one at a time; divides the
      rows.
  """
  if parts == 1:
    grads, (rest, metrics) = grad_fn(params, rest, batch)
    return grads, rest, metrics

  def one(carry: Any, part: Any) -> tuple[Any, Any]:
    total, rest = carry
    grads, (rest, metrics) = grad_fn(params, rest, part)
    return (jax.tree.map(jnp.add, total, grads), rest), metrics

  zeros = jax.tree.map(jnp.zeros_like, params)
  # Every part has rows of every device, if one step runs for all of them.
  # [rows, ...] -> [parts, rows / parts, ...]
  cut = jax.tree.map(
    lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
  )
  (total, rest), metrics = jax.lax.scan(one, (zeros, rest), cut)
  grads = jax.tree.map(lambda x: x / parts, total)
  return grads, rest, jax.tree.map(jnp.mean, metrics)


def with_dropout(
  apply_fn: ApplyFn, model: nn.Module, rng: jax.Array
) -> ApplyFn:
  """Return a pass that has what dropout draws in this step, if it draws."""
  if not getattr(model, "dropout", 0):
    return apply_fn
  return functools.partial(
    apply_fn, rngs={"dropout": jax.random.fold_in(rng, 4)}
  )


def rng_of_step(seed: int, step: jax.Array) -> jax.Array:
  """Return the `rng` of one step on one device."""
  rng = jax.random.fold_in(jax.random.key(seed), step)
  return jax.random.fold_in(rng, parallel.device_index())
