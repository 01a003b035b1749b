"""How near recovered images are to the true ones, against a control.

The order of a batch is lost in its gradient: images are paired so that the sum
of squared errors is least. A blurred mean of many images is near to each of
them: only an image that is nearer to what was recovered than every unrelated
one was recovered.

Source of SSIM: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from
error visibility to structural similarity", IEEE TIP 13(4), 2004.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
import scipy.optimize

from keyjax.arguments import describe
from keyjax.attacks.privacy import signals

_WINDOW = 7
_EXACT = 100.0  # Largest PSNR, of an image without an error.


class Scores(NamedTuple):
  """Scores of each true image, float64[b] or bool[b].

  Attributes:
    order: int64[b], the recovered image that is paired with each true one.
    mse: Mean squared error of pixels.
    psnr: Peak signal-to-noise ratio in decibels, at most 100.
    ssim: Structural similarity.
    control: Least mean squared error to an unrelated image.
    named: Whether the true image is nearer than all unrelated ones.
  """

  order: np.ndarray
  mse: np.ndarray
  psnr: np.ndarray
  ssim: np.ndarray
  control: np.ndarray
  named: np.ndarray


def score(found: Any, true: Any, unrelated: Any) -> Scores:
  """Return how near images are to true ones.

  Args:
    found: float[k, h, w, c], what an attack recovered, k at least b; values are
      clipped to [0, 1], and NaN counts as 0.
    true: float[b, h, w, c], in [0, 1].
    unrelated: float[m, h, w, c], other images.

  Raises:
    ValueError: If shapes differ, or a true image is not in [0, 1].

  Example:
    >>> images = np.random.default_rng(0).random((5, 8, 8, 1))
    >>> found = score(images[[1, 0]], images[:2], images[2:])
    >>> found.order.tolist(), found.psnr.tolist(), found.named.tolist()
    ([1, 0], [100.0, 100.0], [True, True])
  """
  true = _images(true, "true", finite=True)
  other = _images(unrelated, "unrelated", finite=True)
  got = np.clip(np.nan_to_num(_images(found, "found")), 0, 1)
  for name, images in (("found", got), ("unrelated", other)):
    if images.shape[1:] != true.shape[1:]:
      raise ValueError(
        f"{name} images are {list(images.shape[1:])}, true ones "
        f"{list(true.shape[1:])}"
      )
  if len(got) < len(true):
    raise ValueError(f"{len(got)} found images for {len(true)} true ones")
  if true.min() < 0 or true.max() > 1:
    raise ValueError("true images are not in [0, 1]: divide by 255")
  errors = distances(true, got)  # [b, k]
  _, order = scipy.optimize.linear_sum_assignment(errors)
  mse = errors[np.arange(len(true)), order]
  paired = got[order]
  control = distances(paired, other).min(1)
  with np.errstate(divide="ignore"):
    psnr = np.minimum(-10 * np.log10(mse), _EXACT)
  similar = np.asarray(
    [ssim(a, b) for a, b in zip(paired, true, strict=True)], np.float64
  )
  return Scores(order, mse, psnr, similar, control, mse < control)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Return mean squared errors of all pairs, float64[n, m].

  Example:
    >>> distances(np.zeros((1, 2, 2, 1)), np.ones((3, 2, 2, 1))).tolist()
    [[1.0, 1.0, 1.0]]
  """
  a, b = (x.reshape(len(x), -1) for x in (first, second))
  return np.stack([((row - b) ** 2).mean(-1) for row in a])


def ssim(first: Any, second: Any) -> float:
  """Return the structural similarity of two images in [0, 1].

  Means are over windows of 7 x 7 pixels, or of the smaller side.

  Args:
    first: float[h, w, c].
    second: float[h, w, c].

  Raises:
    ValueError: If shapes differ.

  Example:
    >>> image = np.random.default_rng(0).random((8, 8, 1))
    >>> round(ssim(image, image), 6), ssim(image, 1 - image) < 0.1
    (1.0, True)
  """
  x = signals.check_values(first, "first", (3,))
  y = signals.check_values(second, "second", (3,))
  if x.shape != y.shape:
    raise ValueError(f"images are {list(x.shape)} and {list(y.shape)}")
  side = min(_WINDOW, *x.shape[:2])
  edge = side // 2
  cut = tuple(slice(edge, n - (side - 1 - edge)) for n in x.shape[:2])

  def mean(values: np.ndarray) -> np.ndarray:
    whole = scipy.ndimage.uniform_filter(values, (side, side, 1))
    return np.asarray(whole[cut])  # Windows that are inside the image.

  unbiased = side**2 / (side**2 - 1) if side > 1 else 1.0
  mu_x, mu_y = mean(x), mean(y)
  var_x = unbiased * (mean(x * x) - mu_x**2)
  var_y = unbiased * (mean(y * y) - mu_y**2)
  both = unbiased * (mean(x * y) - mu_x * mu_y)
  c1, c2 = 0.01**2, 0.03**2
  top = (2 * mu_x * mu_y + c1) * (2 * both + c2)
  return float(np.mean(top / ((mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2))))


def label_accuracy(found: Any, true: Any, classes: int) -> float:
  """Return the share of labels that were found, whatever their order.

  Args:
    found: int[b].
    true: int[b].
    classes: Number of classes.

  Raises:
    ValueError: If shapes differ, or a label is no class.

  Example:
    >>> label_accuracy(np.array([3, 1]), np.array([1, 2]), 4)
    0.5
  """
  n = np.asarray(true).size
  counts = [
    np.bincount(signals.check_labels(x, (n, classes)), minlength=classes)
    for x in (found, true)
  ]
  return float(np.minimum(*counts).sum() / n)


def _images(images: Any, name: str, finite: bool = False) -> np.ndarray:
  found = signals.check_values(images, f"{name}: images", (4,))
  if finite and not np.isfinite(found).all():
    raise ValueError(f"{name}: images are {describe(found)} with NaN or inf")
  return found
