"""Images a second that the host prepares, to compare to what a step takes.

In memory, a batch is one gather. Of ImageNet each image is decoded and cropped;
its files are not read here, so that only the processor is measured. The
`train.threads` prepare batches in parallel, and need Python's lock for a small
part of their time.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image

from experiments import data
from experiments.benchmarks.timing import Timing, interleaved, row, summary
from experiments.data import crops

# The images of CIFAR-10.
_IMAGES = 50_000
_SIZE = 32
# A photograph of ImageNet.
_HEIGHT = 375
_WIDTH = 500
_TO = 224
_DECODED = 64  # In a round.
_BATCHES = 64
_AIM = 20_000  # Images a second that a ResNet-18 on CIFAR-10 should train with.


def rows(rounds: int) -> list[dict[str, Any]]:
  """Time the pipeline of images in memory, and one that decodes."""
  made = {
    **{f"in memory, batches of {n}": _gather(n) for n in (128, 1024)},
    **{f"JPEG to {_TO} pixels, threads: {n}": _decode(n) for n in (1, 2)},
  }
  counts = [128 * _BATCHES, 1024 * _BATCHES, _DECODED, _DECODED]
  times = interleaved(made, rounds)
  return [
    _row(name, count, times[name], f">= {_AIM:,}" if "memory" in name else "")
    for name, count in zip(made, counts, strict=True)
  ]


def _row(name: str, count: int, times: Timing, target: str) -> dict[str, Any]:
  speed = summary(count / times.wall)
  return row(f"input, {name}", speed, "images/s", target)


def _gather(batch_size: int) -> Callable[[], None]:
  dataset = data.load(
    "fake", shape=(_SIZE, _SIZE, 3), classes=10, num_train=_IMAGES
  )
  batches = data.iterate(data.batches(dataset, batch_size, seed=0), 0)

  def call() -> None:
    for _ in range(_BATCHES):
      next(batches)

  return call


def _decode(threads: int) -> Callable[[], None]:
  encoded = _photograph()
  pool = ThreadPoolExecutor(threads)

  def one(i: int) -> np.ndarray:
    image = np.asarray(PIL.Image.open(io.BytesIO(encoded)))  # As TFDS does.
    height, width, _ = image.shape
    box = crops.random_box(height, width, np.random.default_rng(i))
    return crops.resized(image, box, _TO)

  def call() -> None:
    for _ in pool.map(one, range(_DECODED)):
      pass

  return call


def _photograph() -> bytes:
  """Return a JPEG of about 80 kB: smooth colours, and noise."""
  rng = np.random.default_rng(0)
  small = PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
  smooth = small.resize((_WIDTH, _HEIGHT), PIL.Image.Resampling.BICUBIC)
  noisy = np.asarray(smooth) + rng.normal(0, 12, (_HEIGHT, _WIDTH, 3))
  file = io.BytesIO()
  image = PIL.Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
  image.save(file, "JPEG", quality=90)
  return file.getvalue()
