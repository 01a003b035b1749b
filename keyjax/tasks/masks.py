"""A class for each pixel: mean intersection over union.

Class 0 is the background. Most pixels are background, so that a model that
sees nothing else has most pixels right; its intersection over union is high as
well, and the metric that judges leaves it out. In the loss a pixel of a class
weighs more than one of the background, as in Ronneberger et al., "U-Net",
MICCAI 2015, arXiv:1505.04597, section 3: a model stays at the background for
long otherwise.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.tasks.task import Metric, Task

_WEIGHT = 4.0  # Of a pixel of a class, where the background's weigh 1.


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the weighted mean cross-entropy of each image, float32[b].

  Args:
    logits: float32[b, h, w, classes].
    labels: int[b, h, w]; pixels with a negative label do not count.
  """
  labels = labels.astype(jnp.int32)
  weight = jnp.where(labels > 0, _WEIGHT, (labels == 0).astype(jnp.float32))
  nats = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.maximum(labels, 0)
  )
  total = jnp.where(labels >= 0, weight * nats, 0).sum((1, 2))
  return total / jnp.maximum(weight.sum((1, 2)), 1)


def statistics(logits: jax.Array, labels: jax.Array) -> dict[str, Any]:
  """Return intersections and unions of each image and class.

  A pixel with a logit that is NaN or infinite belongs to no class.

  Args:
    logits: float32[b, h, w, classes].
    labels: int[b, h, w]; pixels with a negative label do not count.

  Returns:
    Numbers of pixels, float32[b, classes].
  """
  labels = labels.astype(jnp.int32)
  finite = jnp.isfinite(logits).all(-1)
  found = jnp.where((labels >= 0) & finite, logits.argmax(-1), -1)
  # [b, h, w] -> [b, h, w, classes], where a negative number is no class
  inside, wanted = (
    jax.nn.one_hot(x, logits.shape[-1], dtype=jnp.bool_)
    for x in (found, labels)
  )
  pixels = (inside & wanted).sum((1, 2), dtype=jnp.float32)
  return {
    "intersections": pixels,
    "unions": (inside | wanted).sum((1, 2), dtype=jnp.float32),
  }


def _mean_over_classes(first: int) -> Metric:
  """Return the mean over the classes from `first` on that occur."""

  def metric(statistics: Any, counts: np.ndarray) -> np.ndarray:
    # [r, n] @ [n, classes] -> [r, classes]
    both, either = (
      counts @ np.asarray(statistics[name], np.float64)[:, first:]
      for name in ("intersections", "unions")
    )
    occurs = either > 0
    share = np.divide(both, either, out=np.zeros_like(both), where=occurs)
    with np.errstate(invalid="ignore"):
      return np.asarray(share.sum(1) / occurs.sum(1))

  return metric


TASK = Task(
  name="masks",
  unit="images",
  loss=loss,
  statistics=statistics,
  metrics={
    "miou": _mean_over_classes(first=1),
    "miou_with_background": _mean_over_classes(first=0),
  },
)
