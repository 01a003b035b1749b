"""Label-only attack: members are classified right after larger changes.

Training moves the decision boundary away from its examples. An API that hides
its probabilities still shows the distance: the share of changed copies of an
example that it classifies right.

Needs: the class that the target predicts, and the true label. Cost: a query for
each copy of each example, counted.

Source: Christopher A. Choquette-Choo, Florian Tramer, Nicholas Carlini and
Nicolas Papernot, "Label-only membership inference attacks", ICML 2021: sections
3.2 (translations) and 3.4 (noise). They train an attack model on which copies
were right: pass `Answers.right` to `shokri.fit`. Which noise tells most depends
on the data: choose it on a shadow model.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keyjax.arguments import (
  describe,
  require_function,
  seed_number,
  whole_number,
)
from keyjax.attacks.privacy import signals

Predict = Callable[[np.ndarray], Any]  # float[n, ...] -> int[n], on the host.


class Answers(NamedTuple):
  """What the target answered.

  Attributes:
    right: bool[n, copies], whether the class of each copy was the label.
    queries: Inputs that the target classified, for all examples.
  """

  right: np.ndarray
  queries: int

  @property
  def scores(self) -> np.ndarray:
    """Return the share of copies that were right, float64[n]."""
    return np.asarray(self.right.mean(1))


def ask(predict: Predict, labels: Any, copies: Iterable[Any]) -> Answers:
  """Return which copies of the examples a target classifies right.

  Args:
    predict: Function from inputs to classes, int[n]; called for each copy. A
      negative class is no answer, which is not right.
    labels: int[n].
    copies: Inputs [n, ...] of all examples, changed in one way after another;
      from `translations` or `noise`.

  Raises:
    ValueError: If predict does not return a class of each input, there are no
      copies, or labels do not fit them.
    TypeError: If predict is no function.

  Example:
    >>> x = np.array([[0.2], [0.9]])
    >>> predict = lambda x: (x[:, 0] > 0.5).astype(int)
    >>> found = ask(predict, np.array([0, 0]), [x, x + 0.4])
    >>> found.scores.tolist(), found.queries
    ([0.5, 0.0], 4)
  """
  require_function(predict, "label_only: predict", "one from inputs to classes")
  known = signals.check_labels(labels, (np.size(labels), None))
  right = []
  for inputs in copies:
    found = np.asarray(predict(np.asarray(inputs)))
    integers = np.issubdtype(found.dtype, np.integer)
    if not integers or found.shape != known.shape:
      raise ValueError(
        f"label_only: predict returns {describe(found)}: expected the class of "
        f"each input, integers [{len(known)}]"
      )
    right.append(found == known)
  if not right:
    raise ValueError("label_only: no copies: pass translations or noise")
  return Answers(np.stack(right, axis=1), len(right) * len(known))


def translations(inputs: Any, distance: int = 1) -> Iterator[np.ndarray]:
  """Yield images, and images moved by a number of pixels in all.

  There are 4 distance + 1 copies: the images themselves, and those moved by
  (i, j) with `|i| + |j| = distance`. What enters at an edge is the least value
  of the image, its background.

  Args:
    inputs: float[n, h, w, ...].
    distance: Number of pixels.

  Raises:
    ValueError: If inputs are no images, or the distance is not smaller.

  Example:
    >>> image = np.array([[[0.0, 1.0], [0.0, 0.0]]])
    >>> copies = list(translations(image))
    >>> len(copies), copies[1].tolist()
    (5, [[[0.0, 0.0], [0.0, 0.0]]])
  """
  images = np.asarray(inputs)
  if images.ndim < 3:
    raise ValueError(
      f"inputs are {describe(images)}: pass images, [n, h, w, c]"
    )
  distance = whole_number(distance, "distance")
  if distance >= min(images.shape[1:3]):
    raise ValueError(f"distance={distance}: images are {images.shape[1:3]}")
  return _translations(images, distance)


def _translations(images: np.ndarray, distance: int) -> Iterator[np.ndarray]:
  yield images
  for i in range(-distance, distance + 1):
    rest = distance - abs(i)
    for j in (-rest, rest) if rest else (0,):
      yield _moved(images, i, j)


def _moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
  h, w = images.shape[1:3]
  axes = tuple(range(1, images.ndim))
  found = np.broadcast_to(images.min(axes, keepdims=True), images.shape).copy()
  found[
    :, max(down, 0) : h + min(down, 0), max(right, 0) : w + min(right, 0)
  ] = images[
    :, max(-down, 0) : h - max(down, 0), max(-right, 0) : w - max(right, 0)
  ]
  return found


def noise(
  inputs: Any,
  scale: float,
  copies: int = 32,
  *,
  bounds: tuple[float, float] | None = (0.0, 1.0),
  seed: int = 0,
) -> Iterator[np.ndarray]:
  """Yield inputs, and inputs with normal noise.

  Args:
    inputs: float[n, ...].
    scale: Standard deviation of the noise.
    copies: Number of noisy copies; there is one more, without noise.
    bounds: Least and greatest value of an input; None for any.
    seed: Seed of the noise.

  Raises:
    ValueError: If an argument is wrong, or an input is not finite or outside
      the bounds: its copies would all be moved to them.

  Example:
    >>> [x.shape for x in noise(np.zeros((3, 2)), 0.1, copies=2)]
    [(3, 2), (3, 2), (3, 2)]
  """
  x = signals.as_array(inputs)
  if x.ndim < 2 or not np.issubdtype(x.dtype, np.floating):
    raise ValueError(f"inputs are {describe(x)}: pass floats, [n, ...]")
  scale = signals.check_above(scale, "scale", 0)
  copies = whole_number(copies, "copies")
  low, high = signals.check_bounds(bounds)
  if not np.isfinite(x).all():
    raise ValueError("inputs have values that are NaN or infinite")
  if x.size and (x.min() < low or x.max() > high):
    raise ValueError(
      f"inputs range from {x.min():g} to {x.max():g}: they are outside of "
      f"bounds={low:g}, {high:g}"
    )
  rng = np.random.default_rng(seed_number(seed))
  return _noise(x, scale, copies, bounds, rng)


def _noise(
  x: np.ndarray,
  scale: float,
  copies: int,
  bounds: tuple[float, float] | None,
  rng: np.random.Generator,
) -> Iterator[np.ndarray]:
  yield x
  for _ in range(copies):
    noisy = x + scale * rng.standard_normal(x.shape).astype(x.dtype)
    yield noisy if bounds is None else np.clip(noisy, *bounds)
