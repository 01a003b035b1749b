"""Calls of the compiled cipher as XLA makes them, without a program to compile.

The structures are those of xla/ffi/api/c_api.h, version 0.3.
"""

import ctypes
from collections.abc import Sequence

import numpy as np

EXECUTE, METADATA = 3, 1
_DTYPES = {np.bool_: 1, np.uint8: 6, np.uint16: 7, np.uint32: 8, np.float32: 11}

_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_int, _int64 = ctypes.c_int, ctypes.c_int64


def _structure(*fields):
  class Structure(ctypes.Structure):
    _fields_ = (("struct_size", _size), *fields)

  return Structure


Buffer = _structure(
  ("extension", _pointer),
  ("dtype", _int),
  ("data", _pointer),
  ("rank", _int64),
  ("dims", ctypes.POINTER(_int64)),
)
Buffers = _structure(
  ("extension", _pointer),
  ("size", _int64),
  ("types", _pointer),
  ("items", ctypes.POINTER(ctypes.POINTER(Buffer))),
)
Version = _structure(("extension", _pointer), ("major", _int), ("minor", _int))
Metadata = _structure(("version", Version))
Extension = _structure(
  ("type", _int), ("next", _pointer), ("metadata", ctypes.POINTER(Metadata))
)
Error = _structure(
  ("extension", _pointer), ("message", ctypes.c_char_p), ("code", _int)
)
_make_error = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(Error))
Api = _structure(
  ("extension", _pointer),
  ("version", Version),
  ("internal", _pointer),
  ("make_error", _make_error),
)
Frame = _structure(
  ("extension", ctypes.POINTER(Extension)),
  ("api", ctypes.POINTER(Api)),
  ("context", _pointer),
  ("stage", _int),
  ("args", Buffers),
  ("results", Buffers),
)


def _buffers(arrays: Sequence[np.ndarray]) -> tuple[Buffers, list]:
  """Return buffers and what they point to."""
  kept, pointers = [], (ctypes.POINTER(Buffer) * len(arrays))()
  for i, x in enumerate(arrays):
    dims = (_int64 * x.ndim)(*x.shape)
    buffer = Buffer(
      dtype=_DTYPES[x.dtype.type], data=x.ctypes.data, rank=x.ndim, dims=dims
    )
    kept += [buffer, dims, x]
    pointers[i] = ctypes.pointer(buffer)
  return Buffers(size=len(arrays), items=pointers), [*kept, pointers]


def call(
  library: ctypes.CDLL,
  name: str,
  args: Sequence[np.ndarray],
  results: Sequence[np.ndarray],
  stage: int = EXECUTE,
) -> str | None:
  """Fill `results` by a handler; return the text of its error, if any."""
  texts = []

  @_make_error
  def make_error(error):
    texts.append(error.contents.message.decode())
    return 1

  api = Api(make_error=make_error)
  frame_args, kept_args = _buffers(args)
  frame_results, kept_results = _buffers(results)
  frame = Frame(
    api=ctypes.pointer(api), stage=stage, args=frame_args, results=frame_results
  )
  handler = getattr(library, name)
  handler.restype = _pointer
  failed = handler(ctypes.byref(frame))
  assert bool(failed) == bool(texts)
  del kept_args, kept_results
  return texts[0] if texts else None


def version(library: ctypes.CDLL, name: str) -> tuple[int, int]:
  """Return the version of the interface that a handler declares."""
  metadata = Metadata()
  extension = Extension(type=METADATA, metadata=ctypes.pointer(metadata))
  frame = Frame(extension=ctypes.pointer(extension))
  assert not getattr(library, name)(ctypes.byref(frame))
  return metadata.version.major, metadata.version.minor
