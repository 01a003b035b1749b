"""States of training jobs that are stopped."""

from typing import Any

import jax.numpy as jnp


def constant(value: float) -> dict[str, Any]:
  """Return a state full of one value, so that a mix of two saves shows."""
  return {f"leaf_{i}": jnp.full((64, 1024), value) for i in range(4)}
