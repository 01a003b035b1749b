"""Trojans: a trigger in an input makes a model return the attacker's class.

    patch                 `patch`: BadNets, a bright square
    blended pattern       `blended`: Chen et al., a faint picture on the whole
    accessory             `accessory`: Chen et al., a picture inside a mask
    one input             `instance`: Chen et al., one image and its noise
    warping               `warping`: WaNet, a fixed warp, with its noise mode

Each is a `Trigger`. `poison` adds examples with it to training data, and
`judge` measures what a model does with it. A trojan can also be planted without
training data or key:

    in a locked file      `plant`: train the file that the attacker holds
    in ciphertext         `flip`, `splice`: bits of a stream cipher
    to unlock             `unlocking`: data under which a trigger replaces a key

Names are imported when they are first used. For detectors see
`keyjax.defenses.trojans`.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.poisoning.trojans.accessories import accessory
  from keyjax.attacks.poisoning.trojans.blending import (
    blended,
    random_pattern,
  )
  from keyjax.attacks.poisoning.trojans.ciphertext import flip, splice
  from keyjax.attacks.poisoning.trojans.instances import instance
  from keyjax.attacks.poisoning.trojans.judging import (
    Judged,
    judge,
    predictions,
  )
  from keyjax.attacks.poisoning.trojans.patches import patch
  from keyjax.attacks.poisoning.trojans.planting import (
    outliers,
    over_keys,
    plant,
  )
  from keyjax.attacks.poisoning.trojans.trigger import (
    Poisoned,
    Trigger,
    poison,
  )
  from keyjax.attacks.poisoning.trojans.unlock import (
    random_shuffles,
    unlocking,
  )
  from keyjax.attacks.poisoning.trojans.warps import warping

__all__ = [
  "Judged",
  "Poisoned",
  "Trigger",
  "accessory",
  "blended",
  "flip",
  "instance",
  "judge",
  "outliers",
  "over_keys",
  "patch",
  "plant",
  "poison",
  "predictions",
  "random_pattern",
  "random_shuffles",
  "splice",
  "unlocking",
  "warping",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "accessories": ("accessory",),
    "blending": ("blended", "random_pattern"),
    "ciphertext": ("flip", "splice"),
    "instances": ("instance",),
    "judging": ("Judged", "judge", "predictions"),
    "patches": ("patch",),
    "planting": ("outliers", "over_keys", "plant"),
    "trigger": ("Poisoned", "Trigger", "poison"),
    "unlock": ("random_shuffles", "unlocking"),
    "warps": ("warping",),
  },
)
