"""Flags of the commands that several processes can run together."""

from absl import flags

from keyjax import processes

_MULTIHOST = flags.DEFINE_bool(
  "multihost", False, "Join the other hosts of a TPU slice."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", "", "host:port of process 0, to join processes elsewhere."
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", 0, "Number of processes to join."
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", -1, "Number of this process, from 0."
)


def join() -> None:
  """Join the other processes, if the flags ask for it.

  Call it before anything asks JAX for its devices.

  Raises:
    ValueError: See `keyjax.processes.initialize`.
  """
  if _MULTIHOST.value or _COORDINATOR.value:
    processes.initialize(
      _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
