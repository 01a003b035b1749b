"""AutoAttack: attacks one after another on the examples that are robust yet."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import checks, problem, warning_signs
from keyjax.attacks.evasion.auto_attack_parts import (
  ATTACKS,
  Model,
  Settings,
  compiled,
  find_flat,
  predict,
)
from keyjax.attacks.evasion.parallel import run_all, workers
from keyjax.attacks.evasion.problem import Bounds, Evasion, Norm

Version = Literal["standard", "plus", "rand"]

_VERSIONS = {
  "standard": ("apgd_ce", "apgd_t", "fab_t", "square"),
  "plus": ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
  "rand": ("apgd_ce", "apgd_dlr"),
}

_STAGES = 100  # PRNG keys of parts of one attack are so many stages apart.
_FEWER = 5  # The rest of the examples runs in batches of a fifth.


class Ensemble(NamedTuple):
  """Result of AutoAttack on n examples.

  Attributes:
    inputs: float[n, ...], changed where an attack succeeded.
    robust: bool[n], whether the example withstood all attacks; false where the
      unchanged input is misclassified.
    accuracy: Share of robust examples: "clean", then after each attack that
      ran, in order. The last is the robust accuracy.
    fooled_by: Name of the first attack that succeeded for each example,
      "clean" if it needed none, and "" if it is robust.
    distance: float[n], size of the change.
    queries: int64[n], forward passes for each example.
    flags: Warnings by name: "probabilities", "zero_gradients", "random",
      "black_box", "classes", "not_finite". Each says what was seen and what to
      do. Accuracy under a flag may be too high.
  """

  inputs: np.ndarray
  robust: np.ndarray
  accuracy: dict[str, float]
  fooled_by: tuple[str, ...]
  distance: np.ndarray
  queries: np.ndarray
  flags: dict[str, str]


class _Progress(NamedTuple):
  """What the attacks so far have found; arrays change in place."""

  changed: np.ndarray
  robust: np.ndarray
  accuracy: dict[str, float]
  fooled_by: list[str]
  queries: np.ndarray
  broken: np.ndarray  # Whether logits or gradients were not finite.


class _Examples(NamedTuple):
  """Examples, the size of a batch, and the PRNG key of the run."""

  inputs: np.ndarray
  labels: np.ndarray
  batch: int
  rng: jax.Array

  def run(
    self,
    function: Callable[..., Any],
    index: np.ndarray,
    stage: int,
    *arguments: np.ndarray,
    **options: Any,
  ) -> Any:
    """Return a function of examples, on the host.

    Args:
      function: Jitted function of a batch: inputs, labels, PRNG keys, and the
        arguments.
      index: Positions of the examples.
      stage: Number that sets the PRNG keys, with the position.
      *arguments: Arrays [n, ...] of all examples.
      **options: Further arguments of the function, the same for all batches.
    """
    rng = jax.random.fold_in(self.rng, stage)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    batches = []
    start = 0
    for size in _sizes(len(index), self.batch):
      full = np.resize(index[start : start + size], size)  # Fills the last.
      rngs = fold(rng, jnp.asarray(full))
      given = (array[full] for array in arguments)
      batches.append((self.inputs[full], self.labels[full], rngs, *given))
      start += size
    found = run_all(function, batches, options)
    whole = jax.tree.map(lambda *x: np.concatenate(x), *found)
    return jax.tree.map(lambda x: x[: len(index)], whole)


def _sizes(count: int, batch: int) -> list[int]:
  """Return sizes of batches for some examples: two sizes, to compile twice."""
  small = max(batch // _FEWER, 1)
  whole, rest = divmod(count, batch)
  fewer = -(-rest // small)
  if fewer * small >= batch:
    return [batch] * (whole + 1)
  return [batch] * whole + [small] * fewer


def autoattack(
  logits_fn: Callable[..., jax.Array],
  inputs: Any,
  labels: Any,
  *,
  epsilon: float,
  norm: Norm = "linf",
  version: Version = "standard",
  batch_size: int = 250,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
  attacks: tuple[str, ...] | None = None,
  steps: int = 100,
  n_queries: int = 5000,
  randomized: bool = False,
) -> Ensemble:
  """Run AutoAttack, and count the examples that withstand all of it.

  Runs from Python, in batches of two sizes, so that each attack compiles at
  most twice; again only for another logits_fn or other settings. Examples that
  an attack fools are dropped before its next target, restart or set of queries.
  On a CPU, batches run side by side.
  Results depend on `rng` and the examples, not on the size of batches.

  Args:
    logits_fn: Function from inputs to logits, float[n, classes]; from inputs
      and a PRNG key if `randomized`. It must not mix examples.
    inputs: float32[n, ...].
    labels: int[n].
    epsilon: Largest size of a change.
    norm: "linf", "l2" or "l1".
    version: "standard"; "plus", with restarts and more attacks; or "rand" for
      models with random outputs, APGD with the mean of 20 gradients.
    batch_size: Most examples of a compiled call.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key.
    attacks: Names of the attacks to run, of `ATTACKS`; None for those of the
      version.
    steps: Steps of APGD and FAB.
    n_queries: Queries of the Square attack.
    randomized: Whether logits_fn takes a PRNG key.

  Returns:
    The result on the host.

  Raises:
    ValueError: If an argument is wrong, or no attack can run.

  Reference:
    Francesco Croce and Matthias Hein, "Reliable evaluation of adversarial
    robustness with an ensemble of diverse parameter-free attacks", ICML 2020.

  Example:
    >>> x = np.asarray([[0.9, 0.1], [0.6, 0.4]], np.float32)
    >>> found = autoattack(
    ...   lambda x: 4 * x, x, np.asarray([0, 0]), epsilon=0.2,
    ...   rng=jax.random.key(0), attacks=("apgd_ce",))
    >>> found.accuracy, found.fooled_by
    ({'clean': 1.0, 'apgd_ce': 0.5}, ('', 'apgd_ce'))
  """
  names = _VERSIONS.get(version, ()) if attacks is None else attacks
  if not names or set(names) - set(ATTACKS):
    raise ValueError(
      f"version is {version!r}, attacks {attacks!r}: choose from "
      f"{', '.join(_VERSIONS)}; {', '.join(ATTACKS)}"
    )
  if batch_size < 1:
    raise ValueError(f"batch_size is {batch_size}: at least 1 is needed")
  if version == "rand" and not randomized:
    raise ValueError("version 'rand' needs randomized=True and its logits_fn")
  model = Model(logits_fn, randomized)
  settings = Settings(
    epsilon=float(epsilon),
    norm=norm,
    version=version,
    bounds=(bounds[0], bounds[1]),
    steps=steps,
    n_queries=n_queries,
    randomized=randomized,
  )
  inputs, labels = np.asarray(inputs), np.asarray(labels)
  classes = _checked(model, inputs, labels, settings)
  names, flags = warning_signs.possible(names, classes)
  batch = min(batch_size, -(-len(inputs) // workers()))
  examples = _Examples(inputs, labels, batch, rng)
  everything = np.arange(len(inputs))
  logits = examples.run(predict(model), everything, 0)
  progress = _begin(inputs, labels, logits)
  first = jnp.asarray(inputs[: examples.batch])
  if not randomized:
    flags |= warning_signs.randomness(logits_fn, first)
  flags |= warning_signs.probabilities(logits)
  if progress.robust.any():
    index = np.flatnonzero(progress.robust)
    flat = examples.run(find_flat(model, classes, settings), index, 0)
    flags |= warning_signs.zero_gradients(flat)
  for number, name in enumerate(names, 1):
    if not progress.robust.any():
      break
    stage = compiled(name, model, settings)
    _attack(progress, examples, name, stage, settings, number)
  flags |= warning_signs.results(progress.accuracy, progress.broken)
  return Ensemble(
    inputs=progress.changed,
    robust=progress.robust,
    accuracy=progress.accuracy,
    fooled_by=tuple(progress.fooled_by),
    distance=np.asarray(
      problem.sizes(jnp.asarray(progress.changed - inputs), norm)
    ),
    queries=progress.queries,
    flags=flags,
  )


def _checked(
  model: Model,
  inputs: np.ndarray,
  labels: np.ndarray,
  settings: Settings,
) -> int:
  """Return the number of classes, or raise ValueError."""
  checks.check_epsilon(settings.epsilon)
  checks.check_inputs(jnp.asarray(inputs), settings.bounds)
  if settings.norm not in problem.NORMS:
    raise ValueError(f"norm is {settings.norm!r}: choose linf, l2 or l1")
  rng = jax.random.key(0)
  # Values are not checked: probabilities are a flag here, not an error.
  classes = checks.count_classes(lambda x: model(x, rng), jnp.asarray(inputs))
  checks.check_classes("labels", labels, len(inputs), classes)
  return classes


def _attack(
  progress: _Progress,
  examples: _Examples,
  name: str,
  stage: Callable[..., Evasion],
  settings: Settings,
  number: int,
) -> None:
  """Run one attack on the examples that are robust yet, part by part."""
  points = examples.inputs.copy()
  for part in range(ATTACKS[name].parts(settings)):
    index = np.flatnonzero(progress.robust)
    if not len(index):
      break
    own = number + part * _STAGES
    found = examples.run(stage, index, own, points, number=np.int32(part))
    points[index] = found.inputs
    _record(progress, name, index, found)


def _begin(
  inputs: np.ndarray, labels: np.ndarray, logits: np.ndarray
) -> _Progress:
  robust = logits.argmax(-1) == labels
  return _Progress(
    changed=inputs.copy(),
    robust=robust,
    accuracy={"clean": float(robust.mean())},
    fooled_by=["" if right else "clean" for right in robust],
    queries=np.ones(len(inputs), np.int64),
    broken=~np.isfinite(logits).all(-1),
  )


def _record(
  progress: _Progress, name: str, index: np.ndarray, found: Evasion
) -> None:
  """Add what one attack found on the examples of an index."""
  hit = index[found.success]
  progress.changed[hit] = found.inputs[found.success]
  progress.robust[hit] = False
  for i in hit:
    progress.fooled_by[i] = name
  progress.queries[index] += found.queries
  progress.broken[index] |= ~found.finite
  progress.accuracy[name] = float(progress.robust.mean())
