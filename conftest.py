"""Every test and doctest runs on 8 virtual CPU devices, under strict rules."""

import gc
import os

import pytest

from tests import flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
  (os.environ.get("XLA_FLAGS", ""), flags.with_devices(8))
)

import jax  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def _free_programs():
  """Drop compiled programs after each file: a worker stays below 3 GB.

  What a later file needs again comes from the persistent cache.
  """
  yield
  jax.clear_caches()
  gc.collect()
