"""Cache of decoded images, outside the folder of the data."""

import hashlib
import logging
import os
import pathlib
import zipfile

import numpy as np
from etils import epath

from experiments.data import folders
from keyjax import private_files

Array = np.ndarray


def path_of(folder: epath.Path, split: str, size: int) -> pathlib.Path:
  """Return the file of decoded arrays; its name depends on their content."""
  home = os.environ.get("XDG_CACHE_HOME")
  in_checkout = (folders.ROOT / "pyproject.toml").exists()
  default = (
    folders.ROOT / ".cache" if in_checkout else pathlib.Path.home() / ".cache"
  )
  # Two folders may hold different pixels under one name and version.
  digest = hashlib.sha256()
  for file in sorted(folder.iterdir()):
    digest.update(f"{file.name} {file.stat().length}\n".encode())
  digest.update((folder / "dataset_info.json").read_bytes())
  name = f"{folder.parent.name}-{folder.name}-{split}-{size}"
  return (
    pathlib.Path(home or default)
    / "keyjax"
    / "decoded"
    / f"{name}-{digest.hexdigest()[:16]}.npz"
  )


def read(path: pathlib.Path) -> tuple[Array, Array] | None:
  """Return the cached images and labels, or None."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return arrays["image"], arrays["label"]
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    logging.warning("Decoding again: %s is damaged.", path)
    return None


def write(path: pathlib.Path, image: Array, label: Array) -> None:
  """Cache the arrays; if that is impossible, later runs only take longer."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with private_files.replacing(path) as file:
      np.savez(file, image=image, label=label)
  except OSError as error:
    logging.warning("Decoded images are not cached: %s", error)
