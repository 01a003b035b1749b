"""The mark of a complete checkpoint, without the path that it was saved to.

Orbax writes `commit_success.txt` last, into a checkpoint and into its items.
Its text is the absolute path, which may name a customer, a model and a step to
everyone who later receives a copy. Here the text is always the same: only the
presence of the file means something.
"""

import asyncio
import os
import time
from typing import Any

from orbax.checkpoint import path as orbax_path

from keyjax.checkpoint.storage import claims, locations

MARK = orbax_path.atomicity_types.COMMIT_SUCCESS_FILE
TEXT = "complete"


async def _write_mark(folder: Any, metadata_store: Any) -> None:
  """Write Orbax's time of completion, and then the mark."""
  if metadata_store:
    metadata = orbax_path.atomicity.checkpoint_metadata
    await asyncio.to_thread(metadata_store.wait_until_finished)
    await asyncio.to_thread(
      metadata_store.update,
      file_path=metadata.step_metadata_file_path(folder),
      commit_timestamp_nsecs=time.time_ns(),
    )
    await asyncio.to_thread(metadata_store.wait_until_finished)
  await asyncio.to_thread(write, folder)


def write(folder: Any) -> None:
  """Mark a folder as complete.

  Raises:
    FileExistsError: If another process has marked it, in a bucket.
  """
  if not locations.is_remote(folder):
    (folder / MARK).write_text(TEXT)
  elif not locations.create_object(folder, MARK, TEXT.encode("ascii")):
    raise FileExistsError(f"another process completed {folder} first")


class _InBucket(orbax_path.atomicity.CommitFileTemporaryPath):
  """A folder of a bucket: the mark makes it a checkpoint."""

  async def finalize(self) -> None:
    """Complete the checkpoint."""
    claims.check(self.get_final())
    await _write_mark(self.get(), self._checkpoint_metadata_store)


class _OnDisk(orbax_path.atomicity.AtomicRenameTemporaryPath):
  """A folder of a disk: a rename makes it a checkpoint.

  The mark makes its copy in a bucket one too.
  """

  async def finalize(self) -> None:
    """Complete the checkpoint."""
    await _write_mark(self.get(), self._checkpoint_metadata_store)
    await asyncio.to_thread(os.rename, self.get(), self.get_final())


def temporary_path_class(path: Any) -> type[Any]:
  """Return the class with which Orbax completes what is saved to a path."""
  return _InBucket if locations.is_remote(path) else _OnDisk
