"""How well an observer of gradients recovers images: rows of one scene."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import data
from experiments.recordings import attackers, plan, workers
from experiments.recordings.attackers import Guess
from experiments.recordings.plan import Scene
from experiments.recordings.workers import Worker
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy.gradients import scores
from keyjax.schemes import pixel_shuffle

Row = dict[str, Any]
_METRICS = ("mse", "psnr", "ssim", "control", "named")
_SHOWN = 4  # Pictures of a scene, of its first seed.


def rows(
  config: ConfigDict, dataset: data.Dataset, scene: Scene, seed: int
) -> Iterator[Row]:
  """Yield a row for each attack, condition and metric.

  Args:
    config: The whole config.
    dataset: Images.
    scene: What is observed.
    seed: Seed of the network, the images and the searches.
  """
  own = config.gradients
  order = np.random.default_rng([seed, scene.size]).permutation(
    len(dataset.train_labels)
  )
  unrelated = _take(dataset, order[: own.unrelated]).image
  left = order[own.unrelated :]
  worker = _worker(
    config, dataset, scene, seed, left[scene.size * own.victims :]
  )
  found: dict[tuple[str, str], list[tuple[Guess, Examples]]] = {}
  for number in range(own.victims):
    batch = _take(dataset, left[number * scene.size :][: scene.size])
    seen = workers.sent(worker, scene, *batch, own.clip, seed * 1000 + number)
    shape = batch.image.shape
    rng = jax.random.fold_in(jax.random.key(seed), number)
    for condition, view in attackers.views(
      worker, scene.lock, seen, shape
    ).items():
      for attack in plan.attacks(own, scene):
        if attackers.runs(attack, worker, scene.size):
          guess = attackers.play(attack, view, worker, own, rng)
          found.setdefault((attack, condition), []).append((guess, batch))
  for (attack, condition), pairs in found.items():
    base = {"attack": attack, "attack_title": plan.ATTACKS[attack]}
    for name, guesses, batches, others in _compared(
      worker, scene, condition, pairs, unrelated
    ):
      fields = base | {"condition": name}
      yield from _scored(fields, guesses, batches, others, dataset, seed)


def _take(dataset: data.Dataset, rows: np.ndarray) -> Examples:
  images = workers.pixels(dataset.train_images[rows])
  return Examples(images, dataset.train_labels[rows].astype(np.int32))


def _worker(
  config: ConfigDict,
  dataset: data.Dataset,
  scene: Scene,
  seed: int,
  rest: np.ndarray,
) -> Worker:
  model = workers.network(dataset, config.gradients.models[scene.model])
  like = attackers.random_pixels((2, *dataset.train_images.shape[1:]))
  variables = workers.initial(model, seed, like)
  if scene.trained:
    variables = workers.trained(
      model, variables, _take(dataset, rest), config.gradients.train_steps, seed
    )
  return workers.make(model, variables, scene.lock, like)


def _compared(
  worker: Worker,
  scene: Scene,
  condition: str,
  pairs: list[tuple[Guess, Examples]],
  unrelated: np.ndarray,
) -> Iterator[tuple[str, list[Guess], list[Examples], np.ndarray]]:
  """Yield guesses and what they are compared with, by condition.

  Of a lock that transforms images, what the network saw (`keyed`), and the
  plain images: without a key, and after undoing the right key or a wrong one.
  """
  guesses, batches = [g for g, _ in pairs], [b for _, b in pairs]
  if scene.lock in ("", "hpnn"):
    yield condition, guesses, batches, unrelated
    return

  def keyed(images: np.ndarray) -> np.ndarray:
    return np.asarray(pixel_shuffle.transform(worker.key, jnp.asarray(images)))

  def undone(guess: Guess, key: Any) -> Guess:
    images = np.asarray(guess.images, np.float32)
    images = np.clip(np.nan_to_num(images), 0, 1)
    plain = pixel_shuffle.inverse(key, jnp.asarray(images))
    return guess._replace(images=np.asarray(plain))

  through = [b._replace(image=keyed(b.image)) for b in batches]
  yield "keyed", guesses, through, keyed(unrelated)
  yield "no_key", guesses, batches, unrelated
  for name, key in (("right", worker.key), ("wrong", worker.wrong)):
    yield name, [undone(g, key) for g in guesses], batches, unrelated


def _scored(
  fields: Row,
  guesses: list[Guess],
  batches: list[Examples],
  unrelated: np.ndarray,
  dataset: data.Dataset,
  seed: int,
) -> Iterator[Row]:
  parts = [
    scores.score(g.images, b.image, unrelated)
    for g, b in zip(guesses, batches, strict=True)
  ]
  fields = fields | {"images": sum(len(p.mse) for p in parts)}
  for metric in _METRICS:
    values = np.concatenate([getattr(p, metric) for p in parts])
    shown = {}
    if metric == "mse" and not seed:
      order = parts[0].order[:_SHOWN]
      shown = {
        "true": _bytes(batches[0].image[:_SHOWN]),
        "found": _bytes(np.asarray(guesses[0].images)[order]),
      }
    yield fields | {"metric": metric, "value": float(values.mean())} | shown
  share = [
    scores.label_accuracy(g.labels, b.label, dataset.num_classes)
    for g, b in zip(guesses, batches, strict=True)
  ]
  yield fields | {"metric": "labels", "value": float(np.mean(share))}
  distance = float(np.mean([g.distance for g in guesses]))
  if np.isfinite(distance):
    yield fields | {"metric": "distance", "value": distance}


def _bytes(images: np.ndarray) -> list[Any]:
  """Return pixels as nested lists of 0 to 255."""
  found = np.clip(np.nan_to_num(images), 0, 1)
  listed: list[Any] = np.round(found * 255).astype(np.uint8).tolist()
  return listed
