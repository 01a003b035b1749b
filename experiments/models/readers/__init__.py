"""Readers of weight files: tensors by their public names.

Each file of this folder reads one format and registers its suffixes. A library
that reads it is imported when a file is read.
"""

from experiments.models.readers.base import read, register

__all__ = ["read", "register"]
