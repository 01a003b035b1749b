"""From a line of a config to a scheme: what to train, lock and run.

A `Lock` says all that the main job needs of a protection: the scheme, whether
the model trains under the key, how the weights are prepared (quantised) and
how a model runs on prepared weights.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

import keyjax
from keyjax import quantize
from keyjax.schemes.hpnn import matrix_units

ApplyFn = Callable[..., Any]
_WEIGHTS = ".*(kernel|embedding)"  # what int8 stores


class Lock(NamedTuple):
  """A protection, ready for a model.

  Attributes:
    scheme: what locks and binds.
    trains: whether the model trains under the key.
    prepare: turns trained variables into those that are locked.
    apply: the forward pass over prepared variables.
  """

  scheme: keyjax.Scheme
  trains: bool
  prepare: Callable[[Any], Any]
  apply: ApplyFn


def build(name: str, args: Mapping[str, Any], model: nn.Module) -> Lock:
  """Builds a protection for a model.

  Args:
    name: one of `NAMES`.
    args: arguments of the scheme's factory (`keyjax.deep_lock`, ...);
      `int8=True` besides, for deep_lock, quantises kernels and embeddings and
      locks them alone; `parts` for chain, a tuple of (name, args).
    model: the linen model.

  Raises:
    ValueError: an unknown scheme or argument.
  """
  args = dict(args)
  if name == "chain":
    if set(args) != {"parts"}:
      raise ValueError(
        "chain takes `parts` alone, a tuple of (name, args); got "
        f"{', '.join(sorted(args)) or 'nothing'}"
      )
    return _chain(args["parts"], model)
  int8 = name == "deep_lock" and args.pop("int8", False)
  scheme = _factory(name, model)(name, args)
  if int8:
    scheme = keyjax.masked(scheme, quantize.INT8_LEAVES)
    prepare = functools.partial(quantize.quantize, pattern=_WEIGHTS)
    return Lock(scheme, False, prepare, _dequantized(model.apply))
  # What binds a key to the forward pass trains under it.
  trains = scheme.bind is not keyjax.identity().bind
  return Lock(scheme, trains, lambda variables: variables, model.apply)


def _chain(parts: tuple[tuple[str, Any], ...], model: nn.Module) -> Lock:
  locks = [build(name, args, model) for name, args in parts]
  if any(lock.apply != model.apply for lock in locks):
    raise ValueError("a chain has no int8 part: quantise the whole model")
  scheme = keyjax.chain(*(lock.scheme for lock in locks))
  trains = any(lock.trains for lock in locks)
  return Lock(scheme, trains, lambda variables: variables, model.apply)


def _dequantized(apply_fn: ApplyFn) -> ApplyFn:
  def apply(variables: Any, *args: Any, **kwargs: Any) -> jax.Array:
    return apply_fn(quantize.dequantize(variables), *args, **kwargs)

  return apply


def _factory(name: str, model: nn.Module) -> Callable[[str, dict], Any]:
  if name not in MAKERS:
    raise ValueError(f"unknown scheme {name!r}; known: {', '.join(NAMES)}")

  def make(name: str, args: dict[str, Any]) -> keyjax.Scheme:
    maker = MAKERS[name](model)
    known = set(inspect.signature(maker).parameters)
    unknown = sorted(set(args) - known)
    if unknown:
      raise ValueError(
        f"{name}: unknown argument {', '.join(unknown)}; "
        f"known: {', '.join(sorted(known))}"
      )
    return maker(**args)

  return make


def _with_model(model: nn.Module) -> Callable[..., keyjax.Scheme]:
  def hpnn(layers: str | None = None, units: int = 256) -> keyjax.Scheme:
    # 0: as many as this machine's matrix unit has columns.
    return keyjax.hpnn(model.apply, layers, units or matrix_units())

  return hpnn


def _with_kind(kind: str) -> Callable[[nn.Module], Callable[..., Any]]:
  def pixel(block_size: int = 4) -> keyjax.Scheme:
    return keyjax.pixel_shuffle(kind, block_size)

  return lambda model: pixel


def _with_loss(model: nn.Module) -> Callable[..., keyjax.Scheme]:
  def loss_fn(variables: Any, batch: Any) -> jax.Array:
    logits = model.apply(variables, batch["image"])
    labels = batch["label"]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()

  # The factory's own defaults, so that errors list its arguments.
  signature = inspect.signature(keyjax.adv_params)
  rest = [p for p in signature.parameters.values() if p.name != "loss_fn"]

  def adv_params(**kwargs: Any) -> keyjax.Scheme:
    return keyjax.adv_params(loss_fn, **kwargs)

  adv_params.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
  return adv_params


# A new scheme is one line here: how a factory is made for a model.
MAKERS: dict[str, Callable[[nn.Module], Callable[..., keyjax.Scheme]]] = {
  "identity": lambda model: keyjax.identity,
  "deep_lock": lambda model: keyjax.deep_lock,
  "adv_params": _with_loss,
  "keyed_noise": lambda model: keyjax.keyed_noise,
  "hpnn": _with_model,
  "shf": _with_kind("shf"),
  "np": _with_kind("np"),
  "ffx": _with_kind("ffx"),
}
NAMES = (*MAKERS, "chain")
