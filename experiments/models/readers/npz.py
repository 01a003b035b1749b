"""NumPy's .npz files."""

import pathlib

import numpy as np

from experiments.models.readers.base import Arrays, reason, register


def read(path: pathlib.Path) -> Arrays:
  """Read a file that `numpy.savez` wrote; objects are refused.

  Raises:
    ValueError: If the file is damaged, or has anything else than arrays.
  """
  try:
    with np.load(path, allow_pickle=False) as arrays:
      found = dict(arrays)
  except OSError:
    raise
  except Exception as error:  # NumPy's, zlib's and those of zip archives.
    raise ValueError(f"{path.name} is not read: {reason(error)}") from None
  for name, x in found.items():
    if not isinstance(x, np.ndarray):
      raise ValueError(f"{path.name} is not read: {name} is no array")
  return found


register(".npz", read)
