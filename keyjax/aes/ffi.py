"""Host functions as custom calls of XLA on a CPU, on XLA's own buffers.

`jax.pure_callback` copies inputs and outputs, and copies large inputs on the
thread pool that the calling program occupies, which can deadlock. Here `ctypes`
makes the handler that XLA calls: it reads arguments and writes results in
place. XLA keeps this binary interface stable and refuses handlers of another
major version.

References:
  OpenXLA, "Foreign Function Interface", xla/ffi/api/c_api.h.
"""

import ctypes
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

_MAJOR, _MINOR = 0, 3
_METADATA, _EXECUTE, _INTERNAL = 1, 3, 13
_DTYPES = {1: np.bool_, 6: np.uint8, 7: np.uint16, 8: np.uint32}
_READ, _WRITE = 0x100, 0x200
# New memory costs more than the cipher unless it is in large pages.
_HUGE_PAGE, _MADV_HUGEPAGE = 1 << 21, 14
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_int, _int64 = ctypes.c_int, ctypes.c_int64

_memory = ctypes.PYFUNCTYPE(ctypes.py_object, _pointer, ctypes.c_ssize_t, _int)(
  ("PyMemoryView_FromMemory", ctypes.pythonapi)
)


class _Buffer(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", _pointer),
    ("dtype", _int),
    ("data", _pointer),
    ("rank", _int64),
    ("dims", ctypes.POINTER(_int64)),
  )


class _Buffers(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", _pointer),
    ("size", _int64),
    ("types", _pointer),
    ("items", ctypes.POINTER(ctypes.POINTER(_Buffer))),
  )


class _Version(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", _pointer),
    ("major", _int),
    ("minor", _int),
  )


class _Metadata(ctypes.Structure):
  _fields_ = (("struct_size", _size), ("version", _Version))


class _Extension(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("type", _int),
    ("next", _pointer),
    ("metadata", ctypes.POINTER(_Metadata)),
  )


class _Error(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", _pointer),
    ("message", ctypes.c_char_p),
    ("code", _int),
  )


class _Api(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", _pointer),
    ("version", _Version),
    ("internal", _pointer),
    ("make_error", ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(_Error))),
  )


class _Frame(ctypes.Structure):
  _fields_ = (
    ("struct_size", _size),
    ("extension", ctypes.POINTER(_Extension)),
    ("api", ctypes.POINTER(_Api)),
    ("context", _pointer),
    ("stage", _int),
    ("args", _Buffers),
    ("results", _Buffers),
  )


_Handler = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(_Frame))
_handlers: list[Any] = []  # XLA holds pointers to them, not references.


def _arrays(buffers: _Buffers, flags: int) -> list[np.ndarray]:
  """Return the buffers as arrays that own no memory."""
  out = []
  for i in range(buffers.size):
    buffer = buffers.items[i].contents
    shape = buffer.dims[: buffer.rank] if buffer.rank else []
    dtype = np.dtype(_DTYPES[buffer.dtype])
    size = math.prod(shape) * dtype.itemsize
    if size == 0:
      out.append(np.zeros(shape, dtype))
      continue
    data = _memory(buffer.data, size, flags)
    out.append(np.frombuffer(data, dtype).reshape(shape))
  return out


def _advise(x: np.ndarray) -> None:
  """Ask the kernel for large pages for a large result."""
  first = -(-x.ctypes.data // _HUGE_PAGE) * _HUGE_PAGE
  size = (x.ctypes.data + x.nbytes) // _HUGE_PAGE * _HUGE_PAGE - first
  if _LIBC is not None and size > 0:
    _LIBC.madvise(_pointer(first), _size(size), _MADV_HUGEPAGE)


def _run(work: Callable[..., None], frame: _Frame) -> None:
  args = _arrays(frame.args, _READ)
  results = _arrays(frame.results, _WRITE)
  for x in results:
    _advise(x)
  # Leading axes are those of `jax.vmap`, of size 1 for arguments that are not
  # mapped. The first argument without them is a matrix: [*axes, rows, columns].
  axes = args[0].ndim - 2
  shape = results[0].shape[:axes]
  args = [np.broadcast_to(x, (*shape, *x.shape[axes:])) for x in args]
  for i in itertools.product(*map(range, shape)):
    at: Any = (*i, ...)  # An array even if no axis is left.
    work([x[at] for x in args], [x[at] for x in results])


def register(name: str, work: Callable[..., None]) -> None:
  """Register a function for use by `call` in programs for a CPU.

  Args:
    name: Name of the custom call.
    work: Function of a list of arrays to read and a list of arrays to fill. It
      may run on any thread, and on several at once.
  """

  def handle(frame: Any) -> int | None:
    frame = frame.contents
    if frame.extension and frame.extension.contents.type == _METADATA:
      version = frame.extension.contents.metadata.contents.version
      version.major, version.minor = _MAJOR, _MINOR
    elif frame.stage == _EXECUTE:
      try:
        _run(work, frame)
      except BaseException as error:  # XLA must receive every one.
        text = f"{name}: {type(error).__name__}: {error}".encode()
        args = _Error(ctypes.sizeof(_Error), None, text, _INTERNAL)
        return frame.api.contents.make_error(ctypes.byref(args))
    return None

  _handlers.append(_Handler(handle))
  capsule = jax.ffi.pycapsule(_handlers[-1])
  jax.ffi.register_ffi_target(name, capsule, platform="cpu")


def call(
  name: str, results: Sequence[jax.ShapeDtypeStruct], *args: jax.Array
) -> Any:
  """Call a registered function.

  Args:
    name: Name given to `register`.
    results: Shapes and dtypes of the results.
    *args: Arrays; the first one has two axes.

  Returns:
    Tuple of the filled arrays.
  """
  return jax.ffi.ffi_call(name, tuple(results), vmap_method="expand_dims")(
    *args
  )
