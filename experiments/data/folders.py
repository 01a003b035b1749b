"""Where the data sets are: folders that TFDS prepared as `array_record`."""

import logging
import os
import pathlib
from typing import Any

from etils import epath

# Whether the published images are lossless, so that a JPEG copy is not them.
_LOSSLESS = {
  "mnist": True,
  "fashion_mnist": True,
  "cifar10": True,
  "svhn_cropped": True,
  "gtsrb": False,
  "imagenet2012": False,
}
TFDS_NAMES = tuple(_LOSSLESS)
NAMES = ("digits", *TFDS_NAMES)
ROOT = pathlib.Path(__file__).resolve().parents[2]


class MissingDataError(FileNotFoundError):
  """A data set is not on this machine; the message says what to type."""


def find_data_dir(
  data_dir: str | os.PathLike[str] | None = None,
) -> epath.Path:
  """Returns the folder of TFDS data sets (it may be a bucket).

  Args:
    data_dir: the folder itself, or None for the first of: `KEYJAX_DATA_DIR`;
      `../shared/data/tfds` beside the checkout, where it exists; TFDS's own
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


def check_name(name: str) -> None:
  """Raises a ValueError unless there is a data set of that name."""
  if name not in NAMES:
    raise ValueError(
      f"Unknown data set {name!r}: choose from {', '.join(NAMES)}."
    )


def find(name: str, data_dir: str | os.PathLike[str] | None) -> epath.Path:
  """Returns the folder of the newest version of a prepared data set."""
  root = find_data_dir(data_dir)
  found = {
    tuple(map(int, path.parent.name.split("."))): path.parent
    for path in (root / name).glob("*.*.*/dataset_info.json")
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
  """Drops TFDS's advice to install OpenCV: images are decoded once, by PIL."""
  return "OpenCV" not in record.getMessage()


def open_folder(folder: epath.Path) -> Any:
  """Returns TFDS's builder of a folder whose records Python can read."""
  # Here, because the digits and the models do without TFDS.
  import tensorflow_datasets as tfds

  logging.getLogger("absl").addFilter(_not_opencv)
  builder = tfds.builder_from_directory(folder)
  if builder.info.file_format.value != "array_record":
    raise MissingDataError(
      f"{folder} holds {builder.info.file_format.value} files, which only "
      "TensorFlow reads: prepare the data set as array_record in another "
      f"folder with `python -m experiments.prepare {builder.name} "
      "--data_dir=OTHER_FOLDER`."
    )
  return builder


def source_text(name: str, folder: epath.Path, info: Any) -> str:
  """Says where a data set came from, and how it differs from the original."""
  source = f"{name} {info.version} in {folder}"
  if name == "gtsrb":
    # Not in TFDS's catalogue: only the folder knows how it was made.
    return f"{source}: {' '.join(info.description.split())}"
  if _LOSSLESS[name] and info.features["image"].encoding_format == "jpeg":
    return (
      f"{source}: JPEG re-encodings of the published images, so accuracies "
      "can differ slightly from published ones"
    )
  return source
