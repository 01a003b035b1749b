"""MiniLM, MTCNN and PP-OCR in JAX against PyTorch and ONNX Runtime.

Both sides read the same files of the packages and get the same inputs: titles
and texts of Python's help; a photograph at one size, its parts, and whole
photographs; a scan and pages of words.
"""

import functools
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.peers import environment
from experiments.benchmarks.pretrained import originals
from experiments.models import dbnet, packages, pretrained
from experiments.models.wordpiece import WordPiece
from experiments.published import (
  cascade,
  embeddings,
  images,
  matching,
  printed,
  retrieval,
)

_LENGTH = 32  # Tokens.
_SIDE = 256  # Of photographs.
_PHOTOS = ("astronaut.png", "camera.png", "coffee.png", "chelsea.png")
_NETWORKS = {"proposal": "pnet", "refine": "rnet", "output": "onet"}
_CLOSE = "<= 0.0001"


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Compare, and yield rows.

  Args:
    rounds: Not used: nothing is timed.
  """
  del rounds
  texts = [
    x for pair in zip(*retrieval.python_help(), strict=True) for x in pair
  ]
  photos = {
    f"photo_{i}": images.photo(name, _SIDE, square=True)
    for i, name in enumerate(_PHOTOS)
  }
  windows = _windows(photos["photo_0"])
  pages = _pages()
  theirs = _ask(
    texts,
    photos | {f"window_{_NETWORKS[k]}": x for k, x in windows.items()},
    pages,
  )
  yield from _embeddings(texts, theirs)
  yield from _cascade(windows, photos, theirs)
  yield from _text(pages, theirs["map"])


def _windows(photo: np.ndarray) -> dict[str, np.ndarray]:
  """Return a photograph at half its size, and parts of it for two networks."""
  pixels = photo.astype(np.float32)
  parts = {
    name: np.stack(
      [
        cascade.resize(pixels[y : y + 64, x : x + 64], side, side)
        for y in range(0, _SIDE - 63, 32)
        for x in range(0, _SIDE - 63, 32)
      ]
    )
    for name, side in (("refine", 24), ("output", 48))
  }
  parts["proposal"] = cascade.resize(pixels, 129, 130)[None]
  return {name: (x - 127.5) / 128 for name, x in parts.items()}


def _pages() -> np.ndarray:
  """Return a scan and pages of words, as the text detector takes them."""
  scan = images.photo("page.png", _SIDE)[:, : _SIDE * 3 // 2]
  every = [scan, *(page.image for page in images.printed_pages(3, seed=0))]
  return np.concatenate([printed.prepared(x) for x in every])


def _ask(
  texts: list[str], inputs: dict[str, np.ndarray], pages: np.ndarray
) -> dict[str, np.ndarray]:
  """Return the answers of the other side."""
  python = environment.python("pretrained", originals.PACKAGES)
  request = {
    "minilm": str(packages.find("minilm").parent),
    "facenet": str(packages.find("mtcnn-pnet").parent.parent),
    "ppocr": str(packages.find("ppocr")),
    "texts": texts,
    "length": _LENGTH,
  }
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    (folder / "request.json").write_text(json.dumps(request))
    arrays: dict[str, Any] = {"pages": pages, **inputs}
    np.savez(folder / "inputs.npz", **arrays)
    subprocess.run(
      [python, "-m", originals.__name__, temporary],
      env=os.environ | {"PYTHONPATH": str(environment.ROOT)},
      check=True,
    )
    with np.load(folder / "answers.npz") as found:
      return dict(found)


def _row(name: str, value: Any, unit: str, target: str = "") -> dict[str, Any]:
  return timing.row(name, timing.exact(float(value)), unit, target)


def _apart(name: str, ours: Any, theirs: Any) -> dict[str, Any]:
  difference = np.abs(np.asarray(ours) - theirs).max()
  return _row(f"{name}: largest difference", difference, "", _CLOSE)


def _embeddings(
  texts: list[str], theirs: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
  folder = packages.find("minilm").parent
  model, variables = embeddings.load(folder)
  encode = WordPiece(folder / "tokenizer.json", model.vocabulary, _LENGTH)
  tokens = encode(texts)
  same = (tokens == theirs["tokens"]).all(1).mean()
  what = f"MiniLM, PyTorch, {len(texts)} texts"
  yield _row(f"{what}: tokens equal", 100 * same, "%", "100")
  ours = np.asarray(jax.jit(model.apply)(variables, tokens))
  yield _apart(f"{what}: embedding", ours, theirs["vectors"])
  cosine = (ours * theirs["vectors"]).sum(1).min()
  yield _row(f"{what}: smallest cosine", cosine, "", ">= 0.99999")


def _cascade(
  windows: dict[str, np.ndarray],
  photos: dict[str, np.ndarray],
  theirs: dict[str, np.ndarray],
) -> Iterator[dict[str, Any]]:
  model, variables = cascade.load("package:mtcnn-")
  forward = jax.jit(functools.partial(model.apply, variables))
  ours = forward(windows)
  for name, file in _NETWORKS.items():
    what = f"MTCNN, PyTorch, {name}, {len(windows[name])} inputs"
    face = jax.nn.softmax(ours[name]["face"])
    yield _apart(f"{what}: probability", face, theirs[f"{file}_face"])
    yield _apart(f"{what}: edges", ours[name]["box"], theirs[f"{file}_box"])
  furthest, faces = 0.0, 0
  for name, photo in photos.items():
    own, other = cascade.detect(forward, photo), theirs[name]
    if len(own.scores) != len(other):
      raise ValueError(f"{name}: {len(own.scores)} faces, PyTorch {len(other)}")
    faces += len(other)
    if len(other):
      boxes = other[:, [1, 0, 3, 2]]
      nearest = matching.overlaps(own.boxes, boxes).argmax(1)
      apart = np.abs(own.boxes - boxes[nearest]).max()
      furthest = max(furthest, float(apart))
  what = f"MTCNN, PyTorch, {len(photos)} photographs, {faces} faces"
  yield _row(f"{what}: largest difference of an edge", furthest, "px", "<= 0.1")


def _text(pages: np.ndarray, theirs: np.ndarray) -> Iterator[dict[str, Any]]:
  model = dbnet.TextDetector()
  file = packages.find("ppocr")
  variables = pretrained.load(file, model, jnp.asarray(pages[:1]))
  ours = jax.nn.sigmoid(jax.jit(model.apply)(variables, pages))
  what = f"PP-OCRv4, ONNX Runtime, {len(pages)} pages"
  yield _apart(f"{what}: probability of text", ours, theirs)
  text = theirs > 0.3
  yield _row(f"{what}: pixels of text", 100 * text.mean(), "%")
  same = (np.asarray(ours) > 0.3) == text
  yield _row(f"{what}: pixels decided alike", 100 * same.mean(), "%", "100")
