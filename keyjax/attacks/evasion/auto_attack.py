"""AutoAttack: attacks one after another on the examples that are robust yet."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax.attacks.evasion import checks, problem, warning_signs
from keyjax.attacks.evasion.auto_pgd import apgd, apgd_targeted
from keyjax.attacks.evasion.fast_boundary import fab
from keyjax.attacks.evasion.losses import loss_of
from keyjax.attacks.evasion.problem import Bounds, Evasion, Norm
from keyjax.attacks.evasion.square_attack import square

Version = Literal["standard", "plus", "rand"]

_VERSIONS = {
  "standard": ("apgd_ce", "apgd_t", "fab_t", "square"),
  "plus": ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
  "rand": ("apgd_ce", "apgd_dlr"),
}


class _Settings(NamedTuple):
  """Settings of all attacks of a version."""

  epsilon: float
  norm: Norm
  version: str
  bounds: Bounds
  steps: int
  n_queries: int
  randomized: bool

  def attack(self, function: Callable[..., Evasion], **more: Any) -> Any:
    """Return an attack with these settings."""
    ball = {"epsilon": self.epsilon, "norm": self.norm, "bounds": self.bounds}
    return functools.partial(function, **ball, **more)


def _apgd(settings: _Settings, loss: str) -> Any:
  shrinking = settings.norm == "l1" and settings.version == "standard"
  several = shrinking or settings.version == "plus"
  return settings.attack(
    apgd,
    loss=loss,
    steps=settings.steps,
    restarts=5 if several else 1,
    shrinking=shrinking,
    randomized=settings.randomized,
    eot_iter=20 if settings.version == "rand" else 1,
  )


def _apgd_t(settings: _Settings) -> Any:
  shrinking = settings.norm == "l1" and settings.version == "standard"
  return settings.attack(
    apgd_targeted,
    steps=settings.steps,
    n_targets=5 if shrinking else 9,
    shrinking=shrinking,
  )


ATTACKS: dict[str, Callable[[_Settings], Any]] = {
  "apgd_ce": lambda s: _apgd(s, "cross_entropy"),
  "apgd_dlr": lambda s: _apgd(s, "dlr"),
  "apgd_t": _apgd_t,
  "fab": lambda s: s.attack(fab, steps=s.steps, restarts=5, n_targets=None),
  "fab_t": lambda s: s.attack(fab, steps=s.steps, n_targets=9),
  "square": lambda s: s.attack(
    square, n_queries=s.n_queries, rescale_schedule=False
  ),
}


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
    self, function: Callable[..., Any], which: np.ndarray, stage: int
  ) -> tuple[np.ndarray, Any]:
    """Return the positions of examples, and a function of them on the host.

    Args:
      function: Compiled function of a batch: inputs, labels, PRNG keys.
      which: bool[n], the examples to run on.
      stage: Number that sets the PRNG keys, with the position.
    """
    index = np.flatnonzero(which)
    rng = jax.random.fold_in(self.rng, stage)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    parts = []
    for start in range(0, len(index), self.batch):
      part = index[start : start + self.batch]
      full = np.resize(part, self.batch)  # Repeats examples, to fill it.
      rngs = fold(rng, jnp.asarray(full))
      found = function(self.inputs[full], self.labels[full], rngs)
      parts.append(_on_host(found, len(part)))
    return index, jax.tree.map(lambda *x: np.concatenate(x), *parts)


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

  Runs from Python, in batches of one size, so that each attack compiles once.
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
    batch_size: Examples for each compiled call; fewer if there are fewer.
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
  model = _with_rng(logits_fn, randomized)
  settings = _Settings(
    epsilon=epsilon,
    norm=norm,
    version=version,
    bounds=bounds,
    steps=steps,
    n_queries=n_queries,
    randomized=randomized,
  )
  inputs, labels = np.asarray(inputs), np.asarray(labels)
  classes = _checked(model, inputs, labels, settings)
  names, flags = warning_signs.possible(names, classes)
  examples = _Examples(inputs, labels, min(batch_size, len(inputs)), rng)
  everything = np.ones(len(inputs), bool)
  _, logits = examples.run(jax.jit(_predict(model)), everything, 0)
  progress = _begin(inputs, labels, logits)
  first = jnp.asarray(inputs[: examples.batch])
  if not randomized:
    flags |= warning_signs.randomness(logits_fn, first)
  flags |= warning_signs.probabilities(logits)
  if progress.robust.any():
    gradient = _gradient(model, classes, settings)
    _, flat = examples.run(jax.jit(gradient), progress.robust, 0)
    flags |= warning_signs.zero_gradients(flat)
  for number, name in enumerate(names, 1):
    if not progress.robust.any():
      break
    stage = jax.jit(_stage(name, logits_fn, model, settings))
    index, found = examples.run(stage, progress.robust, number)
    _record(progress, name, index, found)
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


def _on_host(found: Any, n: int) -> Any:
  """Return the first n examples of a result."""
  return jax.tree.map(lambda x: np.asarray(x)[:n], found)


def _with_rng(
  logits_fn: Callable[..., jax.Array], randomized: bool
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """Return a model as a function of inputs and a PRNG key."""
  if randomized:
    return logits_fn
  return lambda x, rng: logits_fn(x)


def _checked(
  model: Callable[[jax.Array, jax.Array], jax.Array],
  inputs: np.ndarray,
  labels: np.ndarray,
  settings: _Settings,
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


def _predict(
  model: Callable[[jax.Array, jax.Array], jax.Array],
) -> Callable[..., jax.Array]:
  return lambda x, y, rngs: problem.as_float(model(x, rngs[0]))


def _gradient(
  model: Callable[[jax.Array, jax.Array], jax.Array],
  classes: int,
  settings: _Settings,
) -> Callable[..., jax.Array]:
  """Return whether gradients at random points are zero."""
  name = "dlr" if classes > 2 else "cross_entropy"

  def flat(x: jax.Array, y: jax.Array, rngs: jax.Array) -> jax.Array:
    start = problem.random_start(
      rngs, x, settings.epsilon, settings.norm, settings.bounds
    )
    _, _, gradient = problem.value_and_gradient(
      lambda x: model(x, rngs[0]), loss_of(name, y), start
    )
    return problem.sizes(gradient, "linf") == 0

  return flat


def _stage(
  name: str,
  logits_fn: Callable[..., jax.Array],
  model: Callable[[jax.Array, jax.Array], jax.Array],
  settings: _Settings,
) -> Callable[..., Evasion]:
  """Return an attack as a function of inputs, labels and PRNG keys."""
  attack = ATTACKS[name](settings)

  def run(x: jax.Array, y: jax.Array, rngs: jax.Array) -> Evasion:
    found = attack(logits_fn, x, y, rng=rngs)
    if settings.randomized:  # A success must hold for another draw.
      last = jax.random.fold_in(rngs[0], 1)
      hit = problem.misclassified(model(found.inputs, last), y)
      found = found._replace(success=hit)
    return found

  return run


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
