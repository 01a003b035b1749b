"""Attacks through a camera: printed images, and accessories that are worn.

Pure functions over `logits_fn: float[n, ...] -> float[n, classes]`. The print
and the photo are simulated: no camera was used. Names are imported when they
are first used.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.attacks.physical import jpeg
  from keyjax.attacks.physical.accessory import Accessory, accessory_attack
  from keyjax.attacks.physical.destruction import (
    Destroyed,
    Destruction,
    destroyed,
    destruction_rate,
  )
  from keyjax.attacks.physical.pattern import (
    glasses,
    non_printability,
    total_variation,
    wear,
  )
  from keyjax.attacks.physical.print_photo import (
    HANDHELD,
    Photo,
    photograph,
    warp,
  )

__all__ = [
  "HANDHELD",
  "Accessory",
  "Destroyed",
  "Destruction",
  "Photo",
  "accessory_attack",
  "destroyed",
  "destruction_rate",
  "glasses",
  "jpeg",
  "non_printability",
  "photograph",
  "total_variation",
  "warp",
  "wear",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "accessory": ("Accessory", "accessory_attack"),
    "destruction": (
      "Destroyed",
      "Destruction",
      "destroyed",
      "destruction_rate",
    ),
    "pattern": ("glasses", "non_printability", "total_variation", "wear"),
    "print_photo": ("HANDHELD", "Photo", "photograph", "warp"),
  },
)
