"""Filters of a defence at inference: as deployed, and as attackers see them."""

import functools
from typing import Any

import jax
from jax.tree_util import Partial
from ml_collections import ConfigDict

from keyjax import defenses
from keyjax.attacks import evasion
from keyjax.attacks.evasion.problem import LogitsFn


def has_filter(config: ConfigDict) -> bool:
  """Return whether the defence of `config.train` filters inputs."""
  return config.defense.name in _DEPLOYED


def deployed(
  config: ConfigDict, logits_fn: LogitsFn, rng: jax.Array
) -> LogitsFn:
  """Return a trained model as its defence deploys it, with its input filter.

  Args:
    config: `config.train`.
    logits_fn: The network alone.
    rng: JAX PRNG key of the noise of `noise`.

  Returns:
    A `logits_fn`, and pytree if the network is one.
  """
  return _filtered(_DEPLOYED, config.defense, logits_fn, rng)


def attacked(
  config: ConfigDict, logits_fn: LogitsFn, rng: jax.Array
) -> LogitsFn:
  """Return what an adaptive attacker differentiates instead of `deployed`.

  The mean over draws of the noise that are not the server's (EOT), and the
  gradient through the rounding as if it were none (BPDA).

  Args:
    config: `config.train`.
    logits_fn: The network alone.
    rng: JAX PRNG key of the attacker's noise.
  """
  return _filtered(_DEPLOYED | _ADAPTIVE, config.defense, logits_fn, rng)


def _filtered(
  filters: dict[str, Any], defense: ConfigDict, logits_fn: Any, rng: jax.Array
) -> LogitsFn:
  if defense.name not in filters:
    return logits_fn
  options = (defense.sigma, defense.draws, defense.levels)
  if not isinstance(logits_fn, Partial):
    logits_fn = Partial(logits_fn)
  return Partial(_pass(filters[defense.name], options), logits_fn, rng)


@functools.lru_cache(maxsize=16)  # One function, or each would compile again.
def _pass(make: Any, options: tuple[Any, ...]) -> Any:
  return lambda logits_fn, rng, x: make(logits_fn, rng, *options)(x)


def _averaged(
  logits_fn: LogitsFn, rng: jax.Array, sigma: float, draws: int, levels: int
) -> LogitsFn:
  del levels  # Of the other filter.
  return defenses.with_noise(logits_fn, sigma=sigma, draws=draws, rng=rng)


def _rounded(
  logits_fn: LogitsFn, rng: jax.Array, sigma: float, draws: int, levels: int
) -> LogitsFn:
  del rng, sigma, draws
  return defenses.discrete(logits_fn, levels=levels)


def _straight_through(
  logits_fn: LogitsFn, rng: jax.Array, sigma: float, draws: int, levels: int
) -> LogitsFn:
  del rng, sigma, draws
  rounding = evasion.bpda(defenses.discrete(lambda x: x, levels=levels))
  return lambda x: logits_fn(rounding(x))


_DEPLOYED = {"noise": _averaged, "discrete": _rounded}
_ADAPTIVE = {"discrete": _straight_through}
