"""What all triggers share: how they change images, and how they poison data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.arguments import whole_number
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning.trojans.checks import check_data

StampFn = Callable[[jax.Array, jax.Array], jax.Array]


class Trigger(NamedTuple):
  """A trigger: pure functions `(rng, images) -> images`.

  Images are float32[n, h, w, c] in [0, 1] and so is what is returned.

  Attributes:
    plant: What training images become, which get the attacker's label.
    stamp: What inputs become later, in front of the trained model.
    cover: What training images become that keep their labels, so that a model
      learns the trigger itself and nothing near it; None for triggers without.
  """

  plant: StampFn
  stamp: StampFn
  cover: StampFn | None = None


class Poisoned(NamedTuple):
  """Training data with poison, after the clean examples.

  Attributes:
    examples: The clean examples, then poisons, then covers.
    poison: bool[n], the examples with the trigger and the attacker's label.
    cover: bool[n], the examples with a cover and their own label.
  """

  examples: Examples
  poison: np.ndarray
  cover: np.ndarray


def poison(
  trigger: Trigger,
  data: Examples,
  *,
  target: int,
  count: int,
  covers: int = 0,
  source: int | None = None,
  rng: jax.Array,
) -> Poisoned:
  """Add poisons to training data: copies with a trigger and one label.

  Needs: that some of the training data come from the attacker. Clean examples
  stay as they are.

  Args:
    trigger: The trigger.
    data: Clean examples: float32[n, h, w, c] in [0, 1] and int[n].
    target: Label of the poisons.
    count: Number of poisons, drawn without replacement from the images of
      other classes; 0 adds none.
    covers: Number of covers, drawn from all images.
    source: Class of the images that are poisoned; None for all but the target.
    rng: PRNG key of the choice and of the trigger.

  Returns:
    A `Poisoned` of n + count + covers examples.

  Raises:
    ValueError: If data are no images with labels, there are too few images, or
      the trigger has no covers.

  Reference:
    Xinyun Chen, Chang Liu, Bo Li, Kimberly Lu and Dawn Song, "Targeted backdoor
    attacks on deep learning systems using data poisoning", arXiv:1712.05526,
    2017, section 3.

  Example:
    >>> from keyjax.attacks.poisoning import trojans
    >>> images = np.zeros((4, 8, 8, 1), np.float32)
    >>> data = Examples(images, np.asarray([0, 1, 2, 0], np.int32))
    >>> square = trojans.patch((8, 8, 1), size=2)
    >>> found = poison(square, data, target=0, count=2, rng=jax.random.key(0))
    >>> found.examples.label.tolist(), found.poison.tolist()
    ([0, 1, 2, 0, 0, 0], [False, False, False, False, True, True])
  """
  labels = check_data(data)
  target = whole_number(target, "target", least=0)
  count = whole_number(count, "count", least=0)
  covers = whole_number(covers, "covers", least=0)
  if covers and trigger.cover is None:
    raise ValueError(f"covers={covers}: this trigger has none; pass 0")
  if source is None:
    candidates = np.flatnonzero(labels != target)
  else:
    source = whole_number(source, "source", least=0)
    if source == target:
      raise ValueError(f"source={source}: the target itself; pass another")
    candidates = np.flatnonzero(labels == source)
  choice, stamping, covering = jax.random.split(rng, 3)
  rows = draw(choice, candidates, count, "count")
  kept = draw(jax.random.fold_in(choice, 1), np.arange(len(labels)), covers)
  parts = [(data.image, data.label)]
  if count:
    changed = trigger.plant(stamping, jnp.asarray(data.image[rows]))
    parts.append((changed, np.full(count, target, data.label.dtype)))
  if covers and trigger.cover is not None:
    changed = trigger.cover(covering, jnp.asarray(data.image[kept]))
    parts.append((changed, data.label[kept]))
  images, found = zip(*parts, strict=True)
  return with_marks(images, found, [len(labels), count, covers])


def with_marks(images: Any, labels: Any, counts: list[int]) -> Poisoned:
  """Return parts of training data as one, with what they are.

  Args:
    images: Parts, each float32[n_i, h, w, c].
    labels: Their labels, each int[n_i].
    counts: Number of clean examples, of poisons and of covers.
  """
  kind = np.repeat(np.arange(3), counts)
  examples = Examples(
    np.concatenate([np.asarray(x, np.float32) for x in images]),
    np.concatenate([np.asarray(x, np.int32) for x in labels]),
  )
  assert tasks.num_examples(examples.image) == len(kind)
  return Poisoned(examples, kind == 1, kind == 2)


def draw(
  rng: jax.Array, candidates: np.ndarray, count: int, name: str = "covers"
) -> np.ndarray:
  """Return `count` of the candidates, drawn without replacement, int[count].

  Args:
    rng: PRNG key.
    candidates: int[m].
    count: Number to draw.
    name: Name of the number, for the error.

  Raises:
    ValueError: If there are fewer.
  """
  if count > len(candidates):
    raise ValueError(
      f"{name}={count}: there are {len(candidates)} images to choose from"
    )
  order = np.asarray(jax.random.permutation(rng, len(candidates)))
  return np.asarray(candidates[order[:count]])
