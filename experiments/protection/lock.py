"""From a line of a config to a protection that a model can run.

A `Lock` holds all that the main job needs to know of a protection: the scheme,
whether the model trains under the key, how the weights are prepared
(quantized) and how a model runs on prepared weights. Schemes come from
`keyjax.schemes.registry`; `chain` combines them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

import keyjax
from keyjax import quantize, tasks
from keyjax.scheme import binds
from keyjax.schemes import range_search, registry
from keyjax.tasks import Task

ApplyFn = Callable[..., Any]
Loss = Callable[[jax.Array, jax.Array], jax.Array]  # logits, labels
CHAIN = "chain"
_WEIGHTS = ".*(kernel|embedding)"  # What int8 stores.
_DEFAULT_LOSS = "cross_entropy"
LOSSES: dict[str, Loss] = {
  _DEFAULT_LOSS: optax.softmax_cross_entropy_with_integer_labels,
  "margin": range_search.margin_loss,
}


class Lock(NamedTuple):
  """A protection for one model.

  Attributes:
    scheme: Scheme that encrypts and binds.
    trains: Whether the model trains under the key.
    prepare: Function from trained variables to those that are encrypted.
    apply: Forward pass over prepared variables.
    key_from_params: Whether `keygen` needs the values of trained params, which
      an attacker who guesses keys does not have.
  """

  scheme: keyjax.Scheme
  trains: bool
  prepare: Callable[[Any], Any]
  apply: ApplyFn
  key_from_params: bool = False


def names() -> list[str]:
  """Return the names that `build` accepts."""
  return [*registry.names(), CHAIN]


def build(
  name: str,
  args: Mapping[str, Any],
  model: nn.Module,
  task: Task = tasks.CLASSES,
) -> Lock:
  """Build a protection for a model.

  Args:
    name: One of `names()`.
    args: Arguments of the scheme's factory (`keyjax.deep_lock`, ...). A scheme
      that encrypts int8 leaves also takes `int8=True`, which quantizes kernels
      and embeddings and encrypts only these; one that takes a `loss_fn` takes
      `loss`, a name in `LOSSES`; `chain` takes `parts`, a tuple of (name,
      args).
    model: Linen model.
    task: What it is asked to do, for a scheme that looks at the loss.

  Raises:
    ValueError: If the scheme or an argument is unknown.
  """
  args = dict(args)
  if name == CHAIN:
    if set(args) != {"parts"}:
      raise ValueError(
        "chain takes `parts` alone, a tuple of (name, args); got "
        f"{', '.join(sorted(args)) or 'nothing'}"
      )
    return _chain(args["parts"], model, task)
  entry = registry.get(name)
  int8 = entry.locks_int8 and args.pop("int8", False)
  loss_fn = _loss_fn(model, _loss(entry, args, task))
  scheme = registry.build(name, args, apply_fn=model.apply, loss_fn=loss_fn)
  if int8:
    return Lock(
      scheme=keyjax.masked(scheme, quantize.INT8_LEAVES),
      trains=False,
      prepare=functools.partial(quantize.quantize, pattern=_WEIGHTS),
      apply=_dequantized(model.apply),
    )
  return Lock(
    scheme=scheme,
    # A model trains under a key that is bound to its forward pass, unless the
    # scheme can be applied to a trained one.
    trains=binds(scheme) and registry.trains(name, args),
    prepare=lambda variables: variables,
    apply=model.apply,
    key_from_params=entry.key_source is registry.KeySource.PARAMS,
  )


def build_all(
  schemes: ConfigDict, model: nn.Module, task: Task = tasks.CLASSES
) -> dict[str, Lock]:
  """Build the protections of `config.schemes`, by label.

  Build them once: compiled programs are cached by the functions of a lock.
  """
  return {
    label: build(spec.scheme, dict(spec.args), model, task)
    for label, spec in schemes.items()
  }


def _chain(
  parts: tuple[tuple[str, Any], ...], model: nn.Module, task: Task
) -> Lock:
  locks = [build(name, args, model, task) for name, args in parts]
  if any(lock.apply != model.apply for lock in locks):
    raise ValueError("a chain has no int8 part: quantize the whole model")
  return Lock(
    scheme=keyjax.chain(*(lock.scheme for lock in locks)),
    trains=any(lock.trains for lock in locks),
    prepare=lambda variables: variables,
    apply=model.apply,
    key_from_params=any(lock.key_from_params for lock in locks),
  )


def _dequantized(apply_fn: ApplyFn) -> ApplyFn:
  def apply(variables: Any, *args: Any, **kwargs: Any) -> jax.Array:
    return apply_fn(quantize.dequantize(variables), *args, **kwargs)

  return apply


def _loss(entry: registry.Entry, args: dict[str, Any], task: Task) -> Loss:
  """Take the loss of a scheme that has one out of its arguments.

  The default is that of the task; others are for classes.
  """
  if "loss_fn" not in inspect.signature(entry.factory).parameters:
    return task.loss
  name = args.pop("loss", _DEFAULT_LOSS)
  if name not in LOSSES:
    raise ValueError(f"{entry.name}: loss={name!r}: one of {', '.join(LOSSES)}")
  if name == _DEFAULT_LOSS:
    return task.loss
  if task is not tasks.CLASSES:
    raise ValueError(
      f"{entry.name}: loss={name!r} is for classes, not for {task.name}"
    )
  return LOSSES[name]


def _loss_fn(model: nn.Module, loss: Loss) -> Callable[[Any, Any], jax.Array]:
  def loss_fn(variables: Any, batch: Any) -> jax.Array:
    logits: Any = model.apply(variables, batch["image"])
    return loss(logits, batch["label"]).mean()

  return loss_fn
