"""Folders of checkpoints: absent before, tried, and cleared after a failure."""

import os
import pathlib
import shutil
import tempfile

import jax

_TEMPORARY = ".orbax-checkpoint-tmp"


def check_absent(path: pathlib.Path) -> None:
  """Raises a FileExistsError if something is there."""
  if path.exists():
    raise FileExistsError(f"{path} exists; a checkpoint is never overwritten")


def try_folder(folder: pathlib.Path) -> None:
  """Makes a folder, and one inside it for a moment, as Orbax will."""
  folder.mkdir(parents=True, exist_ok=True)
  os.rmdir(tempfile.mkdtemp(dir=folder))


def discard(folder: pathlib.Path, name: str = "*") -> None:
  """Removes what failed saves left; it may fill the disk."""
  if jax.process_index() == 0:
    for rest in folder.glob(f"{name}{_TEMPORARY}*"):
      shutil.rmtree(rest, ignore_errors=True)
