"""Tasks: metrics whose values are known, intervals, and what is not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import tasks
from keyjax.attacks import intervals

RNG = np.random.default_rng(0)


def found(name: str, outputs: Any, labels: Any) -> Any:
  """Return the statistics of a task, as a program computes them."""
  statistics = tasks.get(name).statistics
  return jax.device_get(jax.jit(statistics)(outputs, labels))


def test_every_task_says_what_it_is() -> None:
  assert {"classes", "embeddings", "returns", "tokens", "words"} <= {
    *tasks.names()
  }
  for name in tasks.names():
    task = tasks.get(name)
    assert task.name == name and task.metric in task.metrics
  with pytest.raises(
    ValueError, match=r"unknown task 'mask'; known: .*classes"
  ):
    tasks.get("mask")


def test_classes() -> None:
  logits = jnp.asarray(RNG.normal(size=(50, 4)), jnp.float32)
  labels = jnp.asarray(RNG.integers(0, 4, 50))
  hits = found("classes", logits, labels)
  want = float((np.asarray(logits).argmax(-1) == np.asarray(labels)).mean())
  assert tasks.CLASSES.value(hits) == want
  low, high = intervals.of_metric(tasks.CLASSES, hits)
  exact = intervals.clopper_pearson(round(50 * want), 50)
  assert (low, high) == exact


def test_tokens_leave_padding_out() -> None:
  """Two tokens of one sequence and four of another count as six."""
  labels = jnp.asarray([[1, 2, -1, -1], [0, 1, 2, 3]])
  logits = jnp.zeros((2, 4, 4)).at[0, :2, 1].set(100.0)
  task = tasks.get("tokens")
  stats = found("tokens", logits, labels)
  assert task.value(stats) == pytest.approx(2 / 6)  # 1; and the argmax of ties.
  # Sequence 0: 0 and 100 nats; sequence 1: log 4 each.
  nats = (100 + 4 * np.log(4)) / 6
  assert task.value(stats, "perplexity") == pytest.approx(np.exp(nats))
  assert np.allclose(task.loss(logits, labels), [50, np.log(4)])
  assert task.units(labels) == 4


def test_perplexity_that_overflows_is_infinite() -> None:
  stats = {"hits": np.zeros(2), "tokens": np.ones(2), "nats": np.full(2, 1e9)}
  assert np.isinf(tasks.get("tokens").value(stats, "perplexity"))


def test_cosine_of_zero_is_zero() -> None:
  vectors = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
  wanted = jnp.asarray([[6.0, 8.0], [1.0, 0.0], [-1.0, 0.0]])
  stats = found("embeddings", vectors, wanted)
  assert np.allclose(stats["cosine"], [1, 0, -1])
  slope = jax.grad(lambda v: tasks.get("embeddings").loss(v, wanted).sum())
  assert np.isfinite(slope(vectors)).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_a_cosine_is_that_of_any_length(scale: float) -> None:
  vectors = jnp.asarray([[scale, 2 * scale]])
  wanted = jnp.asarray([[2.0, 1.0]])
  for one, other in ((vectors, wanted), (vectors, vectors[:, ::-1])):
    cosine = found("embeddings", one, other)["cosine"]
    np.testing.assert_allclose(cosine, [0.8], rtol=1e-5)
  slope = jax.grad(lambda v: tasks.get("embeddings").loss(v, wanted).sum())
  # Across the vector, towards the one that is wanted: -0.6 / length.
  across = slope(vectors)[0] @ jnp.asarray([2.0, -1.0]) / 5**0.5
  np.testing.assert_allclose(across * scale * 5**0.5, -0.6, rtol=1e-4)


def edits(a: list[int], b: list[int]) -> int:
  """Return the edit distance of two sequences, by its definition."""
  if not a or not b:
    return len(a) + len(b)
  return min(
    edits(a[1:], b) + 1,
    edits(a, b[1:]) + 1,
    edits(a[1:], b[1:]) + (a[0] != b[0]),
  )


def test_word_errors_are_edits_of_what_ctc_reads() -> None:
  read = [[1, 1, 0, 1, 2], [0, 0, 0, 0, 0], [2, 3, 1, 0, 1], [3, 0, 3, 2, 2]]
  said = [[1, 1, 2], [], [2, 3, 1, 1], [3, 3, 2]]
  labels = [[1, 2], [3], [2, 1, 1, 3], [3, 3, 2]]
  padded = np.full((4, 4), -1)
  for row, label in zip(padded, labels, strict=True):
    row[: len(label)] = label
  logits = jax.nn.one_hot(jnp.asarray(read), 4)
  stats = found("words", logits, jnp.asarray(padded))
  want = [edits(a, b) for a, b in zip(said, labels, strict=True)]
  assert stats["errors"].tolist() == want == [1, 1, 2, 0]
  task = tasks.get("words")
  assert task.value(stats, "word_error_rate") == pytest.approx(4 / 10)
  assert task.value(stats) == pytest.approx(6 / 10)
  assert np.isfinite(task.loss(logits, jnp.asarray(padded))).all()


def test_random_words_against_the_definition() -> None:
  read = RNG.integers(0, 3, (20, 5))
  labels = RNG.integers(1, 3, (20, 4))
  stats = found("words", jax.nn.one_hot(jnp.asarray(read), 3), labels)
  for row, label, errors in zip(read, labels, stats["errors"], strict=True):
    before = np.concatenate([[0], row[:-1]])
    said = row[(row != 0) & (row != before)]
    assert errors == edits(said.tolist(), label.tolist())


def test_nan_is_no_word() -> None:
  logits = jnp.full((1, 3, 4), jnp.nan)
  stats = found("words", logits, jnp.asarray([[1, 2]]))
  assert stats["errors"].tolist() == [2]


def test_returns() -> None:
  stats = found("returns", jnp.asarray([3.0, -1.0]), None)
  assert tasks.get("returns").value(stats) == 1
  assert not tasks.get("returns").is_share


def test_what_is_not_finite() -> None:
  logits = jnp.zeros((2, 4, 3)).at[0, 1, 2].set(jnp.nan).at[1].set(jnp.inf)
  assert tasks.nonfinite(logits).tolist() == [0.25, 1]
  assert tasks.nonfinite(jnp.asarray([1.0, jnp.nan])).tolist() == [0, 1]
  boxes = {"at": jnp.zeros((2, 3)), "class": jnp.zeros((2, 3), int)}
  assert tasks.nonfinite(boxes).tolist() == [0, 0]
  boxes["at"] = boxes["at"].at[1, 0].set(jnp.nan)
  assert tasks.nonfinite(boxes).tolist() == [0, 1]
  assert tasks.nonfinite(jnp.zeros((2, 3), int)).tolist() == [0, 0]


def test_imitation_is_least_at_what_is_imitated() -> None:
  logits = jnp.asarray(RNG.normal(size=(3, 2, 4)), jnp.float32)
  for name in ("tokens", "embeddings"):
    loss = tasks.get(name).imitation
    same, other = loss(logits, logits), loss(logits + logits**2, logits)
    assert same.shape == (3,) and (same < other).all()
  pair = {"a": logits, "b": logits[:, 0]}
  assert tasks.get("embeddings").imitation(pair, pair).tolist() == [0, 0, 0]


def test_examples_of_several_numbers_are_refused() -> None:
  assert tasks.num_examples({"a": np.zeros((3, 2)), "b": np.zeros(3)}) == 3
  with pytest.raises(ValueError, match=r"one number of examples, got \[2, 3\]"):
    tasks.num_examples({"a": np.zeros((3, 2)), "b": np.zeros(2)})
  with pytest.raises(ValueError, match=r"got \[\]"):
    tasks.num_examples({})


# ------------------------------------------------------------------ intervals


def test_bootstrap_covers_the_true_value() -> None:
  """Of sequences with shared difficulty, 95 % intervals cover about 95 %."""
  task, covered = tasks.get("tokens"), 0
  rng = np.random.default_rng(1)
  for _ in range(100):
    ease = rng.beta(2, 2, 60)
    stats = {
      "hits": rng.binomial(20, ease).astype(float),
      "tokens": np.full(60, 20.0),
      "nats": np.ones(60),
    }
    low, high = intervals.of_metric(task, stats)
    covered += low <= 0.5 <= high
  assert 88 <= covered <= 100


def test_one_example_says_nothing_of_others() -> None:
  one = {"hits": np.array([2]), "tokens": np.array([5]), "nats": np.ones(1)}
  assert intervals.of_metric(tasks.get("tokens"), one) == (0, 1)
  cosine = {"cosine": np.array([0.5])}
  assert intervals.of_metric(tasks.get("embeddings"), cosine) == (-1, 1)


def test_a_text_without_words_gives_no_warning() -> None:
  read = {"errors": np.array([1, 0, 0]), "length": np.array([0, 3, 3])}
  low, high = intervals.of_metric(tasks.get("words"), read)
  assert not low > 2 / 3 and not high < 5 / 6


def test_the_best_of_many_has_a_wider_interval() -> None:
  stats = {"cosine": RNG.uniform(-1, 1, 40)}
  task = tasks.get("embeddings")
  one = intervals.of_metric(task, stats)
  many = intervals.of_metric(task, stats, among=64)
  assert many[0] < one[0] < task.value(stats) < one[1] < many[1] <= 1
  none = {"hits": np.zeros(40), "tokens": np.ones(40), "nats": np.ones(40)}
  low, high = intervals.of_metric(tasks.get("tokens"), none)
  assert (low, high) == intervals.clopper_pearson(0, 40)
  certain = {"cosine": np.ones(40)}
  assert intervals.of_metric(task, certain, among=64) == (1, 1)


def test_pairs() -> None:
  task = tasks.get("pairs")
  eye = np.eye(3, dtype=np.float32)
  same = np.stack([eye, eye], 1)  # [3, 2, 3]
  mixed = np.stack([eye, eye[[1, 0, 2]]], 1)
  assert task.value(found("pairs", same, same)) == 1
  stats = found("pairs", mixed, same)
  assert task.value(stats) == pytest.approx(1 / 3)
  assert task.value(stats, "cosine") == pytest.approx(2 / 3)
  # The texts of all examples are candidates, however often each one counts.
  counts = np.array([[0, 0, 3], [2, 1, 0]])
  assert task.metrics["retrieval"](stats, counts).tolist() == [1, 0]
  for nothing in (0 * same, np.nan * same):
    stats = found("pairs", nothing, same)
    assert task.value(stats) == 0 == task.value(stats, "cosine")
  good, bad = (task.loss(jnp.asarray(x), None) for x in (same, mixed))
  assert good.shape == (3,) and good.max() < 1e-6
  assert bad[:2].min() > 19 and bad[2] < 1e-6
