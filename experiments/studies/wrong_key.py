"""A wrong key, told by the confidence of the network that runs with it.

Right keys, wrong ones and nearly right ones, on test images; and the right key
on noisy images, which lower the confidence as well.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.studies import base
from keyjax import fallback
from keyjax.attacks import near_keys
from keyjax.defenses import energy

TITLE = "A wrong key, and confidence"
SENTENCE = (
  "A network that runs with a wrong key is noticeably unsure, if it has no "
  "authentication tag that shows a wrong key exactly."
)
DATASETS = ("digits", "mnist")

_KEYS = 16  # Wrong keys.
_INPUTS = 20  # Inputs of one test.
_TESTS = 192
_REFERENCE = 180
_NOISE = 0.3
_RIGHT = "right key"
_HARD = "right key, noisy images"
_NEAR = "nearly right key"
_WRONG = "wrong keys"
# Of a prototype of HPNN, on the digits.
_CONFIDENCES = {_RIGHT: "0.977", _WRONG: "0.688"}
_AREAS = {1: "0.960", _INPUTS: "1.000"}


def run(lab: base.Lab) -> list[base.Figure]:
  """Return what confidences say about the keys of two locks."""
  return [figure for lock in ("HPNN", "SHF") for figure in _figures(lab, lock)]


def _figures(lab: base.Lab, lock: str) -> list[base.Figure]:
  """Return accuracies, confidences, areas, and results of tests of the key."""
  draw = np.random.default_rng(lab.seed)
  logits = _logits(lab, lock, draw)
  sure = {k: np.asarray(fallback.max_softmax(v)) for k, v in logits.items()}
  known = (lab.dataset.name, lock) == ("digits", "HPNN")
  targets = _CONFIDENCES if known else {}
  figures = []
  for name, z in logits.items():
    right = np.asarray(z.argmax(-1)) == lab.test.label
    share, mean = 100 * right.mean(), sure[name].mean()
    title, n, target = f"{lock}, {name}", right.size, targets.get(name, "")
    figures.append(base.number(f"{title}: accuracy, %", share, n))
    figures.append(base.number(f"{title}: mean confidence", mean, n, target))
  for name in (_RIGHT, _HARD):
    areas = _AREAS if known and name == _RIGHT else {}
    title = f"{lock}, wrong keys against {name}"
    figures += _areas(title, sure[name][0], sure[_WRONG], draw, areas)
  for name, c in sure.items():
    told = _told(c, sure[_RIGHT][0], lab.rng, draw)
    figures.append(base.share(f"{lock}, {name}: p of 0.01 or less", told))
  return figures


def _logits(
  lab: base.Lab, lock: str, draw: np.random.Generator
) -> dict[str, jax.Array]:
  """Return logits of the test images, float[keys, n, classes]."""
  x = jnp.asarray(lab.test.image)
  logits_fn, key = _locked(lab, lock)
  noise = jax.random.normal(lab.rng, x.shape)
  hard = jnp.clip(x + _NOISE * noise, 0, 1)
  near = near_keys.near_key(key, 1, draw)
  random = [near_keys.random_key(key, draw) for _ in range(_KEYS)]
  return {
    _RIGHT: logits_fn(key, x)[None],
    _HARD: logits_fn(key, hard)[None],
    _NEAR: logits_fn(near, x)[None],
    _WRONG: jnp.stack([logits_fn(k, x) for k in random]),
  }


def _locked(lab: base.Lab, lock: str) -> tuple[Any, Any]:
  """Return logits as a function of key and images, and the right key."""
  image = jnp.asarray(lab.test.image[:8])
  plain = base.standard(lab)
  scheme = (
    keyjax.hpnn(plain.model.apply)
    if lock == "HPNN"
    else keyjax.pixel_shuffle("shf", 4)
  )
  secret = keyjax.Secret.generate()
  key = scheme.keygen(secret, plain.variables, {"image": image})
  net = base.standard(lab, scheme=scheme, key=key)

  @jax.jit
  def logits_fn(key: Any, x: jax.Array) -> jax.Array:
    forward = keyjax.authorize(scheme, key, net.model.apply)
    return forward(net.variables, x)

  return logits_fn, key


def _areas(
  title: str,
  right: np.ndarray,
  wrong: np.ndarray,
  draw: np.random.Generator,
  targets: dict[int, str],
) -> list[base.Figure]:
  """Return how well confidences tell wrong keys, float[keys, n], from right."""
  figures = []
  for inputs in (1, _INPUTS):
    real = _means(right, inputs, draw)
    areas = [
      float(energy.auroc(-real, -_means(c, inputs, draw))) for c in wrong
    ]
    where, n = f"{title}, {inputs} inputs: AUROC", len(real)
    target = targets.get(inputs, "")
    figures.append(base.number(where, np.mean(areas), n, target))
    figures.append(base.number(f"{where}, of the worst key", np.min(areas), n))
  return figures


def _means(
  confidence: np.ndarray, inputs: int, draw: np.random.Generator
) -> jax.Array:
  """Return each confidence, or means over draws of several."""
  if inputs == 1:
    return jnp.asarray(confidence)
  rows = _rows(draw, len(confidence), inputs)
  return jnp.asarray(confidence[rows].mean(-1))


def _rows(draw: np.random.Generator, n: int, count: int) -> np.ndarray:
  """Return rows of images for each test, without replacement."""
  return np.stack([draw.choice(n, count, replace=False) for _ in range(_TESTS)])


@jax.jit
@jax.vmap
def _p_values(
  confidence: jax.Array, reference: jax.Array, rng: jax.Array
) -> jax.Array:
  return fallback.wrong_key(confidence, reference, draws=199, rng=rng)


def _told(
  sure: np.ndarray,
  right: np.ndarray,
  rng: jax.Array,
  draw: np.random.Generator,
) -> np.ndarray:
  """Return which tests find that the key is wrong.

  Args:
    sure: float[keys, n], under the keys in question, which take turns.
    right: float[n], of the same images under the right key. The reference of a
      test is of other images than its inputs.
    rng: JAX PRNG key.
    draw: Generator of the images.
  """
  several = min(_INPUTS + _REFERENCE, len(right))
  rows = _rows(draw, len(right), several)
  tested, reference = rows[:, :_INPUTS], rows[:, _INPUTS:]
  key = np.arange(_TESTS) % len(sure)
  p_values = _p_values(
    sure[key[:, None], tested], right[reference], jax.random.split(rng, _TESTS)
  )
  return np.asarray(p_values <= 0.01)
