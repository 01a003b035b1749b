"""Changed weights outside the range of their layer."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.protection import outliers

PLAIN = {
  "a": np.asarray([-1.0, 0.5, 2.0], np.float32),
  "b": np.asarray([0.0, 0.0], np.float32),
  "c": np.asarray([1, 2], np.int8),
}


def test_changed_weights_are_counted_against_their_own_leaf() -> None:
  locked = PLAIN | {"a": np.asarray([-1.5, 1.0, 190.0], np.float32)}
  found = outliers.find(PLAIN, locked)
  assert found == outliers.Outliers(2, pytest.approx(95.0))
  inside = PLAIN | {"a": np.asarray([-1.0, 2.0, -1.0], np.float32)}
  assert outliers.find(PLAIN, inside) == outliers.Outliers(0, 1.0)
  zeros = PLAIN | {"b": np.asarray([0.0, np.nan], np.float32)}
  assert outliers.find(PLAIN, zeros) == outliers.Outliers(1, 0.0)


def test_words_have_no_range() -> None:
  words = {k: jnp.zeros(v.shape, jnp.uint32) for k, v in PLAIN.items()}
  assert outliers.find(PLAIN, words) is None
  assert outliers.find(PLAIN, PLAIN) is None
