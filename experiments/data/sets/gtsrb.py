"""GTSRB, with a builder for TFDS, whose catalogue lacks it.

The official labels of the test images are published separately, so both splits
come from the training images: every fifth track is held out. A track is 30
frames of one physical sign, which must not be in both splits.

References:
  Stallkamp et al., "The German Traffic Sign Recognition Benchmark: A
  multi-class classification competition", IJCNN 2011.
"""

import functools
from collections.abc import Iterator
from typing import Any

import PIL.Image
from etils import epath

from experiments.data import prepared
from experiments.data.registry import Preparation

URL = (
  "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
  "GTSRB_Final_Training_Images.zip"
)
_SIDE = 32
_DESCRIPTION = (
  "German Traffic Sign Recognition Benchmark, 43 classes, images scaled "
  f"to {_SIDE}x{_SIDE}x3. Both splits come from the official training "
  "images: every fifth track of each class is held out as test, so no "
  "physical sign is in both."
)


@functools.cache
def builder() -> Any:
  """Return the builder class; its definition registers it with TFDS."""
  # Here, because importing TFDS takes seconds.
  import tensorflow_datasets as tfds

  class Gtsrb(tfds.core.GeneratorBasedBuilder):
    """German traffic signs, 43 classes, 32 x 32 x 3."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
      features = {
        "image": tfds.features.Image(shape=(_SIDE, _SIDE, 3)),
        "label": tfds.features.ClassLabel(num_classes=43),
        "track": tfds.features.Text(),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        description=_DESCRIPTION,
        homepage="https://benchmark.ini.rub.de/",
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      archive = dl_manager.download_and_extract(URL)
      images = archive / "GTSRB/Final_Training/Images"
      return {
        "train": self._generate_examples(images, held_out=False),
        "test": self._generate_examples(images, held_out=True),
      }

    def _generate_examples(
      self, images: epath.Path, held_out: bool
    ) -> Iterator[tuple[str, dict[str, Any]]]:
      return _examples(images, held_out)

  return Gtsrb


def _examples(
  images: epath.Path, held_out: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yield the frames of one split: `CLASS/TRACK_FRAME.ppm`."""
  for path in sorted(images.glob("*/*.ppm")):
    label = path.parent.name
    track = path.name.split("_")[0]
    if (int(track) % 5 == 4) != held_out:
      continue
    with path.open("rb") as file:
      image = PIL.Image.open(file).convert("RGB")
    image = image.resize((_SIDE, _SIDE), PIL.Image.Resampling.BILINEAR)
    yield (
      f"{label}/{path.name}",
      {"image": image, "label": int(label), "track": f"{label}_{track}"},
    )


def _caveat(info: Any) -> str:
  """Return the folder's own description: only it knows how it was made."""
  return " ".join(info.description.split())


prepared.register("gtsrb", Preparation(builder=builder), caveat=_caveat)
