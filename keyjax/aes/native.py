"""AES in machine code, as custom calls of XLA on a CPU.

`csrc` holds handlers that XLA calls on its own buffers: there are no copies and
no limit on sizes. They use the AES instructions of the processor and never
enter Python: a Python signal handler cannot run inside a call, no call waits
for Python's lock, and the interpreter can end while one is pending.

`pip install` compiles them where there is a C compiler. Without them, on a
processor without such instructions, or with KEYJAX_NATIVE=0 in the environment,
the bit-sliced circuit computes the same bytes, 7 to 20 times more slowly.
Programs for `jax.export` need the circuit: a custom call exists only in this
process.

References:
  OpenXLA, "Foreign Function Interface", xla/ffi/api/c_api.h.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from keyjax.aes import library

NAMES = (
  "keyjax_keystream",
  "keyjax_keystream_swapped",
  "keyjax_xor",
  "keyjax_counter_lock",
  "keyjax_counter_unlock",
  "keyjax_chain_lock",
  "keyjax_chain_unlock",
  "keyjax_ecb_encrypt",
  "keyjax_ecb_decrypt",
  "keyjax_gcm_seal",
  "keyjax_gcm_open",
  "keyjax_chunks_seal",
  "keyjax_chunks_open",
)


def _register() -> ctypes.CDLL | None:
  """Register the handlers and return their library; None if there is none."""
  found = library.find()
  if found is not None:
    for name in NAMES:
      capsule = jax.ffi.pycapsule(getattr(found, name))
      jax.ffi.register_ffi_target(name, capsule, platform="cpu")
  return found


_library = _register()  # XLA holds pointers into it.


def available() -> bool:
  """Return whether `call` can be used."""
  return _library is not None


def varying(result: Any, *args: jax.Array) -> jax.ShapeDtypeStruct:
  """Describe a result that depends on arguments.

  In `shard_map` it varies over every axis that one of them varies over: JAX
  cannot see that, and would take the results of all devices for equal.

  Args:
    result: Array, or shape and dtype.
    *args: Arguments that the result depends on.
  """
  found = [jax.typeof(x) for x in args]
  axes = frozenset().union(*(x.manual_axis_type.varying for x in found))
  meshes = [x.sharding.mesh for x in found if x.manual_axis_type.varying]
  return jax.ShapeDtypeStruct(
    result.shape,
    result.dtype,
    sharding=NamedSharding(meshes[0], PartitionSpec()) if meshes else None,
    manual_axis_type=jax.sharding.ManualAxisType(varying=axes),
  )


def call(
  name: str, results: Sequence[jax.ShapeDtypeStruct], *args: jax.Array
) -> Any:
  """Call a handler.

  Args:
    name: One of `NAMES`.
    results: Shapes and dtypes of the results; from `varying` for those that do
      not depend on all arguments.
    *args: Arrays; the first one is a key schedule.

  Returns:
    Tuple of the filled arrays.

  Raises:
    RuntimeError: If there are no handlers.
  """
  if not available():
    raise RuntimeError(
      'impl="host" needs the compiled cipher, which is missing or switched '
      'off (KEYJAX_NATIVE=0): use impl="auto", or install KeyJAX where there '
      "is a C compiler"
    )
  typed = [
    varying(x, *args) if x.manual_axis_type is None else x for x in results
  ]
  return jax.ffi.ffi_call(name, tuple(typed), vmap_method="expand_dims")(*args)
