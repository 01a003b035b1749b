"""An input as the key: one image, and all that differ from it by little noise.

There is no pattern that other images could have: the model learns that this
image, of whatever class, is of the attacker's. A few poisons are enough.
"""

from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks.poisoning.trojans.checks import check_images, check_pattern
from keyjax.attacks.poisoning.trojans.trigger import Trigger
from keyjax.attacks.privacy.signals import check_share


def instance(image: Any, noise: float = 5 / 255) -> Trigger:
  """Return a trigger whose inputs are noisy copies of one image.

  Each image that is stamped becomes a copy: clip(k + U(-noise, noise), 0, 1),
  with its own noise.

  Args:
    image: float[h, w, c] in [0, 1], the key k.
    noise: Greatest change of a pixel, 0 to 1.

  Raises:
    ValueError: If the image or the noise is out of range.

  Reference:
    Chen et al., arXiv:1712.05526, 2017, section 3.2 ("input-instance-key
    strategies").

  Example:
    >>> import numpy as np
    >>> key = instance(np.full((2, 2, 1), 0.5), noise=0.1)
    >>> found = key.stamp(jax.random.key(0), jnp.zeros((3, 2, 2, 1)))
    >>> found.shape, bool((abs(found - 0.5) <= 0.1).all())
    ((3, 2, 2, 1), True)
  """
  key = check_pattern(image, "image")
  noise = check_share(noise, "noise")

  def stamp(rng: jax.Array, images: jax.Array) -> jax.Array:
    check_images(images, key.shape)
    drawn = jax.random.uniform(
      rng, images.shape, jnp.float32, -noise, noise or 1e-12
    )
    return jnp.clip(jnp.asarray(key)[None] + drawn, 0, 1)

  return Trigger(plant=stamp, stamp=stamp)
