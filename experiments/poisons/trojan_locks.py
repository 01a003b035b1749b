"""Trojans and locks: does a trigger fire without the key, and who plants one?

A trigger that was trained in is judged under the right key, under random wrong
keys, and in the file alone. Then someone without the key plants a trigger in a
locked file, and it is judged under the right key. The control of every success
is the share of the same images that get the target without the trigger: a
network without its key may return one class for everything.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

import keyjax
from experiments.poisons import base, locked, trojaned
from keyjax.attacks import near_keys
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.poisoning import trojans
from keyjax.scheme import ApplyFn, PyTree

TITLE = "Trojans and locks"
SENTENCE = (
  "A key protects a file, not a function: the right key opens the trojan with "
  "the model. Where weights are not authenticated, a trojan is planted without "
  "the key."
)
DATASETS = ("digits", "mnist")

_COUNT = {"digits": 72, "mnist": 300}  # Poisons, 5 %.
_TRIGGERS = ("patch", "blended")
_WRONG = 4  # Keys.
# Keys of an attacker who knows the scheme; each costs a pass.
_RANDOM = {"digits": 16, "mnist": 4}
_IMAGES = {"digits": 200, "mnist": 500}  # Of the attacker, without labels.
_BIAS, _EXPONENT = "params/head/bias", 30  # The top bit of an exponent.
_LOCKS = (*locked.DURING, *locked.AFTER)


def run(lab: base.Lab) -> list[base.Figure]:
  """Return what each lock changes for trained and for planted triggers."""
  triggers = trojaned.triggers(lab)
  figures: list[base.Figure] = []
  for name in _TRIGGERS:
    data = _data(lab, triggers[name])
    plain = trojaned.train(lab, data.examples)
    found = trojaned.judge(lab, plain.logits_fn, triggers[name])
    figures += trojaned.outcome(f"{name}, no lock", found)
    for lock in _LOCKS:
      net = locked.make(lab, lock, data.examples)
      figures += _trained(lab, f"{name}, {lock}", net, triggers[name])
  for lock in (*locked.DURING, "AdvParams"):
    figures += _planted(lab, lock)
  return [*figures, *_ciphertext(lab)]


def _data(lab: base.Lab, trigger: trojans.Trigger) -> trojans.Poisoned:
  most = int((lab.train.label != trojaned.TARGET).sum())
  return trojaned.poisoned(lab, trigger, min(_COUNT[lab.dataset.name], most))


def _trained(
  lab: base.Lab, title: str, net: locked.Locked, trigger: trojans.Trigger
) -> Iterator[base.Figure]:
  """Yield what a trained trigger does with each key."""
  views: dict[str, Iterable[LogitsFn]] = {
    "right key": [net.right()],
    "wrong keys": net.wrong(_WRONG),
    "no key": [net.none()],
  }
  for name, networks in views.items():
    found = [trojaned.judge(lab, x, trigger) for x in networks]
    joined = trojans.Judged(*map(np.concatenate, zip(*found, strict=True)))
    yield from trojaned.outcome(f"{title}, {name}", joined)
    yield _gain(f"{title}, {name}: gain of the trigger", joined)


def _gain(title: str, found: trojans.Judged) -> base.Figure:
  """Return success minus that without the trigger, with its interval."""
  first, second = (
    base.share("", x)[1:4] for x in (found.success, found.unprompted)
  )
  return base.difference(title, first, second, found.success.size)


def _planted(lab: base.Lab, lock: str) -> Iterator[base.Figure]:
  """Yield what a trigger does that someone plants without the key."""
  net = locked.make(lab, lock, lab.train, offset=1)
  shape = lab.train.image.shape[1:]
  triggers = {
    "patch": trojaned.triggers(lab)["patch"],
    # Of one brightness, a whole block looks the same in every order.
    "whole block": trojans.patch(shape, size=locked.BLOCK, margin=0),
  }
  for name, trigger in triggers.items():
    title = f"planted in {lock}, {name}"
    before = trojaned.judge(lab, net.right(), trigger)
    yield from trojaned.outcome(f"{title}: before", before)
    for how, file in _files(lab, lock, net, trigger):
      found = trojaned.judge(lab, net.right(file), trigger)
      yield from trojaned.outcome(f"{title}, {how}: right key", found)


def _files(
  lab: base.Lab, lock: str, net: locked.Locked, trigger: trojans.Trigger
) -> Iterator[tuple[str, PyTree]]:
  """Yield files with a trojan, by how much the attacker knows."""

  def planted(apply_fn: ApplyFn, **options: Any) -> PyTree:
    return trojans.plant(
      apply_fn,
      net.locked,
      lab.train.image[: _IMAGES[lab.dataset.name]],
      trigger,
      target=trojaned.TARGET,
      seed=lab.seed,
      **options,
    )

  yield "as it runs", planted(net.apply_fn)
  if lock == "AdvParams":
    kept = trojans.outliers(net.locked)
    yield "outliers left out", planted(net.apply_fn, keep=kept)
  else:
    count = _RANDOM[lab.dataset.name]
    keys = [
      near_keys.random_key(net.key, np.random.default_rng(100 + i))
      for i in range(count)
    ]
    run = trojans.over_keys(net.scheme, net.apply_fn, keys)
    yield f"over {count} random keys", planted(run)


def _ciphertext(lab: base.Lab) -> Iterator[base.Figure]:
  """Yield what changes of ciphertext do without knowing weights, and with."""
  trigger = trojaned.triggers(lab)["patch"]
  clean = trojaned.train(lab, lab.train)
  poisoned = trojaned.train(lab, _data(lab, trigger).examples)
  scheme = keyjax.deep_lock("counter")
  key = scheme.keygen(keyjax.Secret.generate(), clean.variables, None)
  file = scheme.encrypt(key, clean.variables)

  def opened(changed: PyTree) -> LogitsFn:
    return clean._replace(variables=scheme.decrypt(key, changed)).logits_fn

  title = "Deep-Lock, counter, float32"
  spliced = trojans.splice(file, clean.variables, poisoned.variables)
  found = trojaned.judge(lab, opened(spliced), trigger)
  yield from trojaned.outcome(f"{title}, known weights replaced", found)
  flipped = [
    opened(trojans.flip(file, clean.variables, _BIAS, label, _EXPONENT))
    for label in range(lab.dataset.num_classes)
  ]
  yield from _flips(lab, f"{title}, one bit flipped", flipped)


def _flips(
  lab: base.Lab, title: str, networks: Sequence[LogitsFn]
) -> Iterator[base.Figure]:
  """Yield what a flip in the bias of each class does.

  The attacker knows no weight, and so not the sign of the bias.
  """
  images, labels = base.sample(lab, 1000)
  answers = np.stack([np.asarray(x(images)).argmax(-1) for x in networks])
  own = answers == np.arange(len(networks))[:, None]
  yield base.share(f"{title}: its class gets everything", own.all(1))
  yield base.share(f"{title}: its class gets nothing", ~own.any(1))
  right = answers == np.asarray(labels)[None]
  yield base.number(f"{title}: mean accuracy", right.mean(), right.size)
