"""PyTorch's .pt and .pth files of tensors by name, without PyTorch.

Both the zip archives of today and the older format are pickles, which could
call anything. Here the unpickler knows the names in `_NAMES` and refuses any
other, as PyTorch does with `weights_only=True`; a file can change none of them,
and what a tensor claims to be is checked against the bytes that are there.
"""

import collections
import math
import pathlib
import pickle
import pickletools
import zipfile
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from experiments.models.readers.base import Arrays, reason, register

_DTYPES = {
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "DoubleStorage": np.dtype("<f8"),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "BoolStorage": np.dtype("?"),
}
_MAGIC = 0x1950A86A20F9469CFC6C  # First value of the older format.
_WIDTH = 8  # Bytes of a storage's length in it.


class _Storage(NamedTuple):
  """A run of numbers: its name in the file, and how many of which type."""

  key: str
  dtype: np.dtype
  numbers: int


class _Tensor(NamedTuple):
  """A view of a storage."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


# A pickle may set the state of whatever it names, so that these have none: a
# function has attributes, and a type of numbers is one for the whole process.
class _MakeTensor:
  """Stand in for the function that PyTorch makes a tensor with."""

  __slots__ = ()

  def __call__(
    self,
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
  ) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _MakeParameter:
  """Stand in for the function that PyTorch makes a parameter with."""

  __slots__ = ()

  def __call__(self, data: _Tensor, *_: Any) -> _Tensor:
    return data


_NAMES: dict[tuple[str, str], Any] = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("torch._utils", "_rebuild_tensor_v2"): _MakeTensor(),
  ("torch._utils", "_rebuild_parameter"): _MakeParameter(),
  **{("torch", name): name for name in _DTYPES},
}
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


class _Unpickler(pickle.Unpickler):
  """An unpickler that calls only what `_NAMES` lists."""

  def find_class(self, module: str, name: str) -> Any:
    """Return what a name stands for."""
    if (module, name) not in _NAMES:
      raise ValueError(f"it needs {module}.{name}, which is not read")
    return _NAMES[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    """Return the storage that an identifier names."""
    _, kind, key, _, count, *_ = pid
    return _Storage(str(key), _DTYPES[kind], int(count))


def _unpickled(file: Any) -> Any:
  """Return the next value of a file.

  Raises:
    ValueError: If it stores a value at a number that no file needs: the
      unpickler has a list of that length.
  """
  start = file.tell()
  for count, (code, number, _) in enumerate(pickletools.genops(file)):
    if code.name in _MEMO and (number or 0) > count:
      raise ValueError(f"it stores value {number} before as many are there")
  file.seek(start)
  return _Unpickler(file).load()


def read(path: pathlib.Path) -> Arrays:
  """Read a file of tensors by name, a state dictionary.

  Raises:
    ValueError: If the file is damaged, needs a name that is not read, or is
      not a dictionary of tensors.
  """
  try:
    with open(path, "rb") as file:
      read_file = _read_zip if zipfile.is_zipfile(path) else _read_older
      found, data = read_file(file)
    return {name: _view(tensor, data) for name, tensor in found.items()}
  except FileNotFoundError:
    raise
  except Exception as error:  # A damaged pickle raises errors of any class.
    raise ValueError(f"{path.name} is not read: {reason(error)}") from None


def _read_zip(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
  """Return the tensors and storages of an archive."""
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    tops = [name for name in names if name.endswith("/data.pkl")]
    if len(tops) != 1:
      raise ValueError(f"it has {len(tops)} files data.pkl in place of one")
    for info in archive.infolist():
      # PyTorch compresses nothing, and a few bytes could stand for many.
      if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} in it is compressed")
    top = tops[0].removesuffix("data.pkl")
    order = f"{top}byteorder"
    if order in names and archive.read(order) != b"little":
      raise ValueError("its numbers are big-endian")
    with archive.open(f"{top}data.pkl") as pickled:
      found = _checked(_unpickled(pickled))
    keys = {tensor.storage.key for tensor in found.values()}
    return found, {key: archive.read(f"{top}data/{key}") for key in keys}


def _read_older(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, bytes]]:
  """Return the tensors and storages of the format before PyTorch 1.6."""
  magic, _, system = (_unpickled(file) for _ in range(3))
  if magic != _MAGIC or not system["little_endian"]:
    raise ValueError("it is no file of PyTorch, or its numbers are big-endian")
  found = _checked(_unpickled(file))
  storages = {t.storage.key: t.storage for t in found.values()}
  data = {}
  for key in _unpickled(file):
    count = int.from_bytes(file.read(_WIDTH), "little")
    data[str(key)] = file.read(count * storages[str(key)].dtype.itemsize)
  return found, data


def _checked(found: Any) -> dict[str, _Tensor]:
  """Return what was unpickled, if it is a dictionary of tensors."""
  if not isinstance(found, dict):
    raise ValueError("it is not a dictionary of tensors")
  for name, tensor in found.items():
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
      raise ValueError(f"{name} is not a tensor")
  return found


def _view(tensor: _Tensor, data: dict[str, bytes]) -> np.ndarray:
  """Return a tensor's numbers, which must lie inside its storage."""
  storage, offset, shape, strides = tensor
  numbers = np.frombuffer(data[storage.key], storage.dtype)
  last = offset + sum(
    (size - 1) * step for size, step in zip(shape, strides, strict=True)
  )
  if 0 in shape:  # It has no last number.
    last = offset - 1
  sane = min(offset, *shape, *strides, 0) == 0 and len(numbers) > last
  # A step of 0 could stand for more numbers than fit into memory.
  if not sane or math.prod(shape) > len(numbers):
    raise ValueError(f"a tensor {list(shape)} is outside its storage")
  width = storage.dtype.itemsize
  return np.lib.stride_tricks.as_strided(
    numbers[offset:],
    shape,
    [step * width for step in strides],
    writeable=False,
  ).copy()


for _suffix in (".pt", ".pth"):
  register(_suffix, read)
