r"""Download a data set and prepare it for `experiments.data`.

  python -m experiments.prepare cifar10 --data_dir=DIR

Without a name it lists the data sets. TFDS downloads the published files,
checks them against its checksums and writes `array_record`. By default the
folder is the one that `experiments.data` reads.
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
from experiments.data.registry import DATASETS, Preparation
from experiments.run import errors


def names() -> list[str]:
  """Return the names of the data sets that can be prepared."""
  return [name for name in data.names() if DATASETS.get(name).preparation]


def prepare(name: str, data_dir: str | None = None) -> str:
  """Download and prepare a data set, unless the folder has it.

  Args:
    name: One of `names()`.
    data_dir: Folder of data sets; see `experiments.data.find_data_dir`.

  Returns:
    The folder of the data set.

  Raises:
    ValueError: If the data set cannot be prepared.
    ConnectionError: If the published files cannot be reached.
    MissingDataError: If files that users download themselves are missing.
  """
  if name not in data.names():
    raise ValueError(
      f"Unknown data set {name!r}: choose from {', '.join(names())}."
    )
  entry = DATASETS.get(name)
  if entry.preparation is None:
    raise ValueError(f"{name} {entry.origin}: there is nothing to prepare.")
  # Here, so that `--help` and a wrong name need not wait for TFDS.
  import requests
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core.download import util

  root = data.find_data_dir(data_dir)
  _check_archives(name, entry.preparation, root / "downloads" / "manual")
  if entry.preparation.builder is not None:
    entry.preparation.builder()  # Registers it with TFDS.
  with _without_tensorflow(entry.preparation.readers):
    builder = tfds.builder(name, data_dir=root, file_format="array_record")
    try:
      builder.download_and_prepare(
        # A prepared copy in TFDS's bucket would be in TensorFlow's format.
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    except (requests.RequestException, util.DownloadError) as error:
      raise ConnectionError(
        f"{name} could not be downloaded: {error}. Run this command on a "
        f"machine with a network, and copy its folder {name} into {root}."
      ) from error
  return str(builder.data_dir)


def _check_archives(
  name: str, preparation: Preparation, folder: epath.Path
) -> None:
  missing = [x for x in preparation.archives if not (folder / x).exists()]
  if missing:
    raise data.MissingDataError(
      f"{name} is downloaded by hand, after registration at "
      f"{preparation.website}: put {' and '.join(missing)} into {folder} and "
      "run this command again."
    )


@contextlib.contextmanager
def _without_tensorflow(readers: Sequence[str]) -> Iterator[None]:
  """Replace the few calls for which TFDS wants TensorFlow.

  Its download code imports half a gigabyte of TensorFlow to open files and to
  encode PNG and JPEG, which Python and PIL do as well.

  Args:
    readers: Modules of TFDS that open the files of the data set.
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
  modules = ("core.download.extractor", *readers)
  encoder = f"{root}.core.features.image_feature._ImageEncoder"
  with contextlib.ExitStack() as stack:
    for module in modules:
      importlib.import_module(f"{root}.{module}")
      stack.enter_context(mock.patch(f"{root}.{module}.tf", tf))
    stack.enter_context(mock.patch(f"{encoder}._encode_image", _encode_image))
    # TFDS's 10 retries take three minutes to report that there is no network.
    retries = f"{root}.core.download.downloader.MAX_RETRIES"
    stack.enter_context(mock.patch(retries, 4))
    for converter in ("jpeg_cmyk_to_rgb", "png_to_jpeg"):
      converter = f"{root}.core.utils.{converter}"
      stack.enter_context(mock.patch(converter, _to_jpeg))
    yield


def _encode_image(self: Any, image: np.ndarray) -> bytes:
  """Encode `uint8[h, w, c]` in the lossless format that TFDS would use."""
  assert self.encoding_format == "png", self.encoding_format
  buffer = io.BytesIO()
  pixels = image[..., 0] if image.shape[-1] == 1 else image
  PIL.Image.fromarray(pixels).save(buffer, format="png")
  return buffer.getvalue()


def _to_jpeg(content: bytes) -> bytes:
  """Convert to RGB JPEG, for the 23 images of ImageNet that are not."""
  buffer = io.BytesIO()
  image = PIL.Image.open(io.BytesIO(content)).convert("RGB")
  image.save(buffer, format="jpeg", quality=100)
  return buffer.getvalue()


def main(argv: Sequence[str]) -> None:
  """Prepare the data set that the command line names."""
  if len(argv) != 2:
    raise app.UsageError(f"Name one data set of {', '.join(names())}.")
  with errors.reported():
    folder = prepare(argv[1], flags.FLAGS.data_dir)
  print(f"{argv[1]} is in {folder}.")


if __name__ == "__main__":
  flags.DEFINE_string("data_dir", None, "Folder of data sets.")
  app.run(main)
