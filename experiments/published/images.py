"""Images of scikit-image, and images that are made of them or of a font.

Only the files of scikit-image are used: it may be installed without what it
needs to run.
"""

import functools
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

_PACKAGE = "scikit-image"
_INSTALL = "pip install --no-deps scikit-image==0.26.0"
_GREY = 128
_TILE = 25  # Side of the crops of LFW in the package: 100 faces, 100 others.
_FACES = 100
_WORDS = (
  "lock weight layer secret model tensor cipher vector kernel network "
  "gradient permutation key access release attack round noise proof share"
).split()


class Labelled(NamedTuple):
  """An image and the boxes that are to be found in it.

  Attributes:
    image: Red, green and blue, uint8[h, w, 3].
    boxes: y0, x0, y1, x1 in pixels, float32[n, 4].
  """

  image: np.ndarray
  boxes: np.ndarray


def find(name: str) -> pathlib.Path:
  """Return a file of scikit-image's data.

  Raises:
    ValueError: If the package or the file is missing.
  """
  try:
    package = importlib.metadata.distribution(_PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    raise ValueError(f"{name} is in {_PACKAGE}: {_INSTALL}") from None
  file = pathlib.Path(str(package.locate_file(f"skimage/data/{name}")))
  if not file.is_file():
    raise ValueError(f"this version of {_PACKAGE} has no {name}: {_INSTALL}")
  return file


def photo(name: str, side: int, square: bool = False) -> np.ndarray:
  """Return an image of scikit-image, uint8[h, w, 3].

  Args:
    name: File.
    side: Length of the shorter side.
    square: Whether to cut the longer side to the same length.
  """
  image = Image.open(find(name)).convert("RGB")
  scale = side / min(image.size)
  if square:
    return np.asarray(ImageOps.fit(image, (side, side)))
  return np.asarray(image.resize([round(n * scale) for n in image.size]))


def face_scenes(
  count: int, seed: int, columns: int = 3, side: int = 80
) -> list[Labelled]:
  """Return scenes of faces and of other crops of LFW, in two rows.

  Half of the crops of a scene are faces, at random places; the box of a face
  is its whole crop. No crop is used twice.

  Args:
    count: Number of scenes.
    seed: Random seed.
    columns: Crops of a row.
    side: Side of a crop in the scene.

  Raises:
    ValueError: If there are too few crops, or scikit-image is missing.
  """
  if count * columns > _FACES:
    raise ValueError(f"{count} scenes need more than {_FACES} faces")
  crops = np.load(find("lfw_subset.npy"), allow_pickle=False)
  rng = np.random.default_rng(seed)
  faces = rng.permutation(_FACES)[: count * columns].reshape(count, columns)
  others = _FACES + rng.permutation(_FACES)[: count * columns]
  return [
    _scene(crops, mine, rest, side, rng)
    for mine, rest in zip(faces, others.reshape(count, columns), strict=True)
  ]


def _scene(
  crops: np.ndarray,
  faces: np.ndarray,
  others: np.ndarray,
  side: int,
  rng: np.random.Generator,
) -> Labelled:
  """Return one scene; each crop is somewhere in a cell of its own."""
  cell = side + side // 2
  image = np.full((2 * cell, len(faces) * cell, 3), _GREY, np.uint8)
  boxes = []
  for place, crop in enumerate(rng.permutation([*faces, *others])):
    corner = np.array(divmod(place, len(faces))) * cell
    y, x = corner + rng.integers(0, cell - side, 2)
    tile = Image.fromarray((255 * crops[crop]).astype(np.uint8))
    large = np.asarray(tile.resize((side, side), Image.Resampling.BICUBIC))
    image[y : y + side, x : x + side] = large[..., None]
    if crop < _FACES:
      boxes.append([y, x, y + side, x + side])
  return Labelled(image, np.array(boxes, np.float32))


def printed_pages(
  count: int, seed: int, height: int = 256, width: int = 384
) -> list[Labelled]:
  """Return pages of a few words in a font, one word a line.

  The box of a word is as high as the line, from ascender to descender.

  Args:
    count: Number of pages.
    seed: Random seed.
    height: Height of a page.
    width: Width of a page.
  """
  rng = np.random.default_rng(seed)
  return [_page(rng, height, width) for _ in range(count)]


def _page(rng: np.random.Generator, height: int, width: int) -> Labelled:
  paper = int(rng.integers(200, 256))
  page = Image.new("RGB", (width, height), (paper,) * 3)
  draw = ImageDraw.Draw(page)
  boxes, y = [], 16
  while y < height - 40:
    font = _font(int(rng.integers(16, 29)))
    word = rng.choice(_WORDS)
    x = int(rng.integers(12, width // 2))
    ink = tuple(rng.integers(0, 100, 3).tolist())
    draw.text((x, y), word, fill=ink, font=font)
    end = y + sum(font.getmetrics())
    boxes.append([y, x, end, x + font.getlength(word)])
    y = end + int(rng.integers(8, 24))
  return Labelled(np.asarray(page), np.array(boxes, np.float32))


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
  """Return the font that comes with Pillow."""
  font = ImageFont.load_default(size)
  if not isinstance(font, ImageFont.FreeTypeFont):
    raise ValueError("this Pillow has no FreeType: pages cannot be printed")
  return font


def mirrored(images: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Return images, each followed by its mirror image."""
  return [x for image in images for x in (image, image[:, ::-1])]
