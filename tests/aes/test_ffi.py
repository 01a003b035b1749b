"""Host functions as custom calls: memory, vmap, errors and threads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.aes import ffi, host


def _scale(args, results):
  matrix, x = args
  assert not x.flags.writeable
  results[0][...] = x * matrix[0, 0]
  results[1][...] = x.size


def _fail(args, results):
  raise ValueError("no such luck")


ffi.register("keyjax_test_scale", _scale)
ffi.register("keyjax_test_fail", _fail)


def scale(matrix, x):
  results = [host.like(x), jax.ShapeDtypeStruct((), jnp.uint32)]
  return ffi.call("keyjax_test_scale", results, matrix, x)


def two():
  return jnp.full((1, 1), 2, jnp.uint32)


@pytest.mark.parametrize("shape", ((), (0,), (3,), (2, 0, 4), (1 << 20,)))
def test_reads_and_writes_in_place(shape):
  x = jnp.arange(np.prod(shape), dtype=jnp.uint32).reshape(shape)
  out, size = jax.jit(scale)(two(), x)
  np.testing.assert_array_equal(out, 2 * x)
  assert size == x.size


def test_maps_over_either_argument_and_both():
  factors = jnp.arange(3, dtype=jnp.uint32).reshape(3, 1, 1)
  x = jnp.arange(6, dtype=jnp.uint32).reshape(3, 2)
  by_factor, _ = jax.vmap(scale, (0, None))(factors, x[1])
  np.testing.assert_array_equal(by_factor, factors[:, 0] * x[1][None])
  by_x, sizes = jax.vmap(scale, (None, 0))(two(), x)
  np.testing.assert_array_equal(by_x, 2 * x)
  np.testing.assert_array_equal(sizes, [2, 2, 2])
  outer = jax.vmap(jax.vmap(scale, (None, 0)), (0, None))
  np.testing.assert_array_equal(outer(factors, x)[0][2, 1], 2 * x[1])


def test_an_error_in_a_function_reaches_the_caller():
  like = jax.ShapeDtypeStruct((), jnp.uint32)

  @jax.jit
  def fails(x):
    return ffi.call("keyjax_test_fail", [like], x)[0]

  with pytest.raises(jax.errors.JaxRuntimeError, match="no such luck"):
    jax.block_until_ready(fails(two()))
  assert scale(two(), jnp.uint32(4))[0] == 8  # Later calls work.


def test_large_results_on_every_device_at_once():
  n = jax.local_device_count()
  factors = jnp.arange(n, dtype=jnp.uint32).reshape(n, 1, 1)
  x = jnp.ones((n, 1 << 20), jnp.uint32)
  out, _ = jax.pmap(scale)(factors, x)
  np.testing.assert_array_equal(out[:, ::4099], factors[:, 0] * x[:, ::4099])
