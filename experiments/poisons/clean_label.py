"""Right labels: poison that collides in features, or matches gradients.

Targets are test images that the network gets right, and each has a class drawn
from the others. A victim of collisions keeps the network and trains a last
layer on its features; a victim of matched gradients trains from scratch.
Controls are the same images without a change, and with random signs of the
same size.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.poisons import base
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import collision, gradient_matching
from keyjax.defenses.poisoning import neighbours

TITLE = "Right labels, poisoned images"
SENTENCE = (
  "Images whose labels are right, changed little, make a model misclassify one "
  "chosen image; no check of labels finds them."
)
DATASETS = ("digits", "mnist")
AXIS = "poisoned images"


_TARGETS = 8
_FEATURES = {"digits": (64, 16), "mnist": (128, 32)}  # The last are seen.
_COUNTS = (1, 10)
_BOUNDS = {"digits": (0.3, 1.0), "mnist": (0.3, 1.0)}  # 1 is none.
_BETA, _RATE, _COLLIDE_STEPS = 0.1, 1e-3, 500
_HEAD = fit.Recipe("adam", 5e-2, batch_size=256)
_HEAD_STEPS = 4000
_EPSILON = {"digits": 0.4, "mnist": 0.3}
_MATCHED = {"digits": (15, 75, 130), "mnist": (60, 300)}
_MODELS = 4  # Of the attacker.
_SEARCH_STEPS, _RESTARTS = 100, 2


class _Target(NamedTuple):
  """A test image, the class that it should get, and images of that class."""

  image: np.ndarray
  wanted: int
  rows: np.ndarray


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the successes of both attacks, by number of poisoned images."""
  return [*_collisions(lab), *_gradients(lab)]


def _targets(lab: base.Lab, predicted: np.ndarray) -> list[_Target]:
  """Return targets that are classified right, each with another class."""
  rng = np.random.default_rng(lab.seed)
  right = np.flatnonzero(predicted == lab.test.label)
  made = []
  for i in rng.permutation(right)[:_TARGETS]:
    shift = rng.integers(1, lab.dataset.num_classes)
    wanted = int((lab.test.label[i] + shift) % lab.dataset.num_classes)
    rows = rng.permutation(np.flatnonzero(lab.train.label == wanted))
    made.append(_Target(lab.test.image[i], wanted, rows))
  return made


def _collisions(lab: base.Lab) -> list[base.Figure]:
  model = base.network(lab, hidden=_FEATURES[lab.dataset.name])
  networks = base.train(lab, [lab.train], model=model)
  params = jax.tree.map(lambda x: jnp.asarray(x[0]), networks.variables)

  @jax.jit
  def features_fn(x: jax.Array) -> jax.Array:
    _, seen = model.apply(params, x, capture_intermediates=True)
    hidden = seen["intermediates"]["dense_1"]["__call__"][0]
    return jax.nn.relu(hidden)

  targets = _targets(lab, networks.labels(lab.test.image)[0])
  clean = Examples(np.asarray(features_fn(lab.train.image)), lab.train.label)
  figures = []
  for epsilon in _BOUNDS[lab.dataset.name]:
    for count in _COUNTS:
      found = [_collide(lab, features_fn, x, count, epsilon) for x in targets]
      hits = _heads(lab, features_fn, clean, targets, [x.image for x in found])
      title = f"feature collision, {count} images within {epsilon:g}"
      curve = f"feature collision within {epsilon:g}, last layer trained"
      figures += [
        base.share(f"{title}: target hit", hits, "", curve, float(count)),
        *_changes(lab, title, targets, found),
      ]
      _show(lab, f"collided within {epsilon:g}", targets[-1], found[-1].image)
  as_they_were = [lab.train.image[x.rows[: max(_COUNTS)]] for x in targets]
  controls = _heads(lab, features_fn, clean, targets, as_they_were)
  title = "feature collision: target hit by the images as they were"
  return [*figures, base.share(title, controls)]


def _collide(
  lab: base.Lab,
  features_fn: collision.FeaturesFn,
  target: _Target,
  count: int,
  epsilon: float,
) -> collision.Collided:
  return collision.collide(
    features_fn,
    lab.train.image[target.rows[:count]],
    target.image,
    beta=_BETA,
    learning_rate=_RATE,
    steps=_COLLIDE_STEPS,
    epsilon=epsilon,
  )


def _heads(
  lab: base.Lab,
  features_fn: collision.FeaturesFn,
  clean: Examples,
  targets: Sequence[_Target],
  poisons: Sequence[Any],
) -> np.ndarray:
  """Return which targets are hit, each by a last layer with its poison."""
  sets = [
    Examples(
      np.concatenate([clean.image, features_fn(poison)]),
      np.append(clean.label, np.full(len(poison), target.wanted)),
    )
    for target, poison in zip(targets, poisons, strict=True)
  ]
  heads = base.train(
    lab,
    sets,
    steps=_HEAD_STEPS,
    recipe=_HEAD,
    model=nn.Dense(lab.dataset.num_classes),
  )
  seen = np.asarray(features_fn(jnp.asarray([x.image for x in targets])))
  answers = np.diagonal(heads.labels(seen))
  return np.asarray(answers == [x.wanted for x in targets])


def _changes(
  lab: base.Lab,
  title: str,
  targets: Sequence[_Target],
  found: Sequence[collision.Collided],
) -> list[base.Figure]:
  """Return how near features came, and how far images moved for it."""
  near, moved = [], []
  for target, x in zip(targets, found, strict=True):
    bases = lab.train.image[target.rows[: len(x.image)]]
    near.append(np.mean(x.distance / x.before))
    change = np.asarray(x.image - bases).reshape(len(bases), -1)
    whole = (target.image - bases).reshape(len(bases), -1)
    lengths = [np.linalg.norm(a, axis=1) for a in (change, whole)]
    moved.append(np.mean(lengths[0] / lengths[1]))
  return [
    base.number(f"{title}: distance of features left", np.mean(near)),
    base.number(f"{title}: change, of the way to the target", np.mean(moved)),
  ]


def _show(lab: base.Lab, what: str, target: _Target, poison: Any) -> None:
  """Keep a target, two images, and what became of them."""
  shown = [target.image[None], lab.train.image[target.rows[:2]], poison[:2]]
  title = f"a target, images of the other class, {what}"
  lab.show("clean_label", title, np.concatenate(shown))


def _gradients(lab: base.Lab) -> list[base.Figure]:
  networks = base.train(lab, [lab.train] * _MODELS)
  targets = _targets(lab, networks.labels(lab.test.image)[0])
  figures = []
  epsilon = _EPSILON[lab.dataset.name]
  for count in _MATCHED[lab.dataset.name]:
    poisons, noises, cosines = [], [], []
    for i, target in enumerate(targets):
      rows = target.rows[:count]
      found = gradient_matching.match(
        networks.model.apply,
        networks.variables,
        lab.train.image[rows],
        lab.train.label[rows],
        target.image,
        target.wanted,
        classes=lab.dataset.num_classes,
        epsilon=epsilon,
        steps=_SEARCH_STEPS,
        restarts=_RESTARTS,
        rng=jax.random.fold_in(lab.rng, i),
      )
      signs = np.random.default_rng(i).choice([-1, 1], found.image.shape)
      noisy = np.clip(lab.train.image[rows] + epsilon * signs, 0, 1)
      poisons.append(_replaced(lab, rows, found.image))
      noises.append(_replaced(lab, rows, noisy.astype(np.float32)))
      cosines.append(1 - found.loss)
    title = f"gradient matching, {count} images within {epsilon:g}"
    _show(lab, f"matched within {epsilon:g}", targets[-1], found.image)
    hits, accuracy = _victims(lab, targets, poisons)
    controls, _ = _victims(lab, targets, noises)
    curve = "gradient matching, trained from scratch"
    figures += [
      base.share(f"{title}: target hit", hits, "", curve, float(count)),
      base.share(f"{title}: hit by random signs", controls),
      base.share(
        f"{title}: flagged by their neighbours",
        _flagged(lab, targets, poisons, count),
      ),
      base.share(
        f"{title}: flagged before the change",
        _flagged(lab, targets, [lab.train] * len(targets), count),
      ),
      base.number(f"{title}: cosine of gradients", np.mean(cosines)),
      base.number(f"{title}: accuracy", accuracy, len(lab.test.label)),
    ]
  return figures


def _replaced(lab: base.Lab, rows: np.ndarray, images: np.ndarray) -> Examples:
  changed = lab.train.image.copy()
  changed[rows] = images
  return Examples(changed, lab.train.label)


def _flagged(
  lab: base.Lab,
  targets: Sequence[_Target],
  sets: Sequence[Examples],
  count: int,
) -> np.ndarray:
  """Return which poisoned images a check of labels flags, of all targets."""
  found = []
  for target, data in zip(targets, sets, strict=True):
    flags = neighbours.flags(data.image, data.label, lab.dataset.num_classes)
    found.append(flags[target.rows[:count]])
  return np.concatenate(found)


def _victims(
  lab: base.Lab, targets: Sequence[_Target], sets: Sequence[Examples]
) -> tuple[np.ndarray, float]:
  """Return which victims were hit, and the mean accuracy of all.

  They have initial weights that the attacker has not seen.
  """
  networks = base.train(lab._replace(seed=lab.seed + 1000), sets)
  images = np.stack([x.image for x in targets])
  answers = np.diagonal(networks.labels(images))
  wanted = np.asarray([x.wanted for x in targets])
  right = networks.labels(lab.test.image) == lab.test.label
  return answers == wanted, float(right.mean())
