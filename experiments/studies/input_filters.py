"""Noise on inputs, and inputs of two values, each with an attack that knows.

Noise is averaged over by the attacker as it is by the server, with other draws.
Rounding stops changes below half a level; an attacker then flips whole pixels,
one at a time, each the one that costs the right class most.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.studies import base
from keyjax import defenses
from keyjax.attacks import evasion

TITLE = "Filters of inputs: noise, and two values"
SENTENCE = (
  "Noise on inputs is no defence; inputs that are discrete and checked leave "
  "an attacker fewer changes."
)
DATASETS = ("digits",)

_IMAGES = 200
_EPSILON = 0.1
_SIGMAS = (0.1, 0.2)
_FLIPS = (1, 2, 4, 8)
_NOISE = {
  0.1: ("97.2 %", "40.6 %", "40.7 %"),
  0.2: ("96.7 %", "42.4 %", "43.0 %"),
}
_FLIPPED = {1: "65.6 %", 2: "25.4 %", 4: "0.7 %"}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracies of each filter, without and with attacks that know it."""
  x, y = base.sample(lab, _IMAGES)
  return _noise(lab, x, y) + _discrete(lab, x, y)


def _noise(lab: base.Lab, x: jax.Array, y: jax.Array) -> list[base.Figure]:
  net = base.standard(lab)
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  given = {"epsilon": _EPSILON, "rng": lab.rng}
  unaware = pgd(net.logits_fn, x, y, **given)
  title = f"no filter, PGD, epsilon {_EPSILON}: accuracy"
  figures = [base.share(title, ~unaware.success, "38.3 %")]
  theirs, ours = jax.random.split(lab.rng)
  once = base.compiled(evasion.pgd, steps=40)
  for sigma in _SIGMAS:
    attacked = evasion.expectation(
      net.logits_fn,
      functools.partial(_noisy, sigma),
      draws=16,
      rng=theirs,
    )
    found = once(attacked, x, y, **given)
    served = jax.jit(
      defenses.with_noise(net.logits_fn, sigma=sigma, draws=16, rng=ours)
    )
    inputs = {
      "clean": x,
      f"PGD without the noise, epsilon {_EPSILON}": unaware.inputs,
      f"PGD on the average (EOT), epsilon {_EPSILON}": found.inputs,
    }
    figures += [
      base.share(
        f"noise {sigma}, {name}: accuracy", served(z).argmax(-1) == y, goal
      )
      for (name, z), goal in zip(inputs.items(), _NOISE[sigma], strict=True)
    ]
  return figures


def _discrete(lab: base.Lab, x: jax.Array, y: jax.Array) -> list[base.Figure]:
  net = base.standard(lab, defense={"name": "discrete", "levels": 2})
  served = defenses.discrete(net.logits_fn)
  rounding = evasion.bpda(defenses.discrete(lambda x: x))
  pgd = base.compiled(evasion.pgd, steps=40, restarts=2)
  found = pgd(
    lambda x: net.logits_fn(rounding(x)), x, y, epsilon=_EPSILON, rng=lab.rng
  )
  title = f"two values, PGD through the rounding (BPDA), epsilon {_EPSILON}"
  right = served(x).argmax(-1) == y
  figures = [
    base.share("two values, clean: accuracy", right, "93.1 %"),
    base.share(f"{title}: accuracy", ~found.success, "79.1 %"),
  ]
  bits = jnp.round(x)
  for flips in range(1, max(_FLIPS) + 1):
    bits = _flip(net.logits_fn, bits, y)
    right &= served(bits).argmax(-1) == y  # An attacker stops at an error.
    if flips in _FLIPS:
      title = f"two values, {flips} flipped pixels: accuracy"
      figures.append(base.share(title, right, _FLIPPED.get(flips, "")))
  return figures


@jax.jit
def _flip(
  logits_fn: base.LogitsFn, bits: jax.Array, labels: jax.Array
) -> jax.Array:
  """Flip the pixel of each image that lowers the right class's margin most."""

  def margin(pixel: jax.Array) -> jax.Array:
    logits = logits_fn(_flipped(bits, pixel))
    return evasion.losses.margin(logits, labels)

  margins = jax.lax.map(margin, jnp.arange(bits[0].size))  # [pixels, n]
  return _flipped(bits, margins.argmax(0))


def _flipped(bits: jax.Array, pixel: jax.Array) -> jax.Array:
  flat = bits.reshape(len(bits), -1)
  here = jnp.arange(flat.shape[1])[None] == jnp.atleast_1d(pixel)[:, None]
  return jnp.where(here, 1 - flat, flat).reshape(bits.shape)


def _noisy(sigma: float, rng: jax.Array, x: jax.Array) -> jax.Array:
  return x + sigma * jax.random.normal(rng, x.shape)
