"""Wrong labels in a stream that a model goes on learning from, and guards.

The story of Tay, re-staged: a burst of labels that are wrong together, in the
middle of the stream, and what a loss gate, rollback, and records with tags do.
The burst has no valid tag: its writers lack the key. What writers who have the
key send passes, and is the last line.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.poisons import base
from keyjax import Secret, data
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import stream as attack
from keyjax.attacks.poisoning.label_flips import Flipped
from keyjax.defenses.poisoning import online
from keyjax.defenses.poisoning.online import Learned, Rollback

TITLE = "A burst in a stream"
SENTENCE = (
  "A model that goes on learning from its users, as Tay did, learns what they "
  "teach; gates and rollback bound it, and tags keep strangers out."
)
DATASETS = ("digits", "mnist")
AXIS = "step"

_STEPS, _BATCH = 900, 16
_START, _STOP, _SHARE = 500, 700, 0.6
_RATE = 0.05
_GATE = 3.0
_TRUSTED, _WATCHED = 100, 1000
_EVERY = 50  # Steps between points of a curve.
_PROTOTYPE = {
  "no guard": (88.8, 26.9, 88.3),
  "loss gate": (88.3, 69.0, 90.9),
  "rollback": (87.8, 67.0, 90.4),
}


class _Stream(NamedTuple):
  """A stream with a burst, and what guards know."""

  poisoned: Examples
  burst: Flipped
  trusted: Examples
  watched: Examples


def run(lab: base.Lab) -> list[base.Figure]:
  """Return accuracy before, after and long after the burst, by guard."""
  made = _make(lab)
  model = base.network(lab)
  params = model.init(lab.rng, lab.train.image[:1])
  secret = Secret.generate()
  tags = _tags(secret, made, from_owner=~made.burst.flipped)
  accept = online.accepted(tags, made.poisoned)
  inside = online.accepted(
    _tags(secret, made, from_owner=np.ones_like(accept)), made.poisoned
  )
  guards: dict[str, dict[str, Any]] = {
    "no guard": {},
    "loss gate": {"loss_gate": _GATE},
    "rollback": {"rollback": Rollback(made.trusted)},
    "tags": {"accept": accept},
    "tags, writers with the key": {"accept": inside},
  }
  figures = []
  for name, options in guards.items():
    found = online.learn(
      model.apply,
      params,
      made.poisoned,
      made.watched,
      learning_rate=_RATE,
      **options,
    )
    figures += _figures(lab, name, found, made)
  return figures


def _make(lab: base.Lab) -> _Stream:
  order, flips = jax.random.split(lab.rng)
  images, labels = lab.train
  rows = np.asarray(
    jax.random.choice(order, len(labels), (_STEPS, _BATCH), replace=True)
  )
  burst = attack.burst(
    labels[rows],
    lab.dataset.num_classes,
    share=_SHARE,
    start=_START,
    stop=_STOP,
    rng=flips,
  )
  test = lab.test
  cut = min(_TRUSTED, len(test.label) // 2)
  rest = slice(cut, cut + _WATCHED)
  return _Stream(
    Examples(images[rows], burst.label),
    burst,
    Examples(test.image[:cut], test.label[:cut]),
    Examples(test.image[rest], test.label[rest]),
  )


def _tags(
  secret: Secret, made: _Stream, from_owner: np.ndarray
) -> Callable[[int, np.ndarray, int], bool]:
  """Return a function that says whether a record has a valid tag.

  Records that are not the owner's come with the tag of another key.
  """
  owner = data.Tagger(secret, "stream")
  stranger = data.Tagger(Secret.generate(), "stream")

  def has_tag(number: int, image: np.ndarray, label: int) -> bool:
    record, label_bytes = image.tobytes(), label.to_bytes(4, "big")
    writer = owner if from_owner.flat[number] else stranger
    sent = writer.tag(record, number, label=label_bytes)
    return owner.is_right(sent, record, number, label=label_bytes)

  return has_tag


def _figures(
  lab: base.Lab, name: str, found: Learned, made: _Stream
) -> list[base.Figure]:
  n = len(made.watched.label)
  targets = [""] * 3
  if name in _PROTOTYPE and lab.dataset.name == "digits":
    targets = [f"{x} % (prototype)" for x in _PROTOTYPE[name]]
  times = {"before": _START, "at its end": _STOP, "later": _STEPS}
  figures = []
  for (when, step), target in zip(times.items(), targets, strict=True):
    hits = np.arange(n) < round(found.accuracy[step - 1] * n)
    figures.append(base.share(f"{name}, {when}: accuracy", hits, target))
  for step in range(_EVERY, _STEPS + 1, _EVERY):
    value = found.accuracy[step - 1]
    title = f"{name}, step {step}: accuracy"
    point = base.number(title, value, n, "", name, float(step))
    figures.append(point._replace(drawn=True))
  wrong, refused = made.burst.flipped, ~found.used
  worst = found.accuracy[_START:_STOP].min()
  figures += [
    base.number(f"{name}, worst of the burst: accuracy", worst, n),
    base.share(f"{name}: wrong records refused", refused[wrong]),
    base.share(f"{name}: right records refused", refused[~wrong]),
    base.number(f"{name}: times restored", found.restored.sum(), _STEPS),
  ]
  return figures
