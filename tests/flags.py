"""XLA flags of the tests and of the processes that they start."""

import importlib.metadata
import os

# A busy machine may take minutes to bring 8 virtual devices to a collective:
# by default XLA ends the process after 40 seconds. One LLVM module per program
# costs less processor time than 32, and the tests use all processors anyway.
_FLAGS = (
  "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120",
  "--xla_cpu_collective_call_terminate_timeout_seconds=600",
  "--xla_cpu_collective_timeout_seconds=600",
  "--xla_cpu_parallel_codegen_split_count=1",
)
# Most programs run once, and LLVM at its lowest level compiles them in 37 % of
# the time. Users have its highest, and so does `make test-all`.
_UNOPTIMIZED = "--xla_backend_optimization_level=0"
# The older code generator compiles in 70 % of the time. XLA of JAX 0.10 has
# both, and newer ones end the process at a flag that they do not know. Users
# have the newer one, and so does `make test-all`.
_QUICK = "--xla_cpu_use_fusion_emitters=false"


def _quick() -> tuple[str, ...]:
  if os.environ.get("KEYJAX_TEST_ALL") == "1":
    return ()
  jaxlib = importlib.metadata.version("jaxlib")
  older = (_QUICK,) if jaxlib.startswith("0.10.") else ()
  return (_UNOPTIMIZED, *older)


def with_devices(count: int) -> str:
  """Return the value of XLA_FLAGS for a number of virtual CPU devices."""
  devices = f"--xla_force_host_platform_device_count={count}"
  return " ".join((*_FLAGS, *_quick(), devices))
