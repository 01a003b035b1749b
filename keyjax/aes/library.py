"""The compiled cipher as a shared library, without JAX.

`pip install` compiles it where there is a C compiler. It is not used without
the AES instructions of the processor, or with KEYJAX_NATIVE=0 in the
environment.
"""

import ctypes
import functools
import os
import pathlib

# The one for VAES and AVX-512 first.
LIBRARIES = ("cipher_wide", "cipher")
FOLDER = pathlib.Path(__file__).parent / "csrc"
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
# Key, base nonce, index and number of the chunks; plaintext, and sealed.
_CHUNKS = (
  *(ctypes.c_char_p, _SIZE, ctypes.c_char_p, ctypes.c_uint64, _SIZE),
  *(_POINTER, _SIZE, _POINTER),
)


def load(name: str) -> ctypes.CDLL | None:
  """Return a library, or None if this machine lacks it or cannot run it."""
  path = FOLDER / f"{name}.abi3.so"
  try:
    library = ctypes.CDLL(str(path))
    library.keyjax_seal_on_host.argtypes = _CHUNKS
    library.keyjax_open_on_host.argtypes = _CHUNKS
  except (OSError, AttributeError):
    return None  # It is missing, or for another machine or source.
  return library if library.keyjax_supported() else None


@functools.cache
def find() -> ctypes.CDLL | None:
  """Return the library that this process uses; None if there is none."""
  if os.environ.get("KEYJAX_NATIVE") == "0":
    return None
  return next(filter(None, map(load, LIBRARIES)), None)
