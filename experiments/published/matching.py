"""Detections of images of any size against the boxes that are to be found."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.tasks import boxes

_STEP = 32  # Detections are padded to a multiple of it.


class Found(NamedTuple):
  """Detections of one image.

  Attributes:
    boxes: y0, x0, y1, x1 in pixels, float32[n, 4].
    scores: float32[n], in [0, 1].
  """

  boxes: np.ndarray
  scores: np.ndarray


def none() -> Found:
  """Return no detection."""
  return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def statistics(found: Sequence[Found], truth: Sequence[np.ndarray]) -> Any:
  """Return the statistics of the task `boxes`, for one class.

  Args:
    found: Detections of each image.
    truth: Boxes of each image, float32[m, 4].
  """
  # Detections and boxes are padded, for one program.
  most = _rounded(max(len(x.scores) for x in found))
  objects = max(1, *map(len, truth))
  images = len(found)
  scores = np.full((images, most), -1, np.float32)
  at = np.zeros((images, most, 4), np.float32)
  labels = np.full((images, objects, 5), -1, np.float32)
  for i, (own, wanted) in enumerate(zip(found, truth, strict=True)):
    order = np.argsort(-own.scores, kind="stable")
    scores[i, : len(order)] = own.scores[order]
    at[i, : len(order)] = own.boxes[order]
    labels[i, : len(wanted), :4] = wanted
    labels[i, : len(wanted), 4] = 0
  classes = np.where(scores < 0, -1, 0)
  hits = _matched(at, classes, labels)
  return {
    "scores": scores,
    "classes": classes.astype(np.float32),
    "hits": np.asarray(hits, np.float32),
    "objects": np.array([[len(x)] for x in truth], np.float32),
  }


_matched = jax.jit(jax.vmap(boxes.matched))


def _rounded(count: int) -> int:
  return max(1, -(-count // _STEP)) * _STEP


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Return intersections over unions, float32[n, m] of [n, 4] and [m, 4]."""
  return np.asarray(boxes.overlaps(jnp.asarray(a), jnp.asarray(b)))


def suppress(found: Found, most: float, of_smaller: bool = False) -> np.ndarray:
  """Return the indices of detections that remain, the best first.

  Args:
    found: Detections.
    most: Overlap with a better one above which a detection is dropped.
    of_smaller: Whether it is the share of the smaller box, and both count the
      pixels of their edges; otherwise it is the intersection over the union.
  """
  edge = 1.0 if of_smaller else 0.0
  order = np.argsort(-found.scores, kind="stable")
  low, high = found.boxes[:, :2], found.boxes[:, 2:]
  areas = np.prod(high - low + edge, 1)
  kept = []
  while len(order):
    best, order = order[0], order[1:]
    kept.append(best)
    sides = np.minimum(high[best], high[order]) - np.maximum(
      low[best], low[order]
    )
    both = np.prod(np.maximum(sides + edge, 0), 1)
    whole = np.minimum(areas[best], areas[order])
    if not of_smaller:
      whole = areas[best] + areas[order] - both
    order = order[both <= most * whole]
  return np.array(kept, np.int64)
