"""Every test and doctest runs on 8 virtual CPU devices, under strict rules."""

import importlib.util
import os

import pytest

from tests import flags, native

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
  (os.environ.get("XLA_FLAGS", ""), flags.with_devices(8))
)

# Their examples need keyjax[privacy].
_PRIVATE = ("keyjax/defenses/private/", "experiments/membership/private.py")
# No test reaches a TPM of this machine: some change what it accepts for good.
os.environ["TPM2TOOLS_TCTI"] = "device:/nowhere"

native.build()  # A checkout that was not installed has no compiled cipher.

import jax  # noqa: E402

from tests import memory  # noqa: E402

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


memory.collect_garbage_less_often()
memory.share_contexts()


def pytest_collection_finish() -> None:
  """Spare the tests most of Python's garbage collections."""
  memory.leave_out_what_is_imported()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Skip the examples of a folder whose extra is not installed."""
  if importlib.util.find_spec("jax_privacy") is not None:
    return
  reason = "needs pip install 'keyjax[privacy]'"
  for item in items:
    if any(part in item.path.as_posix() for part in _PRIVATE):
      item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _bounded_memory():
  """Keep a worker below 3 GB, or a fifth of the memory if that is more."""
  yield
  memory.free_programs_if_many()
