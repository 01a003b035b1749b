"""Weights in another order, over devices too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.schemes.orders import taken


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_a_leaf_that_devices_share_moves_bit_for_bit(dtype: str) -> None:
  made = jnp.zeros((8, 16)).at[:, ::2].set(-0.0).at[0, 1].set(jnp.nan)
  x = np.array(made.astype(dtype))
  bits = f"uint{8 * x.dtype.itemsize}"
  x.view(bits)[0, 3] = 1  # Subnormal.
  mesh = jax.make_mesh((8,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec(None, "a")
  shared = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
  order = jnp.arange(16)[::-1]
  found = np.asarray(taken(shared, order, axis=-1))
  wanted = x[:, ::-1].copy()
  np.testing.assert_array_equal(found.view(bits), wanted.view(bits))
