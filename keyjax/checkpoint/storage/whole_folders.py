"""Folders of several checkpoints that appear completely or not at all."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax

from keyjax.checkpoint.storage import (
  claims,
  commit_mark,
  folders,
  locations,
  processes,
)


@contextlib.contextmanager
def writing_whole(path: Any) -> Iterator[Any]:
  """Yield a folder to write into, which becomes `path` at the end.

  On a disk it is a temporary folder, renamed when all is written. In a bucket
  it is `path` itself, and the mark of a complete checkpoint is written last.
  Every process of a run enters and leaves together.

  Raises:
    FileExistsError: If it exists, or another process is writing it.
    CheckpointStorageError: If it cannot be written.
  """
  here = path
  with folders.writing(path):
    if not locations.is_remote(path):
      here = folders.temporary(path)
      folders.remove_temporary(path.parent, path.name)  # Of a killed save.
    processes.wait_for_all("begin")
    yield here
    if jax.process_index() == 0:
      claims.check(path)
      commit_mark.write(here)
      if here != path:
        os.rename(here, path)
    processes.wait_for_all("end")
