"""Memory of restored arrays: small ones share a block and never overlap."""

import jax
import ml_dtypes
import numpy as np
import pytest

from keyjax.checkpoint.parts import memory


def span(x):
  return x.ctypes.data, x.ctypes.data + x.nbytes


def test_arrays_are_zeros_that_do_not_overlap(monkeypatch):
  monkeypatch.setattr(memory, "_BLOCK_BYTES", 1 << 12)
  monkeypatch.setattr(memory, "_LARGE_BYTES", 1 << 10)
  blocks = memory.Blocks()
  shapes = [(), (0, 3), (5,), (7, 11), (1 << 9,), (3,), (1000,), (63,), (64,)]
  dtypes = (np.uint8, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)
  made = []
  for dtype in map(np.dtype, dtypes):
    for shape in shapes:
      x = blocks.zeros(shape, dtype)
      assert x.shape == shape and x.dtype == dtype and not x.any()
      assert x.ctypes.data % 64 == 0 and x.flags.c_contiguous
      x[...] = 1  # What another array must not see.
      made.append(x)
  assert all((x == 1).all() for x in made)
  spans = sorted(span(x) for x in made if x.size)
  assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_a_large_array_has_a_block_of_its_own():
  blocks = memory.Blocks()
  small = [blocks.zeros((100,), np.dtype(np.float32)) for _ in range(2)]
  large = blocks.zeros((memory._LARGE_BYTES,), np.dtype(np.uint8))
  assert small[0].base is small[1].base
  assert large.base is not small[0].base
  assert large.ctypes.data % memory._PAGE_BYTES == 0


@pytest.mark.parametrize("donated", (0, 1))
def test_a_donated_neighbour_changes_nothing(donated):
  """JAX adopts both arrays, and may write to the one that is donated."""
  blocks = memory.Blocks()
  arrays = []
  for value in (1, 2):
    x = blocks.zeros((64,), np.dtype(np.float32))
    x[...] = value
    arrays.append(jax.device_put(x))
  add = jax.jit(lambda x: x + 10, donate_argnums=0)
  out = jax.block_until_ready(add(arrays[donated]))
  assert (out == 11 + donated).all()
  assert (arrays[1 - donated] == 2 - donated).all()
