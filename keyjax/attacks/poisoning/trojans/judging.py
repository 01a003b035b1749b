"""What a model does with a trigger, and without it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import labelled
from keyjax.arguments import whole_number
from keyjax.attacks.evasion import checks
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning.trojans.checks import check_data
from keyjax.attacks.poisoning.trojans.trigger import Trigger


class Judged(NamedTuple):
  """What a model does; its shares are the rates that papers report.

  Attributes:
    success: bool[m], whether images of other classes get the target's with the
      trigger: the attack success rate. Logits that are not finite are none.
    unprompted: bool[m], whether the same images get it without the trigger. A
      model that returns one class for everything succeeds without any trojan.
    correct: bool[n], whether images without the trigger are classified
      correctly: the clean accuracy.
  """

  success: np.ndarray
  unprompted: np.ndarray
  correct: np.ndarray


def judge(
  logits_fn: LogitsFn,
  trigger: Trigger,
  test: Examples,
  *,
  target: int,
  rng: jax.Array,
  batch_size: int = 1000,
) -> Judged:
  """Return how a model answers test images with a trigger, and without.

  Args:
    logits_fn: Function from images to logits, float[n, classes].
    trigger: The trigger; its `stamp` is applied.
    test: Test images, float32[n, h, w, c] in [0, 1], and their labels, int[n].
    target: The attacker's class.
    rng: PRNG key of the trigger.
    batch_size: Images of a forward pass.

  Raises:
    ValueError: If test data are no images with labels of the model, the target
      is no class, or no image has another class.

  Example:
    >>> from keyjax.attacks.poisoning import trojans
    >>> def bright(x):
    ...   most = x.max((1, 2, 3))
    ...   return jnp.stack([most, 0.5 + 0 * most], -1)
    >>> test = Examples(np.zeros((2, 8, 8, 1), np.float32), np.asarray([1, 1]))
    >>> square = trojans.patch((8, 8, 1))
    >>> found = judge(bright, square, test, target=0, rng=jax.random.key(0))
    >>> found.success.tolist(), found.unprompted.tolist()
    ([True, True], [False, False])
  """
  labels = check_data(test)
  classes = checks.count_classes(logits_fn, jnp.asarray(test.image[:1]))
  checks.check_classes("labels", np.asarray(labels), len(labels), classes)
  target = labelled.class_number(target, classes, "target")
  others = np.flatnonzero(labels != target)
  if not len(others):
    raise ValueError(f"target={target}: no test image has another class")
  stamped = trigger.stamp(rng, jnp.asarray(test.image[others]))
  clean = predictions(logits_fn, test.image, batch_size)
  return Judged(
    success=predictions(logits_fn, stamped, batch_size) == target,
    unprompted=clean[others] == target,
    correct=clean == labels,
  )


def predictions(
  logits_fn: Callable[[jax.Array], jax.Array],
  images: Any,
  batch_size: int = 1000,
) -> np.ndarray:
  """Return the classes of images, int64[n]; -1 where logits are not finite.

  All passes have one shape: the last batch is filled with repeated images.

  Args:
    logits_fn: Function from images to logits, float[n, classes].
    images: float32[n, h, w, c], at least one.
    batch_size: Images of a forward pass.
  """
  n = len(images)
  size = min(whole_number(batch_size, "batch_size"), n)
  found = []
  for start in range(0, n, size):
    rows = np.arange(start, start + size) % n
    logits = np.asarray(logits_fn(jnp.asarray(images)[rows]), np.float32)
    finite = np.isfinite(logits).all(-1)
    found.append(np.where(finite, logits.argmax(-1), -1)[: n - start])
  return np.concatenate(found)
