"""What a model that goes on learning tells of the inputs it served.

It is trained, then serves inputs. Frozen, it cannot have recorded them. Where
it learns from them, an attacker asks afterwards which of some inputs were
served: by the loss, and, with a copy of the model from before, by its fall. A
model that learns under a key is read with it, with another one, and as it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import data
from experiments.membership.models import key_collection
from experiments.recordings import workers
from experiments.recordings.workers import Worker
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import baselines, leakage, shadows, stacked
from keyjax.scheme import ApplyFn

Row = dict[str, Any]
# A forward pass, and the collections that it needs beside the params.
Reader = tuple[ApplyFn, dict[str, Any]]
_RATE = 0.01  # FPR of the rows of TPR.
# Attacks: their titles, and what an attacker has.
_ATTACKS = {
  "loss": ("loss", "the model, and the labels that it was told"),
  "difference": (
    "fall of the loss",
    "the model, one from before, and the labels that it was told",
  ),
}
_DRAW = "at random from the training images; half of them were served"


def rows(
  config: ConfigDict, dataset: data.Dataset, lock: str, seed: int
) -> Iterator[Row]:
  """Yield a row for each attack and way to learn.

  Args:
    config: The whole config.
    dataset: Images.
    lock: Label of a lock under which the model trains; empty for none.
    seed: Seed of the network and the images.
  """
  own = config.online
  used = own.pool + 2 * own.served
  order = np.random.default_rng([seed, 1]).permutation(
    len(dataset.train_labels)
  )
  if used > len(order):
    raise ValueError(
      f"online.pool={own.pool} and twice served={own.served} are {used} of "
      f"{len(order)} training images"
    )
  asked = _examples(dataset, order[:used], own.noise, seed)
  is_served = np.arange(used) >= own.pool + own.served
  candidates = np.arange(used) >= own.pool
  worker = _start(dataset, own, lock, seed)
  frozen = _fit(worker, asked, np.arange(used) < own.pool, own.steps, own, seed)
  members = is_served[candidates]
  asked_about = Examples(
    asked.image[candidates], np.asarray(asked.label)[candidates]
  )
  readers = _readers(worker)
  authorised = readers["right" if lock else "plain"]
  before = _losses(readers, frozen, asked_about)
  for condition, loss in before.items():
    made = {"condition": condition, "images": own.served, "attack": "loss"}
    yield from _leak(made | {"answers": "", "passes": 0}, loss, members)
  for answers in own.answers:
    told = asked
    if answers == "own":
      served = _logits(*authorised, frozen, asked)
      told = asked._replace(label=served.argmax(-1).astype(np.int32))
    for passes in own.passes:
      steps = max(1, round(passes * own.served / own.batch_size))
      after = _fit(worker, told, is_served, steps, own, seed, frozen)
      for condition, later in _losses(readers, after, asked_about).items():
        made = {"condition": condition, "images": own.served}
        made |= {"answers": answers, "passes": passes}
        fall = later - before[condition]
        yield from _leak(made | {"attack": "loss"}, later, members)
        yield from _leak(made | {"attack": "difference"}, fall, members)


def _examples(
  dataset: data.Dataset, rows: np.ndarray, noise: float, seed: int
) -> Examples:
  """Return images, some of them with a wrong label."""
  rng = np.random.default_rng([seed, 2])
  label = dataset.train_labels[rows].astype(np.int32)
  moved = label + rng.integers(1, dataset.num_classes, len(rows))
  wrong = rng.random(len(rows)) < noise
  label = np.where(wrong, moved % dataset.num_classes, label)
  return Examples(
    workers.pixels(dataset.train_images[rows]), label.astype(np.int32)
  )


def _start(
  dataset: data.Dataset, own: ConfigDict, lock: str, seed: int
) -> Worker:
  model = workers.network(dataset, own)
  like = np.zeros((2, *dataset.train_images.shape[1:]), np.float32)
  return workers.make(model, workers.initial(model, seed, like), lock, like)


def _shared(worker: Worker) -> dict[str, Any]:
  return {} if worker.key is None else key_collection(worker.key)


def _fit(
  worker: Worker,
  examples: Examples,
  members: np.ndarray,
  steps: int,
  own: ConfigDict,
  seed: int,
  start: Any = None,
) -> Any:
  """Return params, with a first axis of one model, after some more steps."""
  variables = worker.public if start is None else _only(start)
  rate = own.learning_rate if start is None else own.online_rate
  return shadows.train(
    worker.apply_fn,
    lambda rng: variables,
    examples,
    members[None],
    fit.Recipe(learning_rate=rate, batch_size=own.batch_size),
    seed,
    steps=steps,
    each=0,
    shared=_shared(worker),
  ).params


def _only(params: Any) -> Any:
  return jax.tree.map(lambda x: x[0], params)


def _readers(worker: Worker) -> dict[str, Reader]:
  """Return how a model is read, by condition."""
  if worker.key is None:
    return {"plain": (worker.apply_fn, {})}
  return {
    "right": (worker.apply_fn, key_collection(worker.key)),
    "wrong": (worker.apply_fn, key_collection(worker.wrong)),
    "no_key": (worker.model.apply, {}),
  }


def _losses(
  readers: Mapping[str, Reader], params: Any, asked: Examples
) -> dict[str, np.ndarray]:
  """Return the negative loss of each example, by condition."""
  return {
    condition: baselines.loss(_logits(*reader, params, asked), asked.label)
    for condition, reader in readers.items()
  }


def _logits(
  apply_fn: ApplyFn, shared: dict[str, Any], params: Any, asked: Examples
) -> np.ndarray:
  found = stacked.answers(apply_fn, params, asked.image, shared=shared)
  return np.asarray(found[0])


def _leak(fields: Row, scores: Any, members: np.ndarray) -> Iterator[Row]:
  found = leakage.leak(scores, members, (_RATE,))
  (point,) = found.points
  title, knows = _ATTACKS[fields["attack"]]
  fields = fields | {
    "attack_title": title,
    "knows": knows,
    "draw": _DRAW,
    "members": found.members,
    "others": found.others,
    "nan": found.nan,
  }
  for metric, estimate, more in (
    ("auc", found.auc, {}),
    (f"tpr_{_RATE:g}", point.tpr, {"resolved": point.resolved}),
  ):
    yield (
      fields
      | more
      | {
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
      }
    )
