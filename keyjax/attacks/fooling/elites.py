"""MAP-Elites: evolution that keeps the best input of every class."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.fooling import champions
from keyjax.attacks.fooling.champions import Fooling

Genome = Any  # A pytree of arrays.


class Encoding(NamedTuple):
  """How a genome is made, mutated, and turned into an input.

  Attributes:
    draw: Function of an rng to a random genome.
    mutate: Function of an rng, a genome and int32, the number of the
      generation, to a genome of the same shapes and dtypes.
    decode: Function of a genome to an input, float[...].
  """

  draw: Callable[[jax.Array], Genome]
  mutate: Callable[[jax.Array, Genome, jax.Array], Genome]
  decode: Callable[[Genome], jax.Array]


class _Elites(NamedTuple):
  genomes: Genome  # Of each class.
  scores: jax.Array
  nonfinite: jax.Array


def map_elites(
  logits_fn: LogitsFn,
  encoding: Encoding,
  *,
  generations: int = 200,
  children: int = 200,
  rng: jax.Array,
) -> Fooling:
  """Return an input of each class, by evolution without gradients.

  Each class is a niche with one champion. A child is a mutant of a random
  champion, and takes over every niche whose champion has a lower probability of
  that class. All generations are one compiled program.

  Guarantees:
    - A champion's confidence never falls from one generation to the next.
    - A child with NaN or infinite logits is counted and never a champion.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes].
    encoding: An `Encoding`, such as `direct(shape)` or `cppn(shape)`.
    generations: Number of generations after the first, random one.
    children: Children of a generation, judged in one batch.
    rng: PRNG key.

  Returns:
    A `Fooling`.

  Raises:
    ValueError: If an argument is wrong, or logits_fn returns probabilities.

  Reference:
    Anh Nguyen, Jason Yosinski and Jeff Clune, "Deep neural networks are easily
    fooled: high confidence predictions for unrecognizable images", CVPR 2015.
    Jean-Baptiste Mouret and Jeff Clune, "Illuminating search spaces by mapping
    elites", arXiv:1504.04909, 2015.

  Example:
    >>> from keyjax.attacks.fooling import direct
    >>> found = map_elites(lambda x: 40 * x, direct((2,)), generations=50,
    ...   children=8, rng=jax.random.key(0))
    >>> found.confidence.round(4).tolist(), found.queries.tolist()
    ([1.0, 1.0], 408)
  """
  if min(generations, children) < 1:
    raise ValueError(
      f"generations {generations}, children {children}: pass 1 or more"
    )
  rngs = problem.example_rngs(rng, generations + 1)
  genomes = jax.vmap(encoding.draw)(problem.example_rngs(rngs[0], children))
  inputs = jax.vmap(encoding.decode)(genomes)
  classes = champions.count_classes(logits_fn, inputs)

  def generation(
    elites: _Elites, now: tuple[jax.Array, jax.Array]
  ) -> tuple[_Elites, jax.Array]:
    def child(rng: jax.Array) -> Genome:
      choice, mutation = jax.random.split(rng)
      parent = jax.random.randint(choice, (), 0, classes)
      genome = jax.tree.map(lambda leaf: leaf[parent], elites.genomes)
      return encoding.mutate(mutation, genome, now[1])

    born = jax.vmap(child)(problem.example_rngs(now[0], children))
    elites = _replace(elites, _best(logits_fn, encoding, born))
    return elites, elites.scores

  first = _best(logits_fn, encoding, genomes)
  numbers = jnp.arange(generations, dtype=jnp.int32)
  elites, curve = jax.lax.scan(generation, first, (rngs[1:], numbers))
  return Fooling(
    inputs=jax.vmap(encoding.decode)(elites.genomes),
    confidence=jnp.exp(elites.scores),
    curve=jnp.exp(jnp.concatenate([first.scores[None], curve])),
    queries=jnp.int32((generations + 1) * children),
    nonfinite=elites.nonfinite,
  )


def _best(logits_fn: LogitsFn, encoding: Encoding, genomes: Genome) -> _Elites:
  """Return the best genome of each class, of one generation."""
  logits = logits_fn(jax.vmap(encoding.decode)(genomes))
  scores, nonfinite = champions.scores(logits)  # [children, classes]
  winners = scores.argmax(0)
  return _Elites(
    genomes=jax.tree.map(lambda leaf: leaf[winners], genomes),
    scores=scores.max(0),
    nonfinite=nonfinite,
  )


def _replace(old: _Elites, new: _Elites) -> _Elites:
  """Return the old elites, except where a new one has a higher score."""
  better = new.scores > old.scores
  return _Elites(
    genomes=jax.tree.map(
      lambda a, b: problem.choose(better, a, b), new.genomes, old.genomes
    ),
    scores=jnp.where(better, new.scores, old.scores),
    nonfinite=old.nonfinite + new.nonfinite,
  )
