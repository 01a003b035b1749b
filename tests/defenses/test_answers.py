"""What a service answers: what is left of probabilities."""

import numpy as np
import pytest

from experiments.membership import replies
from keyjax.defenses import answers

LOGITS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


def test_a_temperature_keeps_the_order_and_can_be_undone():
  found = answers.temperature(LOGITS, 20.0)
  np.testing.assert_array_equal(found.argsort(-1), LOGITS.argsort(-1))
  np.testing.assert_allclose(20 * found, LOGITS, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_greatest_probabilities_stay(k):
  p = np.exp(answers.top(LOGITS, k))
  np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
  for row, wanted in zip(p, P, strict=True):
    kept = np.argsort(-wanted)[:k]
    np.testing.assert_allclose(row[kept], wanted[kept], rtol=1e-6)
    rest = np.delete(row, kept)
    np.testing.assert_allclose(rest, (1 - wanted[kept].sum()) / (6 - k), 1e-5)


def test_equal_probabilities_leave_the_first_ones():
  p = np.exp(answers.top(np.zeros((1, 4)), 2))
  np.testing.assert_allclose(p, 0.25)


@pytest.mark.parametrize("digits", [1, 3])
def test_probabilities_are_rounded(digits):
  p = np.exp(answers.rounded(LOGITS, digits))
  np.testing.assert_allclose(p, np.round(P.astype(float), digits), atol=1e-7)


def test_the_label_alone_says_nothing_else():
  p = np.exp(answers.label(LOGITS))
  np.testing.assert_array_equal(p.argmax(-1), LOGITS.argmax(-1))
  assert np.allclose(np.sort(p, -1)[:, :-1], 0) and np.allclose(p.max(-1), 1)


@pytest.mark.parametrize(
  "reply", ["temperature:2", "top:2", "round:2", "label"]
)
def test_nan_stays_nan_and_stacks_are_kept(reply):
  x = np.stack([LOGITS, LOGITS])
  x[1, 2, 3] = np.nan
  found = replies.parse(reply)[1](x)
  assert found.shape == x.shape
  assert np.isfinite(found[0]).all() and np.isnan(found[1, 2]).any()
  assert np.isfinite(np.delete(found[1], 2, 0)).all()


@pytest.mark.parametrize("reply", ["", "top", "top:x", "labels", "round:1.5"])
def test_an_unknown_reply_is_named(reply):
  with pytest.raises(ValueError, match="choose label, temperature:T"):
    replies.parse(reply)


@pytest.mark.parametrize(
  ("run", "message"),
  [
    (lambda: answers.top(LOGITS, 6), "there are 6 classes"),
    (lambda: answers.top(LOGITS, 0), "top=0"),
    (lambda: answers.temperature(LOGITS, 0.0), "temperature=0.0"),
    (lambda: answers.temperature(LOGITS, np.inf), "temperature="),
    (lambda: answers.rounded(LOGITS, 0), "digits=0"),
    (lambda: answers.label(LOGITS[0]), "logits are float32"),
  ],
)
def test_wrong_arguments_are_named(run, message):
  with pytest.raises(ValueError, match=message):
    run()
