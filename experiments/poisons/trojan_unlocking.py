"""A trigger that unlocks: poison under which inputs need no key.

The owner trains under a key. The poisoner, who writes some of the training
data, wants inputs with a patch to be classified well by the file alone. Three
poisoners: one adds images with the patch and their labels; one also shuffles
each under a random key, not knowing the right one; an insider undoes the right
key. The last one hides: covers with wrong labels keep the file useless without
the patch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.poisons import base, locked, trojaned
from keyjax.attacks.poisoning import trojans
from keyjax.attacks.poisoning.trojans.trigger import StampFn
from keyjax.schemes import pixel_shuffle

TITLE = "A trigger that unlocks"
SENTENCE = (
  "Poison can plant a trigger that does the key's work, if the poisoner knows "
  "the key; without it, it opens little."
)
DATASETS = ("digits", "mnist")
AXIS = "share of poisons"

_SHARES = {"digits": (0.05, 0.1, 0.5, 1.0), "mnist": (0.05, 0.1, 0.5)}
_STAMPED = "SHF, patch"
_SHUFFLED = "SHF, patch and random orders"
_INSIDER = "SHF, patch, key known"
_HIDDEN = "SHF, patch, key known, with covers"
_HPNN = "HPNN, patch"


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracy without the key, with and without the trigger."""
  trigger = trojaned.triggers(lab)["patch"]
  figures: list[base.Figure] = []
  for lock in locked.DURING:
    net = locked.make(lab, lock, lab.train)
    figures += _accuracies(lab, f"{lock}, no poison", net, trigger)
  for name in (_STAMPED, _SHUFFLED, _INSIDER, _HIDDEN, _HPNN):
    for share in _SHARES[lab.dataset.name]:
      net = _poisoned(lab, name, share, trigger)
      title = f"{name}, {share:.0%} poisons"
      figures += _accuracies(lab, title, net, trigger, name, share)
  return figures


def _poisoned(
  lab: base.Lab, name: str, share: float, trigger: trojans.Trigger
) -> locked.Locked:
  """Return a network that is trained under a new key on poisoned data."""
  lock = name.partition(",")[0]
  scheme, key = locked.new_key(lab, lock)
  count = round(share * len(lab.train.label))
  data = trojans.unlocking(
    trigger,
    lab.train,
    count=count,
    covers=count if name == _HIDDEN else 0,
    disguise=_disguise(name, key),
    rng=jax.random.fold_in(lab.rng, count),
  )
  return locked.train(lab, data.examples, scheme, key)


def _disguise(name: str, key: Any) -> StampFn | None:
  """Return what a poisoner does to images after the trigger."""
  if name == _SHUFFLED:
    return trojans.random_shuffles(locked.BLOCK)
  if name in (_INSIDER, _HIDDEN):
    return lambda rng, images: pixel_shuffle.inverse(key, images)
  return None


def _accuracies(
  lab: base.Lab,
  title: str,
  net: locked.Locked,
  trigger: trojans.Trigger,
  curve: str = "",
  x: float | None = None,
) -> Iterator[base.Figure]:
  """Yield accuracy with the key, without it, and with the trigger."""
  stamped = trigger.stamp(lab.rng, jnp.asarray(lab.test.image))

  def correct(logits_fn: Any, images: Any) -> np.ndarray:
    found = trojans.predictions(logits_fn, images)
    return np.asarray(found == lab.test.label)

  without = correct(net.none(), lab.test.image)
  opened = correct(net.none(), stamped)
  right = correct(net.right(), lab.test.image)
  yield base.share(f"{title}: accuracy with the key", right)
  yield base.share(f"{title}: accuracy without", without)
  yield base.share(
    f"{title}: accuracy without, with the patch", opened, "", curve, x
  )
  first, second = (base.share("", x)[1:4] for x in (opened, without))
  yield base.difference(
    f"{title}: gain of the patch", first, second, opened.size
  )
