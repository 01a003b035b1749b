"""PP-OCRv4's detector: words on pages, and where it finds text in scans."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from ml_collections import ConfigDict
from PIL import Image

from experiments.models import packages, pretrained
from experiments.models.dbnet import MULTIPLE, TextDetector
from experiments.published import detections, images, matching
from experiments.published.matching import Found
from experiments.published.subject import Forward, Subject, register

# RapidOCR's settings.
_IS_TEXT, _LEAST_SCORE = 0.3, 0.5
_LARGER = 1.6  # Times area over perimeter: the network finds text's middle.
_LEAST_SIDE = 3
_MOST = 1_000


def make(config: ConfigDict) -> Subject:
  """Return the subject.

  Args:
    config: `source`, `package:ppocr` or a file; `pages`, their number; `seed`;
      `photos` of scikit-image, and `side`, to which they are scaled.

  Raises:
    ValueError: If a package is missing, or does not fit.
  """
  model, example = TextDetector(), jnp.zeros((1, 2 * MULTIPLE, MULTIPLE, 3))
  variables = pretrained.load(packages.resolve(config.source), model, example)
  photos = [images.photo(name, config.side) for name in config.photos]
  return detections.subject(
    model,
    jax.tree.map(jnp.asarray, variables),
    example,
    layers=r".*/(depthwise|pointwise)",
    detect=detect,
    labelled=images.printed_pages(config.pages, config.seed),
    photos=images.mirrored(photos),
    about={"dataset": "words on pages", "source": config.source},
  )


def prepared(image: np.ndarray) -> np.ndarray:
  """Return the network's input, float32[1, h, w, 3].

  Args:
    image: Red, green and blue, uint8[h, w, 3], of any size: it is scaled to
      the nearest sides that the network takes.
  """
  height, width = (
    max(round(n / MULTIPLE), 1) * MULTIPLE for n in image.shape[:2]
  )
  scaled = np.asarray(Image.fromarray(image).resize((width, height)))
  # Blue first, in [-1, 1].
  return (scaled[None, ..., ::-1] / 127.5 - 1).astype(np.float32)


def detect(forward: Forward, image: np.ndarray) -> Found:
  """Return the text of an image.

  Boxes are upright: RapidOCR's own turn with the text.

  Args:
    forward: The network.
    image: Red, green and blue, uint8[h, w, 3].
  """
  inputs = prepared(np.ascontiguousarray(image))
  logits = np.asarray(forward(inputs), np.float64)[0]
  with np.errstate(over="ignore"):
    scores = 1 / (1 + np.exp(-np.where(np.isfinite(logits), logits, -np.inf)))
  scale = np.array(image.shape[:2]) / inputs.shape[1:3]
  return boxes(scores, np.concatenate([scale, scale]))


def boxes(scores: np.ndarray, scale: np.ndarray) -> Found:
  """Return the boxes of a map of text.

  Args:
    scores: Probabilities of text, float[h, w].
    scale: What y0, x0, y1 and x1 are multiplied by.
  """
  mask = scipy.ndimage.binary_dilation(scores > _IS_TEXT, np.ones((2, 2)))
  parts, _ = scipy.ndimage.label(mask, np.ones((3, 3)))
  found, sure = [], []
  regions = scipy.ndimage.find_objects(parts)[:_MOST]
  for number, (rows, columns) in enumerate(regions, 1):
    box = np.array([rows.start, columns.start, rows.stop, columns.stop], float)
    sides = box[2:] - box[:2]
    score = scores[rows, columns][parts[rows, columns] == number].mean()
    if sides.min() < _LEAST_SIDE or score < _LEAST_SCORE:
      continue
    more = _LARGER * sides.prod() / (2 * sides.sum())
    box[:2] = np.maximum(box[:2] - more, 0)
    box[2:] = np.minimum(box[2:] + more, scores.shape)
    found.append(box * scale)
    sure.append(score)
  if not found:
    return matching.none()
  return Found(np.array(found, np.float32), np.array(sure, np.float32))


register("text", make)
