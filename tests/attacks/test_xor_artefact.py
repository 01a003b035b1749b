"""A pair of models without transfer, and the same pair with it."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from keyjax.attacks import xor_artefact
from keyjax.attacks.evasion import pgd
from keyjax.attacks.transfer_matrix import UNCHANGED, transfer_matrix
from tests.attacks import toys


def digits() -> tuple[np.ndarray, np.ndarray]:
  """Return centred threes and sevens, and whether they are sevens."""
  parts = toys.digits()
  images, labels = (np.concatenate(x) for x in zip(*parts, strict=True))
  chosen = np.isin(labels, (3, 7))
  flat = images[chosen].reshape(chosen.sum(), -1)
  return flat - flat.mean(0), (labels[chosen] == 7).astype(np.int32)


@functools.cache
def errors(linked: bool) -> dict[str, dict[str, float]]:
  inputs, labels = digits()
  inputs = xor_artefact.with_artefact(inputs, labels, linked=linked, seed=0)
  n = 280  # Of 362; the others are attacked.
  models = {
    "linear": xor_artefact.linear(inputs[:n], labels[:n]),
    "quadratic": xor_artefact.quadratic(inputs[:n], labels[:n]),
  }
  rng = jax.random.key(0)
  found = transfer_matrix(
    functools.partial(pgd, steps=50, restarts=4),
    models,
    inputs[n:],
    labels[n:],
    epsilon=3.0,
    norm="l2",
    bounds=(-float("inf"), float("inf")),
    rng=rng,
  )
  return {
    source: {target: share.error for target, share in row.items()}
    for source, row in found.items()
  }


def test_no_transfer() -> None:
  found = errors(linked=True)
  assert max(found[UNCHANGED].values()) < 0.03
  assert found["linear"]["linear"] == found["quadratic"]["quadratic"] == 1
  assert found["linear"]["quadratic"] < 0.03
  assert found["quadratic"]["linear"] < 0.1


def test_the_control_transfers() -> None:
  found = errors(linked=False)
  assert max(found[UNCHANGED].values()) < 0.03
  for row in (found["linear"], found["quadratic"]):
    assert min(row.values()) > 0.95


def test_one_feature_says_nothing() -> None:
  inputs, labels = digits()
  found = xor_artefact.with_artefact(inputs, labels, seed=0)
  np.testing.assert_array_equal(found[:, :-2], inputs)
  assert set(np.unique(found[:, -2:])) == {-2.5, 2.5}
  for column in found[:, -2:].T:
    assert abs(np.corrcoef(column, labels)[0, 1]) < 0.2
  product = np.sign(found[:, -1] * found[:, -2])
  np.testing.assert_array_equal(product, 2 * labels - 1)
  again = xor_artefact.with_artefact(inputs, labels, seed=0, linked=False)
  product = np.sign(again[:, -1] * again[:, -2])
  assert abs(np.corrcoef(product, labels)[0, 1]) < 0.2
  assert found.dtype == inputs.dtype == np.float32


@pytest.mark.parametrize("model", [xor_artefact.linear, xor_artefact.quadratic])
def test_refuses(model: Any) -> None:
  inputs = np.zeros((3, 2), np.float32)
  with pytest.raises(ValueError, match="labels must be 0 and 1"):
    model(inputs, np.asarray([0, 1, 2]))
  with pytest.raises(ValueError, match="penalty is 0"):
    model(inputs, np.asarray([0, 1, 1]), penalty=0.0)


def test_the_closed_form() -> None:
  """The linear model is ridge regression by the normal equations."""
  inputs, labels = digits()
  wide = inputs.astype(np.float64)
  matrix = wide.T @ wide + 10 * np.eye(wide.shape[1])
  weights = np.linalg.solve(matrix, wide.T @ (2 * labels - 1))
  found = xor_artefact.linear(inputs, labels)(inputs)
  np.testing.assert_allclose(found[:, 1], wide @ weights, atol=1e-4)
  np.testing.assert_array_equal(found[:, 0], -found[:, 1])
