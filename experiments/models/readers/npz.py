"""NumPy's .npz files."""

import pathlib

import numpy as np

from experiments.models.readers.base import Arrays, register


def read(path: pathlib.Path) -> Arrays:
  """Read a file that `numpy.savez` wrote; objects are refused."""
  with np.load(path, allow_pickle=False) as arrays:
    return dict(arrays)


register(".npz", read)
