"""Faces of an image by MTCNN's three networks, each on what is left.

The first one sees the image at many sizes and proposes windows; the second and
the third one see each window alone, refuse most, and move the edges of the
rest. Thresholds, sizes and overlaps are facenet-pytorch's.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.models import packages, pretrained
from experiments.models.mtcnn import OutputNet, ProposalNet, RefineNet
from experiments.published import matching
from experiments.published.matching import Found, suppress

LEAST_FACE = 20  # Pixels.
_FACTOR = 0.709  # Between sizes of the image.
_WINDOW, _STRIDE = 12, 2
_LEAST_SCORES = (0.6, 0.7, 0.7)
_SIDES = {"refine": 24, "output": 48}
# Windows of one size, and of all. A plain network proposes far fewer.
_MOST_OF_A_SIZE, _MOST = 1_000, 300
_BATCH = 64  # Windows of a pass: one compiled program.

Forward = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Cascade(nn.Module):
  """The three networks as one module, of which a pass runs those it is given.

  Attributes:
    proposal: First network.
    refine: Second network.
    output: Third network.
  """

  proposal: nn.Module = ProposalNet()
  refine: nn.Module = RefineNet()
  output: nn.Module = OutputNet()

  def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of networks, by the name of each input."""
    return {name: getattr(self, name)(x) for name, x in inputs.items()}


def example() -> dict[str, jax.Array]:
  """Return an input of every network."""
  sides = {"proposal": _WINDOW} | _SIDES
  rng = np.random.default_rng(0)
  return {
    name: jnp.asarray(rng.uniform(-1, 1, (2, side, side, 3)), jnp.float32)
    for name, side in sides.items()
  }


def load(source: str) -> tuple[Cascade, Any]:
  """Return the networks and their variables.

  Args:
    source: What `pnet`, `rnet` and `onet` are appended to, as `package:mtcnn-`.

  Raises:
    ValueError: If a file is missing, or does not fit.
  """
  model = Cascade()
  params = {}
  for name, file in {
    "proposal": "pnet",
    "refine": "rnet",
    "output": "onet",
  }.items():
    path = packages.resolve(f"{source}{file}")
    own = pretrained.load(path, getattr(model, name), example()[name])
    params[name] = own["params"]
  return model, jax.tree.map(jnp.asarray, {"params": params})


def detect(forward: Forward, image: np.ndarray) -> Found:
  """Return the faces of an image.

  Args:
    forward: The networks: outputs by name, of inputs by name.
    image: Red, green and blue, uint8[h, w, 3].
  """
  pixels = image.astype(np.float32)
  found = _proposals(forward, pixels)
  for name, least in zip(_SIDES, _LEAST_SCORES[1:], strict=True):
    found = _refined(forward, name, pixels, found, least)
  return found


def sizes(height: int, width: int) -> Iterator[float]:
  """Yield the factors by which an image is made smaller."""
  scale = _WINDOW / LEAST_FACE
  while min(height, width) * scale >= _WINDOW:
    yield scale
    scale *= _FACTOR


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Return an image of another size: means of the pixels that each one covers.

  Args:
    image: float32[h, w, c].
    height: New height.
    width: New width.
  """
  rows, columns = _means(image.shape[0], height), _means(image.shape[1], width)
  # [new h, h], [h, w, c], [new w, w] -> [new h, new w, c]
  lower = np.tensordot(rows, image, 1)
  return np.ascontiguousarray(
    np.tensordot(lower, columns, ((1,), (1,))).swapaxes(1, 2)
  )


def _means(old: int, new: int) -> np.ndarray:
  """Return the matrix that takes means, float32[new, old]."""
  at = np.arange(new)[:, None]
  start, end = at * old // new, -(-(at + 1) * old // new)
  pixel = np.arange(old)[None]
  inside = (pixel >= start) & (pixel < end)
  return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _scaled(pixels: np.ndarray) -> np.ndarray:
  return (pixels - 127.5) / 128


def _proposals(forward: Forward, pixels: np.ndarray) -> Found:
  """Return the windows that the first network proposes."""
  height, width = pixels.shape[:2]
  every, moves = [], []
  for scale in sizes(height, width):
    small = resize(pixels, int(height * scale + 1), int(width * scale + 1))
    out = forward({"proposal": _scaled(small)[None]})["proposal"]
    found, move = _windows(out, scale)
    kept = suppress(found, 0.5)
    every.append(Found(found.boxes[kept], found.scores[kept]))
    moves.append(move[kept])
  if not every:  # The image is smaller than a face.
    return matching.none()
  joined = Found(*(np.concatenate(x) for x in zip(*every, strict=True)))
  kept = suppress(joined, 0.7)[:_MOST]
  found = Found(joined.boxes[kept], joined.scores[kept])
  move = np.concatenate(moves)[kept]
  return _squared(_moved(found, move, edge=0))


def _windows(out: Mapping[str, Any], scale: float) -> tuple[Found, np.ndarray]:
  """Return windows that may be faces, and how their edges are to move."""
  scores, moves = _face(out)
  y, x = np.nonzero(scores[0] >= _LEAST_SCORES[0])
  best = np.argsort(-scores[0, y, x], kind="stable")[:_MOST_OF_A_SIZE]
  y, x = y[best], x[best]
  corner = np.stack([y, x], 1) * _STRIDE + 1
  ends = (corner, corner + _WINDOW - 1)
  boxes = np.concatenate([np.floor(end / scale) for end in ends], 1)
  return Found(boxes.astype(np.float32), scores[0, y, x]), moves[0, y, x]


def _face(out: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  """Return scores and movements; the score is 0 where one is not finite."""
  # In float64: a difference of logits of either sign is no overflow.
  logits = np.asarray(out["face"], np.float64)
  moves = _y_first(np.asarray(out["box"], np.float32))
  finite = np.isfinite(logits).all(-1) & np.isfinite(moves).all(-1)
  apart = np.where(finite, logits[..., 0] - logits[..., 1], np.inf)
  with np.errstate(over="ignore"):
    scores = 1 / (1 + np.exp(apart))
  return scores.astype(np.float32), moves


def _y_first(boxes: np.ndarray) -> np.ndarray:
  """Return [..., 4] with x before y as y before x."""
  return boxes[..., [1, 0, 3, 2]]


def _refined(
  forward: Forward, name: str, pixels: np.ndarray, found: Found, least: float
) -> Found:
  """Return the windows that a network does not refuse, moved."""
  last = name == "output"
  cuts, seen = [], []
  for i, box in enumerate(found.boxes):
    cut = _cut(pixels, box)
    if cut.size:
      seen.append(i)
      cuts.append(_scaled(resize(cut, _SIDES[name], _SIDES[name])))
  if not seen:
    return matching.none()
  scores, moves = _in_batches(forward, name, np.stack(cuts))
  right = scores > least
  found = Found(found.boxes[seen][right], scores[right])
  moves = moves[right]
  if last:
    found = _moved(found, moves, edge=1)
    kept = suppress(found, 0.7, of_smaller=True)
    return Found(found.boxes[kept], found.scores[kept])
  kept = suppress(found, 0.7)
  found = Found(found.boxes[kept], found.scores[kept])
  return _squared(_moved(found, moves[kept], edge=1))


def _in_batches(
  forward: Forward, name: str, windows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Return scores and movements of windows, in batches of one size."""
  parts = []
  for start in range(0, len(windows), _BATCH):
    part = windows[start : start + _BATCH]
    padded = np.zeros((_BATCH, *part.shape[1:]), np.float32)
    padded[: len(part)] = part
    scores, moves = _face(forward({name: padded})[name])
    parts.append((scores[: len(part)], moves[: len(part)]))
  scores, moves = (np.concatenate(x) for x in zip(*parts, strict=True))
  return scores, moves


def _cut(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
  """Return the part of an image that a box covers; pixels count from 1."""
  far = 2.0 * max(pixels.shape)  # A wrong key's boxes may be anywhere.
  y0, x0, y1, x1 = np.trunc(np.clip(box, -far, far)).astype(int)
  return pixels[max(y0, 1) - 1 : max(y1, 0), max(x0, 1) - 1 : max(x1, 0)]


def _moved(found: Found, moves: np.ndarray, edge: int) -> Found:
  """Return boxes whose edges moved, by shares of their sides."""
  side = found.boxes[:, 2:] - found.boxes[:, :2] + edge
  boxes = found.boxes + np.concatenate([side, side], 1) * moves
  # Two edges that changed places are a box of no size.
  boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
  return Found(boxes.astype(np.float32), found.scores)


def _squared(found: Found) -> Found:
  """Return boxes that are squares around the same centres."""
  low, high = found.boxes[:, :2], found.boxes[:, 2:]
  side = (high - low).max(1, keepdims=True)
  low = (low + high) / 2 - side / 2
  return Found(np.concatenate([low, low + side], 1), found.scores)
