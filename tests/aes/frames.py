"""Calls of the compiled cipher as XLA makes them, without a program to compile.

The structures are those of xla/ffi/api/c_api.h, version 0.3.
"""

import ctypes
from collections.abc import Callable, Sequence

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
ErrorDestroy = _structure(("extension", _pointer), ("error", _pointer))
PoolSize = _structure(
  ("extension", _pointer),
  ("context", _pointer),
  ("threads", ctypes.POINTER(_int64)),
)
_task = ctypes.CFUNCTYPE(None, _pointer)
Pool = _structure(
  ("extension", _pointer),
  ("context", _pointer),
  ("task", _task),
  ("data", _pointer),
)
_make_error = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(Error))
_destroy_error = ctypes.CFUNCTYPE(None, ctypes.POINTER(ErrorDestroy))
_schedule = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(Pool))
_pool_size = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(PoolSize))
Api = _structure(
  ("extension", _pointer),
  ("version", Version),
  ("internal", _pointer),
  ("make_error", _make_error),
  ("error_message", _pointer),
  ("destroy_error", _destroy_error),
  ("others", _pointer * 8),
  ("schedule", _schedule),
  ("pool_size", _pool_size),
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


Run = Callable[[], None]


def call(
  library: ctypes.CDLL,
  name: str,
  args: Sequence[np.ndarray],
  results: Sequence[np.ndarray],
  stage: int = EXECUTE,
  pool: Callable[[Run], bool] | None = None,
) -> str | None:
  """Fill `results` by a handler; return the text of its error, if any.

  Args:
    library: The compiled cipher.
    name: Handler.
    args: Arguments of the call.
    results: Results, overwritten.
    stage: Stage of the execution.
    pool: Takes a task of the pool of 3 threads, or returns False to refuse it;
      without it there is no pool.
  """
  texts = []
  refused = []

  @_schedule
  def schedule(given):
    # The structure is gone once this returns.
    task = _task(ctypes.cast(given.contents.task, _pointer).value)
    data = given.contents.data
    return None if pool(lambda: task(data)) else 2

  @_pool_size
  def pool_size(given):
    given.contents.threads[0] = 3
    return None

  @_destroy_error
  def destroy_error(given):
    refused.append(given.contents.error)

  @_make_error
  def make_error(error):
    texts.append(error.contents.message.decode())
    return 1

  api = Api(make_error=make_error)
  if pool is not None:
    api = Api(
      struct_size=ctypes.sizeof(Api),
      make_error=make_error,
      destroy_error=destroy_error,
      schedule=schedule,
      pool_size=pool_size,
    )
  frame_args, kept_args = _buffers(args)
  frame_results, kept_results = _buffers(results)
  frame = Frame(
    api=ctypes.pointer(api), stage=stage, args=frame_args, results=frame_results
  )
  handler = getattr(library, name)
  handler.restype = _pointer
  failed = handler(ctypes.byref(frame))
  assert bool(failed) == bool(texts)
  assert set(refused) <= {2}
  del kept_args, kept_results
  return texts[0] if texts else None


def version(library: ctypes.CDLL, name: str) -> tuple[int, int]:
  """Return the version of the interface that a handler declares."""
  metadata = Metadata()
  extension = Extension(type=METADATA, metadata=ctypes.pointer(metadata))
  frame = Frame(extension=ctypes.pointer(extension))
  assert not getattr(library, name)(ctypes.byref(frame))
  return metadata.version.major, metadata.version.minor
