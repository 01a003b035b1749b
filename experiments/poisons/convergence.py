"""Training that stalls: flipped labels, and copies with another label."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.poisons import base
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning import contradictions, label_flips
from keyjax.scheme import PyTree

TITLE = "Training that does not converge"
SENTENCE = (
  "Few wrong points keep the loss of training from falling; copies of inputs "
  "with another label bound it for networks of any size."
)
DATASETS = ("digits", "mnist")
AXIS = "share of wrong labels"

_SHARES = (0.0, 0.1, 0.3)
_STEPS, _BATCH, _RATE = 1500, 64, 2e-3
_EVERY = 10  # Steps between measurements.
_LEVEL = 0.3
_TO_LEVEL = ("298", "never in 1,500", "never in 1,500")
_PLATEAU = ("", "0.544", "1.175")


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the steps to a loss of 0.3, the last loss, and its bound."""
  classes, (images, labels) = lab.dataset.num_classes, lab.train
  rngs = iter(jax.random.split(lab.rng, 2 * len(_SHARES)))
  figures = []
  for i, share in enumerate(_SHARES):
    flips = label_flips.at_random(labels, share, classes, rng=next(rngs))
    flipped = Examples(images, flips.label)
    figures += _figures(lab, "flipped", share, flipped, i)
    copied = contradictions.contradict(
      images, labels, share, classes, rng=next(rngs)
    )
    if share:
      figures += _figures(lab, "copied with another label", share, copied)
  return figures


def _figures(
  lab: base.Lab, kind: str, share: float, data: Examples, row: int = -1
) -> list[base.Figure]:
  losses = _losses(lab, data)
  reached = np.flatnonzero(losses < _LEVEL)
  bound = contradictions.least_loss(
    data.image, data.label, lab.dataset.num_classes
  )
  title = f"{share:.0%} {kind}"
  digits = row >= 0 and lab.dataset.name == "digits"
  first, last = (_TO_LEVEL[row], _PLATEAU[row]) if digits else ("", "")
  n = len(data.label)
  curve = f"{kind}: loss after {_STEPS:,} steps"
  made = [
    base.number(
      f"{title}: steps to a training loss of {_LEVEL:g} "
      f"({_STEPS + 1:,}: never)",
      _EVERY * (reached[0] + 1) if len(reached) else _STEPS + 1,
      n,
      f"{first} (prototype)" if first else "",
    ),
    base.number(
      f"{title}: training loss after {_STEPS:,} steps",
      losses[-1],
      n,
      f"{last} (prototype)" if last else "",
      curve,
      share,
    ),
    base.number(f"{title}: least loss of any network", bound, n),
  ]
  return made


def _losses(lab: base.Lab, data: Examples) -> np.ndarray:
  """Return the mean loss on all training data, every few steps."""
  model = base.network(lab, normalise=False)
  images, labels = jnp.asarray(data.image), jnp.asarray(data.label)
  move, begin = fit.update(fit.Recipe("adam"))

  def loss(params: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = model.apply(params, x)
    found = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return found.mean()

  def step(state: tuple, rng: jax.Array) -> tuple[tuple, None]:
    params, memory = state
    rows = jax.random.choice(rng, len(labels), (_BATCH,))
    slope = jax.grad(loss)(params, images[rows], labels[rows])
    mask = jax.tree.map(jnp.ones_like, params)
    params, memory = move(params, slope, memory, mask, jnp.float32(_RATE))
    return (params, memory), None

  def steps(state: tuple, rngs: jax.Array) -> tuple[tuple, jax.Array]:
    state, _ = jax.lax.scan(step, state, rngs)
    return state, loss(state[0], images, labels)

  start, order = jax.random.split(lab.rng)
  params = model.init(start, images[:1])
  rngs = jax.random.split(order, (_STEPS // _EVERY, _EVERY))
  _, losses = jax.lax.scan(steps, (params, begin(params)), rngs)
  return np.asarray(losses)
