"""Folders of data sets that TFDS prepared as `array_record`."""

import logging
import os
import pathlib
from typing import Any

from etils import epath

import keyjax
from experiments.data import guarded

ROOT = pathlib.Path(__file__).resolve().parents[2]


class MissingDataError(FileNotFoundError):
  """Missing data set; the message says what to type."""


def find_data_dir(
  data_dir: str | os.PathLike[str] | None = None,
) -> epath.Path:
  """Return the folder of TFDS data sets (it may be a bucket).

  Args:
    data_dir: Folder itself, or None for the first of: `KEYJAX_DATA_DIR`;
      `../shared/data/tfds` next to the checkout, where it exists; TFDS's own
      (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`).

  Returns:
    The folder, which need not exist.
  """
  data_dir = data_dir or os.environ.get("KEYJAX_DATA_DIR")
  if data_dir:
    return epath.Path(data_dir).expanduser()
  shared = ROOT.parent / "shared" / "data" / "tfds"
  if shared.is_dir():
    return epath.Path(shared)
  default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  return epath.Path(default).expanduser()


def find(name: str, data_dir: str | os.PathLike[str] | None) -> epath.Path:
  """Return the folder of the newest version of a prepared data set."""
  root = find_data_dir(data_dir)
  found = {
    tuple(map(int, path.parent.name.split("."))): path.parent
    for file in ("dataset_info.json", keyjax.data.HEADER)
    for path in (root / name).glob(f"*.*.*/{file}")
    if path.parent.name.replace(".", "").isdigit()
  }
  if not found:
    raise MissingDataError(
      f"No data set {name} in {root}: get it with `python -m "
      f"experiments.prepare {name} --data_dir={root}`, or let "
      "KEYJAX_DATA_DIR name the folder that has it."
    )
  return found[max(found)]


def _not_opencv(record: logging.LogRecord) -> bool:
  """Drop TFDS's advice to install OpenCV: images are decoded once, by PIL."""
  return "OpenCV" not in record.getMessage()


def open_folder(folder: epath.Path, guard: guarded.Guard = guarded.NONE) -> Any:
  """Return TFDS's builder of a folder whose records Python can read.

  Args:
    folder: Folder of a version of a data set.
    guard: How it is opened and checked, if it is sealed or tagged.

  Returns:
    The builder; or a `guarded.Folder`, which has what is used of one.
  """
  guarded.check(folder, guard)
  if guard.key:
    found = guarded.Folder(guarded.open_files(folder, guard))
    found.check_place(folder.parent.name, folder.name)
    return found
  # Here, because the digits and the models do not need TFDS.
  import tensorflow_datasets as tfds

  logging.getLogger("absl").addFilter(_not_opencv)
  builder = tfds.builder_from_directory(folder)
  if builder.info.file_format.value != "array_record":
    raise MissingDataError(
      f"{folder} has {builder.info.file_format.value} files, which only "
      "TensorFlow reads: prepare the data set as array_record in another "
      f"folder with `python -m experiments.prepare {builder.name} "
      "--data_dir=OTHER_FOLDER`."
    )
  return builder
