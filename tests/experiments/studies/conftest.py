"""Studies train networks, by Optax."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion() -> Iterator[None]:
  """Allow the standard promotion, which Optax needs."""
  with jax.numpy_dtype_promotion("standard"):
    yield
