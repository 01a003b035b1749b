"""Checkpoints."""

from keyjax.checkpoint.errors import CheckpointError
from keyjax.checkpoint.manager import Manager
from keyjax.checkpoint.plain import restore_plain, save_plain
from keyjax.checkpoint.sealed import read_metadata, restore, save

__all__ = [
  "CheckpointError",
  "Manager",
  "read_metadata",
  "restore",
  "restore_plain",
  "save",
  "save_plain",
]
