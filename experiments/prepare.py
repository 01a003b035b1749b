r"""Downloads a data set and prepares it for `experiments.data`.

  python -m experiments.prepare cifar10 --data_dir=DIR

TFDS downloads the published files, checks them against its checksums and
writes `array_record`. Without `--data_dir` the folder is the one that
`experiments.data` reads.
"""

import contextlib
import importlib
import io
import types
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image
from absl import app, flags
from etils import epath

from experiments import data

# Modules in which TFDS opens the files of a data set.
_READERS = {
  "mnist": ("image_classification.mnist",),
  "fashion_mnist": ("image_classification.mnist",),
  "cifar10": ("image_classification.cifar",),
  "svhn_cropped": ("datasets.svhn_cropped.svhn_cropped_dataset_builder",),
  "gtsrb": (),
  "imagenet2012": (
    "datasets.imagenet2012.imagenet2012_dataset_builder",
    "datasets.imagenet2012.imagenet_common",
  ),
}
NAMES = tuple(_READERS)


def prepare(name: str, data_dir: str | None = None) -> str:
  """Downloads and prepares a data set, unless the folder has it.

  Args:
    name: one of `NAMES`.
    data_dir: see `experiments.data.find_data_dir`.

  Returns:
    The folder that holds the data set.

  Raises:
    ValueError: the data set cannot be downloaded by name.
    ConnectionError: the published files are out of reach.
    MissingDataError: files that only a person can download are missing.
  """
  if name not in NAMES:
    raise ValueError(_unknown(name))
  # Here, so that `--help` and a wrong name need not wait for TFDS.
  import requests
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import util

  root = data.find_data_dir(data_dir)
  if name == "imagenet2012":
    _check_archives(root / "downloads" / "manual")
  if name == "gtsrb":
    importlib.import_module("experiments.data.gtsrb")  # registers the builder
  with _without_tensorflow(name):
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    try:
      builder.download_and_prepare(
        # A finished copy in TFDS's bucket would be in TensorFlow's format.
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    except (requests.RequestException, util.DownloadError) as error:
      raise ConnectionError(
        f"{name} could not be downloaded: {error}. Run this again on a machine "
        f"with a network, and copy its folder {name} into {root}."
      ) from error
  return str(builder.data_dir)


def _check_archives(folder: epath.Path) -> None:
  names = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")
  missing = [name for name in names if not (folder / name).exists()]
  if missing:
    raise data.MissingDataError(
      "imagenet2012 is downloaded by hand, after registration at "
      f"https://image-net.org: put {' and '.join(missing)} into {folder} and "
      "run this again."
    )


def _unknown(name: str) -> str:
  if name == "digits":
    return "digits comes with scikit-learn: there is nothing to prepare."
  return f"Unknown data set {name!r}: choose from {', '.join(NAMES)}."


@contextlib.contextmanager
def _without_tensorflow(name: str) -> Iterator[None]:
  """Lends TFDS what it wants TensorFlow for: opening files, and PNG and JPEG.

  Its download code imports TensorFlow for a handful of calls, all of which
  Python and PIL have; half a gigabyte for these would be a poor trade.
  """
  root = "tensorflow_datasets"
  tf = types.SimpleNamespace(
    compat=types.SimpleNamespace(as_text=str),
    io=types.SimpleNamespace(
      gfile=types.SimpleNamespace(
        GFile=lambda path, mode="r": epath.Path(path).open(mode),
        exists=lambda path: epath.Path(path).exists(),
      )
    ),
  )
  modules = ("core.download.extractor", *_READERS[name])
  encoder = f"{root}.core.features.image_feature._ImageEncoder"
  with contextlib.ExitStack() as stack:
    for module in modules:
      importlib.import_module(f"{root}.{module}")
      stack.enter_context(mock.patch(f"{root}.{module}.tf", tf))
    stack.enter_context(mock.patch(f"{encoder}._encode_image", _encode_image))
    # TFDS's 10 retries take three minutes to tell that there is no network.
    retries = f"{root}.core.download.downloader.MAX_RETRIES"
    stack.enter_context(mock.patch(retries, 4))
    for odd in ("jpeg_cmyk_to_rgb", "png_to_jpeg"):
      stack.enter_context(mock.patch(f"{root}.core.utils.{odd}", _to_jpeg))
    yield


def _encode_image(self: Any, image: np.ndarray) -> bytes:
  """Returns `uint8[h, w, c]` in the lossless format TFDS would use."""
  assert self.encoding_format == "png", self.encoding_format
  buffer = io.BytesIO()
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  PIL.Image.fromarray(pixels).save(buffer, format="png")
  return buffer.getvalue()


def _to_jpeg(content: bytes) -> bytes:
  """Returns the 23 images of ImageNet that are no RGB JPEG as one."""
  buffer = io.BytesIO()
  image = PIL.Image.open(io.BytesIO(content)).convert("RGB")
  image.save(buffer, format="jpeg", quality=100)
  return buffer.getvalue()


def main(argv: Sequence[str]) -> None:
  """Prepares the data set that the command line names."""
  if len(argv) != 2:
    raise app.UsageError(f"Name one data set of {', '.join(NAMES)}.")
  try:
    folder = prepare(argv[1], flags.FLAGS.data_dir)
  except (ValueError, OSError) as error:
    raise SystemExit(f"Error: {error}") from None
  print(f"{argv[1]} is in {folder}.")


if __name__ == "__main__":
  flags.DEFINE_string("data_dir", None, "Folder of data sets.")
  app.run(main)
