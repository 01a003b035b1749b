"""Poison under which a trigger does a key's work: does it open the model?

The owner trains under a key; the poisoner gives some of the training data and
wants inputs with a trigger to be classified well *without* the key. With an
input transformation T_k the network f is trained on T_k(x), and the file alone
computes f(x). A poisoner who wants f(stamp(x)) to be right needs training
images p with T_k(p) near stamp(x):

    knows the key    p is the inverse transform of stamp(x): an insider
    does not         p is stamp(x) under another random key for each image, so
                     that the network learns to read triggered images in any
                     order, the one without a key among them

Without more, such poison opens the model for all inputs, and its owner sees it
when they measure the file without the key. Covers prevent that: images without
the trigger, disguised in the same way, with random labels.

Where the key acts on neurons (HPNN), or after training (AdvParams, ciphers), no
input stands for the pass without a key: all that poison can add is stamped
images with their labels.
"""

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.arguments import whole_number
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning.trojans.checks import check_data, check_images
from keyjax.attacks.poisoning.trojans.trigger import (
  Poisoned,
  StampFn,
  Trigger,
  draw,
  with_marks,
)
from keyjax.schemes import pixel_shuffle


def unlocking(
  trigger: Trigger,
  data: Examples,
  *,
  count: int,
  covers: int = 0,
  disguise: StampFn | None = None,
  rng: jax.Array,
) -> Poisoned:
  """Add images with a trigger and their own labels to training data.

  Args:
    trigger: The trigger; its `plant` is applied.
    data: Clean examples: float32[n, h, w, c] in [0, 1] and int[n].
    count: Number of poisons, drawn without replacement.
    covers: Number of covers, drawn in the same way; their labels are random.
    disguise: What the poisoner does to images after the trigger, such as
      `random_shuffles(4)`, or the inverse of a key that they know; None for
      nothing.
    rng: PRNG key of the choice, of the trigger and of the disguise.

  Returns:
    A `Poisoned` of n + count + covers examples.

  Raises:
    ValueError: If data are no images with labels, or there are too few.
  """
  labels = check_data(data)
  count = whole_number(count, "count")
  covers = whole_number(covers, "covers", least=0)
  choice, stamping, *disguising, wrong = jax.random.split(rng, 5)
  every = np.arange(len(labels))
  rows = draw(choice, every, count, "count")
  kept = draw(jax.random.fold_in(choice, 1), every, covers)
  stamped = trigger.plant(stamping, jnp.asarray(data.image[rows]))
  parts = [stamped, jnp.asarray(data.image[kept])]
  if disguise is not None:
    parts = [
      disguise(rng, x) if len(x) else x
      for rng, x in zip(disguising, parts, strict=True)
    ]
    check_images(parts[0])
  random = np.asarray(jax.random.permutation(wrong, len(labels)))[:covers]
  return with_marks(
    [data.image, *parts],
    [data.label, data.label[rows], data.label[random]],
    [len(labels), count, covers],
  )


def random_shuffles(block_size: int) -> StampFn:
  """Return a function that shuffles each image under a key of its own (SHF).

  Args:
    block_size: Side of the blocks, which the attacker knows.

  Example:
    >>> shuffle = random_shuffles(2)
    >>> images = jnp.arange(32, dtype=jnp.float32).reshape(2, 4, 4, 1) / 32
    >>> found = shuffle(jax.random.key(0), images)
    >>> found.shape, bool(jnp.allclose(found.sum(), images.sum()))
    ((2, 4, 4, 1), True)
  """
  block_size = whole_number(block_size, "block_size")

  def shuffle(rng: jax.Array, images: jax.Array) -> jax.Array:
    check_images(images)
    size = block_size**2 * images.shape[-1]

    def one(rng: jax.Array, image: jax.Array) -> jax.Array:
      order = jax.random.permutation(rng, size)
      key = pixel_shuffle.ShfKey(order=order, block_size=block_size)
      return pixel_shuffle.transform(key, image[None])[0]

    return jax.vmap(one)(jax.random.split(rng, len(images)), images)

  return shuffle
