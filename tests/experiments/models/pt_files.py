"""Files of PyTorch, written without it."""

import collections
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest

MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage"}


def _modules(patch: pytest.MonkeyPatch) -> types.ModuleType:
  """Put the names that the pickles have in the place of PyTorch."""
  torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
  patch.setitem(sys.modules, "torch", torch)
  patch.setitem(sys.modules, "torch._utils", utils)
  for name in _STORAGES.values():
    setattr(torch, name, type(name, (), {"__module__": "torch"}))

  def rebuild() -> None:
    pass

  rebuild.__module__, rebuild.__qualname__ = (
    utils.__name__,
    "_rebuild_tensor_v2",
  )
  utils._rebuild_tensor_v2 = rebuild
  return torch


class _Pickler(pickle.Pickler):
  def __init__(self, file, torch, shift=0):
    super().__init__(file, 2)
    self.torch, self.storages, self.shift = torch, {}, shift

  def persistent_id(self, value):
    if isinstance(value, tuple) and value and value[0] == "storage":
      return value
    return None

  def reducer_override(self, value):
    if not isinstance(value, np.ndarray):
      return NotImplemented
    key = str(len(self.storages))
    self.storages[key] = value
    kind = getattr(self.torch, _STORAGES[value.dtype.name])
    storage = ("storage", kind, key, "cpu", value.size)
    strides = tuple(n // value.itemsize for n in value.strides)
    rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
    hooks = collections.OrderedDict()
    return rebuild, (storage, self.shift, value.shape, strides, False, hooks)


def _bytes(array: np.ndarray) -> bytes:
  return array.tobytes("A")  # As memory has it.


def older(arrays: Mapping[str, np.ndarray], shift: int = 0) -> bytes:
  """Return a file of the format before PyTorch 1.6."""
  with pytest.MonkeyPatch.context() as patch:
    torch = _modules(patch)
    file = io.BytesIO()
    for value in (MAGIC, 1001, {"little_endian": True}):
      pickle.dump(value, file, 2)
    pickler = _Pickler(file, torch, shift=shift)
    pickler.dump(collections.OrderedDict(arrays))
    pickle.dump(list(pickler.storages), file, 2)
    for array in pickler.storages.values():
      file.write(array.size.to_bytes(8, "little") + _bytes(array))
  return file.getvalue()


def archive(arrays: Mapping[str, np.ndarray], order: str = "little") -> bytes:
  """Return a zip archive, as PyTorch writes it today."""
  with pytest.MonkeyPatch.context() as patch:
    pickled = io.BytesIO()
    pickler = _Pickler(pickled, _modules(patch))
    pickler.dump(dict(arrays))
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as made:
    made.writestr("net/data.pkl", pickled.getvalue())
    made.writestr("net/byteorder", order)
    for key, array in pickler.storages.items():
      made.writestr(f"net/data/{key}", _bytes(array))
  return file.getvalue()
