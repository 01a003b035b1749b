"""XLA flags of the tests and of the processes that they start."""

# A busy machine may take minutes to bring 8 virtual devices to a collective:
# by default XLA ends the process after 40 seconds. One LLVM module per program
# costs less processor time than 32, and the tests use all processors anyway.
_FLAGS = (
  "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120",
  "--xla_cpu_collective_call_terminate_timeout_seconds=600",
  "--xla_cpu_collective_timeout_seconds=600",
  "--xla_cpu_parallel_codegen_split_count=1",
)


def with_devices(count: int) -> str:
  """Return the value of XLA_FLAGS for a number of virtual CPU devices."""
  devices = f"--xla_force_host_platform_device_count={count}"
  return " ".join((*_FLAGS, devices))
