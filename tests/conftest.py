"""Every test runs on 8 virtual CPU devices, under strict promotion rules."""

import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def bucket_server():
  """Serves buckets on this machine: TensorStore asks once where they are."""
  from tests import buckets

  with buckets.serving():
    yield


@pytest.fixture
def bucket(bucket_server, request):
  """Returns a folder of a bucket, empty."""
  name = "".join(c if c.isalnum() else "-" for c in request.node.name)
  return f"gs://bucket/{name}"
