"""Average precision against a slow and obvious one, and cases by hand."""

import fractions
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import tasks
from keyjax.tasks import boxes

TASK = boxes.TASK
STRIDE = 4


def label(*objects: tuple[float, ...]) -> np.ndarray:
  """Return labels of one image, float32[1, 3, 5]."""
  found = np.full((1, 3, 5), -1, np.float32)
  for i, row in enumerate(objects):
    found[0, i] = row
  return found


def grid(
  *detections: tuple[int, int, int, float], side: float = 4.0, classes: int = 3
) -> boxes.Grid:
  """Return outputs of one image: row, column, class and logit of each."""
  logits = np.full((1, 4, 4, classes), -20, np.float32)
  for row, column, kind, logit in detections:
    logits[0, row, column, kind] = logit
  sides = np.full((1, 4, 4, 4), side, np.float32)
  return boxes.Grid(jnp.asarray(logits), jnp.asarray(sides), STRIDE)


def judge(*pairs: tuple[boxes.Grid, np.ndarray], metric: str = "ap50") -> float:
  found = [boxes.statistics(*pair) for pair in pairs]
  joined = jax.tree.map(lambda *x: np.concatenate(x), *found)
  return TASK.value(joined, metric)


# The centre of cell (1, 1) is at 6, 6: with sides of 4, a box from 2 to 10.
OBJECT = (2, 2, 10, 10, 0)


def test_an_object_that_is_found_gives_one() -> None:
  pair = grid((1, 1, 0, 5)), label(OBJECT)
  assert judge(pair) == judge(pair, metric="ap") == 1


def test_a_detection_of_another_class_is_no_hit() -> None:
  assert judge((grid((1, 1, 1, 5)), label(OBJECT))) == 0


def test_a_missed_object_halves_recall() -> None:
  # Precision is 1 at the recalls 0, .01, ... .5, and 0 beyond.
  found = judge((grid((1, 1, 0, 5)), label(OBJECT, (0, 8, 6, 14, 0))))
  assert found == pytest.approx(51 / 101)


def test_a_second_detection_of_an_object_is_an_error() -> None:
  # The box of cell (2, 2) overlaps that of (1, 1) by .14: both remain.
  one = label((3, 3, 12, 12, 0))
  assert judge((grid((1, 1, 0, 2), (2, 2, 0, 1)), one)) == 1
  # Overlaps of .29 and .78 with the object: the better box has the lower score.
  late = judge((grid((0, 0, 0, 2), (1, 1, 0, 1)), label(OBJECT)))
  assert late == pytest.approx(0.5)


def test_one_object_is_not_found_twice() -> None:
  wide = grid((1, 1, 0, 2), (1, 2, 0, 1), side=8.0)
  # Both boxes overlap it by more than .5, and one another by .6 at most.
  found = boxes.statistics(wide, label((-2, 0, 14, 16, 0)))
  assert found["hits"][0, :2, 0].tolist() == [1, 0]
  assert (np.asarray(found["scores"][0, :2]) > 0).all()


def test_cells_that_agree_are_one_detection() -> None:
  logits = np.full((1, 4, 4, 3), -20, np.float32)
  sides = np.full((1, 4, 4, 4), 4, np.float32)
  logits[0, 1, 1:3, 0] = 5, 4
  sides[0, 1, 2] = 4, 8, 4, 0.5  # Nearly the box of the cell to its left.
  found = boxes.statistics(
    boxes.Grid(*map(jnp.asarray, (logits, sides)), 4), label(OBJECT)
  )
  assert (np.asarray(found["scores"]) >= 0).sum() == 1


def test_classes_without_objects_do_not_count() -> None:
  assert judge((grid((1, 1, 0, 5), (3, 3, 2, 5)), label(OBJECT))) == 1
  assert np.isnan(judge((grid((1, 1, 0, 5)), label())))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_no_detections(value: float) -> None:
  outputs = grid((1, 1, 0, value))
  assert judge((outputs, label(OBJECT))) == 0
  assert (
    np.asarray(boxes.statistics(outputs, label(OBJECT))["scores"]) < 0
  ).all()
  sides = outputs.sides.at[0, 1, 1, 0].set(value)
  outputs = grid((1, 1, 0, 5)).replace(sides=sides)
  assert judge((outputs, label(OBJECT))) == 0


def test_overlaps_are_those_of_hand() -> None:
  a = jnp.asarray([[0, 0, 2, 2], [5, 5, 5, 5]], jnp.float32)
  b = jnp.asarray([[1, 0, 3, 2], [0, 0, 2, 2], [4, 4, 3, 3]], jnp.float32)
  want = [[1 / 3, 1, 0], [0, 0, 0]]
  np.testing.assert_allclose(boxes.overlaps(a, b), want, rtol=1e-6)


# ------------------------------------------------- against a slow computation


def slow_ap(found: Any, rows: list[int], thresholds: list[int]) -> float:
  """Return AP of some images, one detection after the other."""
  classes = np.asarray(found["objects"]).shape[1]
  values = []
  for kind in range(classes):
    objects = sum(int(found["objects"][i, kind]) for i in rows)
    if not objects:
      continue
    listed = [
      (-float(found["scores"][i, j]), i, j)
      for i in rows
      for j in range(found["scores"].shape[1])
      if found["scores"][i, j] >= 0 and found["classes"][i, j] == kind
    ]
    for t in thresholds:
      points, right = [], 0
      for rank, (_, i, j) in enumerate(sorted(listed), 1):
        right += int(found["hits"][i, j, t])
        points.append((fractions.Fraction(right, objects), right / rank))
      values.append(
        np.mean(
          [
            max(
              (p for r, p in points if r >= fractions.Fraction(k, 100)),
              default=0,
            )
            for k in range(101)
          ]
        )
      )
  return float(np.mean(values)) if values else np.nan


def some_statistics(images: int, classes: int = 3) -> dict[str, np.ndarray]:
  """Return detections of which a third are right, less so at high overlap."""
  rng = np.random.default_rng(0)
  kept = 6
  kind = rng.integers(-1, classes, (images, kept))
  hits = rng.random((images, kept, 1)) > np.linspace(0.4, 0.9, 10)
  # Distinct scores: those of equal ones come in any order.
  scores = rng.permutation(images * kept).reshape(images, kept) / 1e3
  objects = np.stack(
    [(hits[..., 0] & (kind == i)).sum(1) for i in range(classes)], 1
  ) + rng.integers(0, 2, (images, classes))
  return {
    "scores": np.where(kind < 0, -1, scores).astype(np.float32),
    "classes": kind.astype(np.float32),
    "hits": (hits & (kind >= 0)[..., None]).astype(np.float32),
    "objects": objects.astype(np.float32),
  }


@pytest.mark.parametrize(
  ("metric", "thresholds"), [("ap50", [0]), ("ap", list(range(10)))]
)
def test_ap_is_that_of_a_slow_computation(metric: str, thresholds: Any) -> None:
  found = some_statistics(12)
  rng = np.random.default_rng(1)
  draws = [np.arange(12), *rng.integers(0, 12, (4, 12))]
  counts = np.stack([np.bincount(x, minlength=12) for x in draws])
  values = TASK.metrics[metric](found, counts)
  want = [slow_ap(found, x.tolist(), thresholds) for x in draws]
  np.testing.assert_allclose(values, want, atol=1e-12)
  assert 0.1 < values.min() and values.max() < 0.9


def test_a_class_that_a_resample_lacks_does_not_count() -> None:
  found = some_statistics(3)
  found["objects"][:2, 2] = 0
  found["hits"][:2][found["classes"][:2] == 2] = 0
  counts = np.asarray([[1, 2, 0], [0, 0, 1]])
  want = [slow_ap(found, x, [0]) for x in ([0, 1, 1], [2])]
  np.testing.assert_allclose(TASK.metrics["ap50"](found, counts), want)


@pytest.mark.slow
def test_a_bootstrap_takes_a_second() -> None:
  found = some_statistics(200, classes=10)
  counts = np.random.default_rng(0).multinomial(200, [1 / 200] * 200, 1000)
  start = time.process_time()  # Not what others on the machine take.
  TASK.metrics["ap50"](found, counts)
  TASK.metrics["ap"](found, counts)
  assert time.process_time() - start < 4


# ------------------------------------------------------------------- the loss


def test_the_loss_falls_where_cells_find_their_objects() -> None:
  labels = jnp.asarray(label(OBJECT, (8, 8, 16, 16, 2)))
  good = grid()
  logits = good.logits
  for row, column, kind in ((1, 1, 0), (2, 2, 0), (2, 2, 2), (3, 3, 2)):
    logits = logits.at[0, row, column, kind].set(4.0)
  right = boxes.loss(good.replace(logits=logits), labels)
  worse = boxes.loss(good.replace(logits=-logits), labels)
  far = boxes.loss(good.replace(logits=logits, sides=good.sides + 8), labels)
  assert right.shape == (1,) and right < far < worse


def test_gradients_are_finite_without_objects() -> None:
  gradients = jax.grad(lambda g: boxes.loss(g, label()).sum())(grid())
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))


def test_labels_may_have_no_row() -> None:
  """As those of images of which none has an object."""
  none, padded = np.zeros((1, 0, 5), np.float32), label()
  found = grid((1, 1, 0, 3.0))
  for name in (boxes.loss, boxes.statistics):
    jax.tree.map(
      np.testing.assert_array_equal, name(found, none), name(found, padded)
    )


def test_a_cell_in_two_objects_is_the_smaller_ones() -> None:
  labels = label((-8, -8, 16, 16, 1), (4, 4, 12, 12, 2))
  outputs = grid()
  owner = boxes._owners(outputs.centres(), STRIDE, jnp.asarray(labels[0]))
  assert owner[1:3, 1:3].tolist() == [[1, 1], [1, 1]]
  # Cells further than 1.5 cells from the centre find nothing.
  assert owner[3].tolist() == [-1] * 4


def test_the_task_is_known() -> None:
  assert tasks.get("boxes") is TASK and TASK.metric == "ap50"
  assert TASK.is_share
