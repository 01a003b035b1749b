"""Files that older versions wrote, unpacked."""

import pathlib
import tarfile

HERE = pathlib.Path(__file__).parent


def unpacked(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Unpack an archive of this folder; return the folder that it holds.

  Args:
    name: Name of the archive, without its suffixes.
    folder: Where it is unpacked.
  """
  with tarfile.open(HERE / f"{name}.tar.gz") as archive:
    # Python 3.11.2, which Debian 12 has, knows no filters yet.
    archive.extraction_filter = getattr(tarfile, "tar_filter", None)
    archive.extractall(folder)
  return folder / name
