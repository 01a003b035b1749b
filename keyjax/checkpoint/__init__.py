"""Checkpoints."""

from keyjax.checkpoint.checking import Problem, inspect, verify
from keyjax.checkpoint.errors import CheckpointError
from keyjax.checkpoint.manager import Manager
from keyjax.checkpoint.plain import restore_plain, save_plain
from keyjax.checkpoint.rotation import reencrypt, rewrap
from keyjax.checkpoint.sealed import read_metadata, restore, save

__all__ = [
  "CheckpointError",
  "Manager",
  "Problem",
  "inspect",
  "read_metadata",
  "reencrypt",
  "restore",
  "restore_plain",
  "rewrap",
  "save",
  "save_plain",
  "verify",
]
