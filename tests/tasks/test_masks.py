import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import tasks
from keyjax.tasks import masks

TASK = masks.TASK


def one_hot(classes: np.ndarray, count: int = 3) -> jnp.ndarray:
  return jnp.asarray(10 * np.eye(count, dtype=np.float32)[classes])


LABELS = np.asarray(
  [[[0, 0, 1], [0, 0, 1]], [[0, 0, 0], [2, 2, 0]]], np.uint8
)  # [b, h, w]


def judge(logits: jnp.ndarray, labels: np.ndarray, metric: str = "") -> float:
  return TASK.value(masks.statistics(logits, jnp.asarray(labels)), metric)


def test_masks_that_are_right_give_one() -> None:
  assert judge(one_hot(LABELS), LABELS) == 1


def test_background_alone_gives_nothing() -> None:
  nothing = one_hot(np.zeros_like(LABELS))
  assert judge(nothing, LABELS) == 0
  # Eight of 12 pixels, and two classes of which nothing is found.
  with_background = judge(nothing, LABELS, "miou_with_background")
  assert with_background == pytest.approx(8 / 12 / 3)


def test_the_mean_is_over_sums_of_all_images() -> None:
  found = LABELS.copy()
  found[0, 0, 2] = 2  # One pixel of class 1 is taken for class 2.
  assert judge(one_hot(found), LABELS) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_class_that_occurs_nowhere_does_not_count() -> None:
  assert judge(one_hot(LABELS, 7), LABELS) == 1
  found = LABELS.copy()
  found[0, 0, 0] = 6  # It occurs now.
  assert judge(one_hot(found, 7), LABELS) == pytest.approx(2 / 3)
  assert np.isnan(judge(one_hot(LABELS * 0), LABELS * 0))


def test_a_resample_counts_images() -> None:
  found = LABELS.copy()
  found[0] = 0
  statistics = masks.statistics(one_hot(found), jnp.asarray(LABELS))
  counts = np.asarray([[2, 0], [0, 1], [1, 1], [3, 1]])
  values = TASK.metrics["miou"](statistics, counts)
  np.testing.assert_allclose(values, [0, 1, 0.5, 0.5])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_of_no_class(value: float) -> None:
  logits = one_hot(LABELS).at[..., 1].set(value)
  assert judge(logits, LABELS) == 0
  statistics = masks.statistics(logits, jnp.asarray(LABELS))
  assert statistics["unions"].sum() == LABELS.size  # The truth's alone.


def test_pixels_with_a_negative_label_do_not_count() -> None:
  labels = LABELS.astype(np.int32)
  labels[:, 0] = -1
  found = LABELS.copy()
  found[:, 0] = 1
  assert judge(one_hot(found), labels) == 1
  losses = masks.loss(one_hot(found), jnp.asarray(labels))
  assert losses.shape == (2,) and (losses < 1e-3).all()
  unseen = masks.loss(one_hot(found), jnp.asarray(-np.ones_like(labels)))
  assert unseen.tolist() == [0, 0]


def test_the_task_is_known() -> None:
  assert tasks.get("masks") is TASK and TASK.metric == "miou"
