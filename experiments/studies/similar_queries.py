"""A detector of similar queries, a search that it sees, and one that knows it.

Both searches flip random signs of a change of fixed size, and keep what lowers
the margin of the right class. The naive one flips a few. The adaptive one has
the detector's threshold, as a few queries measure it, and counts its own
distances before it sends anything: it flips as many signs as it needs to.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.studies import base
from keyjax.attacks.evasion.losses import margin
from keyjax.defenses import similar_queries

TITLE = "A limit on similar queries"
SENTENCE = (
  "A server that watches for similar queries sees an attack without gradients "
  "before it succeeds."
)
DATASETS = ("digits",)

_SEARCHES = 20
_QUERIES = 500
_ORDINARY = 1000  # Training images that set the threshold.
_EPSILON = 0.2
_MARGIN = 1.01  # Of the adaptive search over the threshold.


class _Search(NamedTuple):
  """The best signs so far, float[d], and what was sent, float[queries, d]."""

  signs: jax.Array
  margin: jax.Array
  sent: jax.Array


class _Sent(NamedTuple):
  """What searches sent, float[n, queries, d], and whether it was wrong."""

  queries: jax.Array
  wrong: jax.Array


def run(lab: base.Lab) -> list[base.Figure]:
  """Return how often each search is seen, and how often it succeeds."""
  net = base.standard(lab)
  threshold = similar_queries.threshold(lab.train.image[:_ORDINARY])
  x, y = base.sample(lab, 2 * _SEARCHES)
  right = jnp.flatnonzero(net.logits_fn(x).argmax(-1) == y)[:_SEARCHES]
  pixels = x[0].size
  powers = 2 ** np.arange(int(np.log2(pixels)))  # To half of the pixels.

  def search(flips: np.ndarray, apart: float) -> _Sent:
    return _run(
      net.logits_fn, x[right], y[right], lab.rng, jnp.asarray(flips), apart
    )

  naive = search(np.asarray([max(1, pixels // 64)]), 0.0)
  adaptive = search(powers, _MARGIN * threshold)
  ordinary, _ = base.sample(lab, 500)
  flags = _flags(threshold, ordinary.reshape(1, len(ordinary), -1))
  return [
    base.number("threshold: l2 distance", threshold, _ORDINARY),
    base.share("ordinary queries: flagged", flags[0], "0.56 %"),
    *_figures("naive search", naive, threshold, ("20 of 20", "2", "0 of 20")),
    *_figures("adaptive search", adaptive, threshold, ("", "", "")),
  ]


def _figures(
  name: str, sent: _Sent, threshold: float, targets: tuple[str, str, str]
) -> list[base.Figure]:
  flags = np.asarray(_flags(threshold, sent.queries))
  wrong = np.asarray(sent.wrong)
  seen, done = flags.any(-1), wrong.any(-1)
  # Numbers of the first flagged and the first successful query.
  flagged = np.where(seen, flags.argmax(-1) + 1, _QUERIES + 1)
  succeeded = np.where(done, wrong.argmax(-1) + 1, _QUERIES + 1)
  unseen = done & (succeeded < flagged)
  figures = [base.share(f"{name}: flagged", seen, targets[0])]
  if seen.any():
    first = np.median(flagged[seen])
    title = f"{name}: median number of the first flagged query"
    figures.append(base.number(title, first, int(seen.sum()), targets[1]))
  limit = f"{_QUERIES} queries, epsilon {_EPSILON}"
  return [
    *figures,
    base.share(f"{name}, {limit}: success, flagged or not", done),
    base.share(f"{name}, {limit}: success before a flag", unseen, targets[2]),
  ]


def _flags(threshold: float, queries: jax.Array) -> jax.Array:
  """Return the flagged queries of several clients, bool[n, queries]."""
  empty = similar_queries.start(
    threshold, queries.shape[2:], capacity=queries.shape[1]
  )
  return jax.vmap(lambda q: similar_queries.flag(empty, q)[1])(queries)


@jax.jit
def _run(
  logits_fn: base.LogitsFn,
  images: jax.Array,
  labels: jax.Array,
  rng: jax.Array,
  flips: jax.Array,
  apart: jax.Array,
) -> _Sent:
  """Run a search for each image.

  Args:
    logits_fn: The attacked network.
    images: float[n, ...].
    labels: int[n].
    rng: JAX PRNG key.
    flips: int[m], numbers of signs to flip, ascending: the first that is far
      enough from what was sent is sent.
    apart: Least distance of a query from all earlier ones.
  """

  def one(image: jax.Array, label: jax.Array, rng: jax.Array) -> _Sent:
    flat = image.reshape(-1)

    def flipped(
      signs: jax.Array, rng: jax.Array, count: jax.Array
    ) -> jax.Array:
      order = jax.random.permutation(rng, flat.size)
      return jnp.where(order < count, -signs, signs)

    def step(state: _Search, index: jax.Array) -> tuple[_Search, _Sent]:
      rngs = jax.random.split(jax.random.fold_in(rng, index), len(flips))
      options = jax.vmap(flipped, (None, 0, 0))(state.signs, rngs, flips)
      points = jnp.clip(flat[None] + _EPSILON * options, 0, 1)  # [m, d]
      gaps = points[:, None] - state.sent[None]  # [m, queries, d]
      far = jnp.square(gaps).sum(-1).min(-1) >= apart**2
      chosen = jnp.where(far.any(), far.argmax(), len(flips) - 1)
      point = points[chosen]
      logits = logits_fn(point.reshape(1, *image.shape))
      found = margin(logits, label[None])[0]
      better = found > state.margin
      signs = jnp.where(better, options[chosen], state.signs)
      sent = state.sent.at[index].set(point)
      best = jnp.maximum(found, state.margin)
      return _Search(signs, best, sent), _Sent(point, found > 0)

    start = _Search(
      signs=jax.random.rademacher(rng, flat.shape, flat.dtype),
      margin=-jnp.inf * jnp.ones((), flat.dtype),
      sent=jnp.full((_QUERIES, flat.size), jnp.inf, flat.dtype),
    )
    return jax.lax.scan(step, start, jnp.arange(_QUERIES))[1]

  return jax.vmap(one)(images, labels, jax.random.split(rng, len(images)))
