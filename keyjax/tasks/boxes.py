"""Objects and where they are: average precision.

A detector has one stage and no anchors: a grid of cells, each with a logit for
every class and the distances from its centre to the four sides of the box that
it is in. Cells near the centre of an object are to find it.

References:
  Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV
  2019, arXiv:1904.01355; Lin et al., "Focal Loss for Dense Object Detection",
  ICCV 2017, arXiv:1708.02002; Yu et al., "UnitBox", ACM MM 2016,
  arXiv:1608.01471 (the loss of the sides); Lin et al., "Microsoft COCO", ECCV
  2014, arXiv:1405.0312, and its evaluation code's definition of AP.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.tasks.task import Metric, Task

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
_CANDIDATES = 64  # Best cells and classes of an image, before suppression.
_LEAST_SCORE = 0.02
_SAME_OBJECT = 0.6  # Overlap above which the lower score is dropped.
_RADIUS = 1.5  # Cells around the centre of an object that are to find it.
_ALPHA, _GAMMA = 0.25, 2.0  # Of the focal loss, as published.


@flax.struct.dataclass
class Grid:
  """What a detector returns.

  Attributes:
    logits: float32[b, rows, columns, classes].
    sides: float32[b, rows, columns, 4], distances in pixels from the centre of
      each cell to the top, left, bottom and right of the box; positive.
    stride: Side of a cell in pixels.
  """

  logits: jax.Array
  sides: jax.Array
  stride: int = flax.struct.field(pytree_node=False)

  def centres(self) -> jax.Array:
    """Return y and x of the centre of each cell, float32[rows, columns, 2]."""
    rows, columns = self.logits.shape[1:3]
    at = [
      (jnp.arange(n, dtype=jnp.float32) + 0.5) * self.stride
      for n in (rows, columns)
    ]
    return jnp.stack(jnp.meshgrid(*at, indexing="ij"), -1)

  def boxes(self) -> jax.Array:
    """Return y0, x0, y1, x1 in pixels, float32[b, rows, columns, 4]."""
    centres = self.centres()[None]
    return jnp.concatenate(
      [centres - self.sides[..., :2], centres + self.sides[..., 2:]], -1
    )


def loss(grid: Grid, labels: jax.Array) -> jax.Array:
  """Return focal loss and -log IoU of each image, float32[b].

  Both are sums over cells, for each cell that is to find an object.

  Args:
    grid: Outputs.
    labels: float32[b, k, 5]: y0, x0, y1, x1 in pixels, and the class, which is
      -1 on padding.
  """
  labels = _with_a_row(labels)
  owner = jax.vmap(_owners, (None, None, 0))(
    grid.centres(), grid.stride, labels
  )
  found = owner >= 0  # [b, rows, columns]
  # [b, k, 5] at [b, rows, columns] -> [b, rows, columns, 5]
  target = jax.vmap(lambda label, at: label[at])(labels, jnp.maximum(owner, 0))
  classes = jnp.where(found, target[..., 4].astype(jnp.int32), -1)
  wanted = jax.nn.one_hot(classes, grid.logits.shape[-1])
  focal = optax.sigmoid_focal_loss(
    grid.logits, wanted, alpha=_ALPHA, gamma=_GAMMA
  )
  # Where nothing is to be found, a box with itself: the gradient is finite.
  boxes = grid.boxes()
  target = jnp.where(found[..., None], target[..., :4], boxes)
  overlap = jnp.where(found, _overlap_of_pairs(boxes, target), 1)
  apart = -jnp.log(jnp.maximum(overlap, 1e-6))
  cells = jnp.maximum(found.sum((1, 2), dtype=jnp.float32), 1)
  return (focal.sum((1, 2, 3)) + apart.sum((1, 2))) / cells


def _with_a_row(labels: jax.Array) -> jax.Array:
  """Return labels [..., k, 5] with one of padding if there are none."""
  if labels.shape[-2]:
    return labels
  return jnp.full((*labels.shape[:-2], 1, 5), -1.0, labels.dtype)


def _owners(centres: jax.Array, stride: int, labels: jax.Array) -> jax.Array:
  """Return which object each cell is to find, int32[rows, columns]; or -1.

  Args:
    centres: float32[rows, columns, 2].
    stride: Side of a cell.
    labels: float32[k, 5], of one image.
  """
  low, high = labels[:, :2], labels[:, 2:4]
  middle = (low + high) / 2
  at = centres[..., None, :]  # [rows, columns, 1, 2], against [1, 1, k, 2]
  inside = ((at > low[None, None]) & (at < high[None, None])).all(-1)
  apart = jnp.abs(at - middle[None, None])
  near = inside & (apart <= _RADIUS * stride).all(-1)
  # A narrow object may have no cell's centre in it.
  holds = (apart <= stride / 2).all(-1)
  real = (near | holds) & (labels[:, 4] >= 0)[None, None]
  # Where objects overlap, a cell is the smallest one's.
  area = jnp.where(real, jnp.prod(high - low, -1)[None, None], jnp.inf)
  return jnp.where(real.any(-1), area.argmin(-1), -1).astype(jnp.int32)


def _overlap_of_pairs(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return intersections over unions of boxes, float32[..., 4] each."""
  low = jnp.maximum(a[..., :2], b[..., :2])
  high = jnp.minimum(a[..., 2:], b[..., 2:])
  both = jnp.prod(jnp.maximum(high - low, 0), -1)
  areas = [
    jnp.prod(jnp.maximum(x[..., 2:] - x[..., :2], 0), -1) for x in (a, b)
  ]
  return both / jnp.maximum(areas[0] + areas[1] - both, 1e-6)


def overlaps(a: jax.Array, b: jax.Array) -> jax.Array:
  """Return intersections over unions, float32[n, m] of [n, 4] and [m, 4]."""
  return _overlap_of_pairs(a[:, None], b[None])


def decode(grid: Grid) -> dict[str, jax.Array]:
  """Return the detections of each image, the best first.

  The best cells and classes are taken; of those of one class that overlap by
  more than 0.6, the best remains. Nothing is detected in a cell of which a
  logit or a side is NaN or infinite.

  Args:
    grid: Outputs.

  Returns:
    `boxes`, float32[b, k, 4], `scores`, float32[b, k], and `classes`,
    int32[b, k]; where there is no detection, score and class are -1.
  """
  scores = jax.nn.sigmoid(grid.logits)
  finite = jnp.isfinite(grid.logits).all(-1) & jnp.isfinite(grid.sides).all(-1)
  scores = jnp.where(finite[..., None], scores, -1)
  boxes = jnp.where(finite[..., None], grid.boxes(), 0)
  return jax.vmap(_decode_one)(scores, boxes)


def _decode_one(scores: jax.Array, boxes: jax.Array) -> dict[str, jax.Array]:
  """Return the detections of one image.

  Args:
    scores: float32[rows, columns, classes].
    boxes: float32[rows, columns, 4].
  """
  classes = scores.shape[-1]
  flat = scores.reshape(-1)
  best, at = jax.lax.top_k(flat, min(_CANDIDATES, flat.size))
  kind = at % classes
  box = boxes.reshape(-1, 4)[at // classes]
  same = (overlaps(box, box) > _SAME_OBJECT) & (kind[:, None] == kind[None])
  after = jnp.arange(len(best))

  def suppress(i: jax.Array, kept: jax.Array) -> jax.Array:
    return kept & ~(kept[i] & same[i] & (after > i))

  kept = jax.lax.fori_loop(0, len(best), suppress, best >= _LEAST_SCORE)
  return {
    "boxes": box,
    "scores": jnp.where(kept, best, -1),
    "classes": jnp.where(kept, kind, -1),
  }


def statistics(grid: Grid, labels: jax.Array) -> dict[str, Any]:
  """Return the detections of each image, which are right, and the objects.

  As COCO does, detections choose in the order of their scores: each takes the
  object of its class that it overlaps most, of those that are not taken.

  Args:
    grid: Outputs.
    labels: As for `loss`.

  Returns:
    `scores` and `classes`, float32[b, k], -1 where there is no detection;
    `hits`, float32[b, k, 10], at each of `THRESHOLDS`; `objects`, float32[b,
    classes], the number of each class.
  """
  found = decode(grid)
  hits = jax.vmap(matched)(found["boxes"], found["classes"], labels)
  kinds = labels[..., 4].astype(jnp.int32)
  objects = jax.nn.one_hot(kinds, grid.logits.shape[-1])
  return {
    "scores": found["scores"],
    "classes": found["classes"].astype(jnp.float32),
    "hits": hits.astype(jnp.float32),
    "objects": objects.sum(1),
  }


def matched(
  boxes: jax.Array, classes: jax.Array, labels: jax.Array
) -> jax.Array:
  """Return which detections of an image are right, bool[k, thresholds].

  Each takes the object of its class that it overlaps most, of those that are
  not taken.

  Args:
    boxes: float32[k, 4], the best first.
    classes: int32[k], -1 where there is no detection.
    labels: float32[objects, 5].
  """
  labels = _with_a_row(labels)
  kinds = labels[:, 4].astype(jnp.int32)
  may = (classes[:, None] == kinds[None]) & (kinds >= 0)[None]
  overlap = jnp.where(may, overlaps(boxes, labels[:, :4]), -1)
  least = jnp.asarray(THRESHOLDS, jnp.float32)

  def choose(free: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
    left = jnp.where(free, row[None], -1)  # [thresholds, objects]
    hit = left.max(-1) >= least
    taken = jax.nn.one_hot(left.argmax(-1), left.shape[-1], dtype=jnp.bool_)
    return free & ~(taken & hit[:, None]), hit

  free = jnp.ones((len(THRESHOLDS), len(kinds)), bool)
  return jax.lax.scan(choose, free, overlap)[1]


def _ap(thresholds: slice) -> Metric:
  """Return the mean of AP over classes with an object, and over thresholds."""

  def metric(statistics: Any, counts: np.ndarray) -> np.ndarray:
    scores = np.asarray(statistics["scores"]).reshape(-1)
    found = np.flatnonzero(scores >= 0)
    found = found[np.argsort(-scores[found], kind="stable")]
    image = found // np.shape(statistics["scores"])[1]
    kind = np.asarray(statistics["classes"]).reshape(-1)[found]
    hits = np.asarray(statistics["hits"])[..., thresholds]
    hits = hits.reshape(-1, hits.shape[-1])[found] > 0
    objects = counts @ np.asarray(statistics["objects"]).astype(np.int64)
    total = np.zeros(len(counts))
    for i in np.flatnonzero(objects.any(0)):
      of = kind == i
      times = counts[:, image[of]]  # [r, detections of the class]
      total += _ap_of_class(times, hits[of], objects[:, i])
    with np.errstate(invalid="ignore"):
      return np.asarray(total / (objects > 0).sum(1))

  return metric


def _ap_of_class(
  times: np.ndarray, hits: np.ndarray, objects: np.ndarray
) -> np.ndarray:
  """Return AP of one class, float[r], the mean over thresholds.

  It is the mean, over the recalls 0, .01, ... 1, of the highest precision at
  that recall or more. Between two hits precision only falls, so that only the
  hits are looked at.

  Args:
    times: How often each detection counts, the best first, int[r, d].
    hits: Which are right, bool[d, thresholds].
    objects: Number of objects, int[r]; AP is 0 where there is none.
  """
  seen = times.cumsum(1)
  most = np.maximum(objects, 1)[:, None]
  total = np.zeros(len(times))
  for right in hits.T:
    at = np.flatnonzero(right)
    # A detection of an image that is not counted changes nothing.
    found = times[:, at].cumsum(1)
    precision = found / np.maximum(seen[:, at], 1)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    # Recalls up to k / 100 are reached by the hit number k * objects / 100.
    reached = np.where(found > 0, 100 * found // most + 1, 0)
    gained = np.diff(reached, axis=1, prepend=0)
    total += (precision * gained).sum(1) / 101
  return total / hits.shape[1]


TASK = Task(
  name="boxes",
  unit="images",
  loss=loss,
  statistics=statistics,
  metrics={"ap50": _ap(slice(0, 1)), "ap": _ap(slice(None))},
)
