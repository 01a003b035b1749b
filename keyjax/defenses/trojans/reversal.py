"""Neural Cleanse: search the smallest change that sends all images to a class.

A class that a trojan leads to needs a smaller one than the others. The change
that is found looks like the trigger, or does the same.

Guarantees:
  None. A small patch is found, and its class has the least mask.

Known breaks:
  Triggers over the whole image have no small mask; one input as the key has no
  mask at all. Some classes of clean models need little, too: false alarms. With
  ten classes, the median absolute deviation of the masks rests on few numbers.

Reference:
  Bolun Wang, Yuanshun Yao, Shawn Shan, Huiying Li, Bimal Viswanath, Haitao
  Zheng and Ben Zhao, "Neural Cleanse: identifying and mitigating backdoor
  attacks in neural networks", IEEE S&P 2019, section IV.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax.arguments import whole_number
from keyjax.attacks.evasion import checks, problem
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.privacy import signals

_NORMAL = 1.4826  # Median absolute deviation of a normal to its deviation.


class Reversed(NamedTuple):
  """The change that was found for each class.

  Attributes:
    mask: float32[k, h, w], weight of the pattern, from 0 to 1.
    pattern: float32[k, h, w, c].
    size: float32[k], sum of the mask: its l1 norm.
    success: float32[k], share of the last step's images that get the class; of
      the step whose change is returned.
  """

  mask: jax.Array
  pattern: jax.Array
  size: jax.Array
  success: jax.Array


class _State(NamedTuple):
  """A step of the search; all of classes in the first axis."""

  hidden: tuple[jax.Array, jax.Array]  # Mask and pattern before the sigmoid.
  optimizer: Any
  cost: jax.Array
  hits: jax.Array  # Steps in a row that succeeded.
  misses: jax.Array
  best: Reversed


def neural_cleanse(
  logits_fn: LogitsFn,
  images: jax.Array,
  *,
  targets: Any = None,
  steps: int = 400,
  batch_size: int = 64,
  learning_rate: float = 0.1,
  cost: float = 1e-3,
  multiplier: float = 2.0,
  patience: int = 5,
  threshold: float = 0.98,
  rng: jax.Array,
) -> Reversed:
  """Return the smallest mask and its pattern for each class.

  Adam on cross-entropy((1 - m) x + m d, target) + cost sum(m), for all classes
  side by side. The cost of a class is multiplied after `patience` steps in a
  row that succeed, and divided by multiplier^1.5 after as many that do not. Of
  all steps that succeed, the least mask is returned; of a class without any,
  the last.

  Args:
    logits_fn: Function from images to logits, float[n, classes]. Under
      `jax.jit`, a pytree, so that one program serves all networks of a model.
    images: float32[n, h, w, c] in [0, 1], without a trigger.
    targets: int[k], the classes; None for all.
    steps: Number of steps.
    batch_size: Images of a step, drawn with replacement; each class sees all
      of them.
    learning_rate: Learning rate of Adam.
    cost: First weight of the size of the mask.
    multiplier: Factor of the cost, at least 1; 1 keeps it.
    patience: Steps after which the cost changes.
    threshold: Share of a batch that must get the class for a success.
    rng: PRNG key of the batches and of the start.

  Returns:
    A `Reversed`.

  Raises:
    ValueError: If a shape or number is wrong, or logits are probabilities, or
      not finite.
  """
  checks.check_inputs(images, (0.0, 1.0))
  if np.ndim(images) != 4:
    raise ValueError(f"images have shape {images.shape}: pass [n, h, w, c]")
  steps, patience = (
    whole_number(steps, "steps"),
    whole_number(patience, "patience"),
  )
  batch_size = whole_number(batch_size, "batch_size")
  _check_numbers(learning_rate, cost, multiplier, threshold)
  images = jnp.asarray(images)
  classes = checks.check_logits(logits_fn, images[:8])
  if targets is None:
    targets = jnp.arange(classes, dtype=jnp.int32)
  checks.check_classes("targets", targets, np.size(targets), classes)
  search = _Search(
    logits_fn=logits_fn,
    images=images,
    targets=jnp.asarray(targets, jnp.int32),
    batch_size=batch_size,
    multiplier=multiplier,
    patience=patience,
    threshold=threshold,
    optimizer=optax.adam(learning_rate, b1=0.5, b2=0.9),
  )
  return search.run(rng, steps, cost)


class _Search(NamedTuple):
  """The arguments of `neural_cleanse`, and its parts."""

  logits_fn: LogitsFn
  images: jax.Array
  targets: jax.Array
  batch_size: int
  multiplier: float
  patience: int
  threshold: float
  optimizer: optax.GradientTransformation

  def run(self, rng: jax.Array, steps: int, cost: float) -> Reversed:
    first, path = jax.random.split(rng)
    state = self._start(first, cost)

    def step(state: _State, rng: jax.Array) -> tuple[_State, None]:
      with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
        return self._step(state, rng), None

    return jax.lax.scan(step, state, jax.random.split(path, steps))[0].best

  def _start(self, rng: jax.Array, cost: float) -> _State:
    k = len(self.targets)
    _, h, w, c = self.images.shape
    one, two = jax.random.split(rng)
    hidden = (
      jax.random.uniform(one, (k, h, w, 1), jnp.float32, -1, 1),
      jax.random.uniform(two, (k, h, w, c), jnp.float32, -1, 1),
    )
    count = jnp.zeros(k, jnp.int32)
    best = Reversed(
      mask=jnp.ones((k, h, w), jnp.float32),
      pattern=jnp.zeros((k, h, w, c), jnp.float32),
      size=jnp.full(k, jnp.inf, jnp.float32),
      success=jnp.zeros(k, jnp.float32),
    )
    state = self.optimizer.init(hidden)
    costs = jnp.full(k, cost, jnp.float32)
    return _State(hidden, state, costs, count, count, best)

  def _step(self, state: _State, rng: jax.Array) -> _State:
    rows = jax.random.randint(rng, (self.batch_size,), 0, len(self.images))
    batch = self.images[rows]
    changed, back = jax.vjp(lambda h: _changed(h, batch), state.hidden)
    k, b = changed.shape[:2]
    labels = jnp.repeat(self.targets, b)

    def loss(logits: jax.Array) -> jax.Array:
      found: jax.Array = optax.softmax_cross_entropy_with_integer_labels(
        logits, labels
      )
      return found / b

    flat = changed.reshape(k * b, *batch.shape[1:])
    _, logits, slope = problem.value_and_gradient(self.logits_fn, loss, flat)
    [grads] = back(slope.reshape(changed.shape))
    sizes, of_size = jax.vjp(
      lambda h: jax.nn.sigmoid(h).sum((1, 2, 3)), state.hidden[0]
    )
    grads = (grads[0] + of_size(state.cost)[0], grads[1])
    hit = (logits.argmax(-1).astype(jnp.int32) == labels).reshape(k, b)
    success = hit.mean(-1, dtype=jnp.float32)
    best = self._best(state, sizes, success)
    updates, optimizer = self.optimizer.update(grads, state.optimizer)
    hidden = jax.tree.map(jnp.add, state.hidden, updates)
    cost, hits, misses = self._costs(state, success >= self.threshold)
    return _State(hidden, optimizer, cost, hits, misses, best)

  def _best(
    self, state: _State, sizes: jax.Array, success: jax.Array
  ) -> Reversed:
    """Return the least masks that succeeded; else the last ones."""
    old = state.best
    good, before = success >= self.threshold, old.success >= self.threshold
    better = jnp.where(good, (sizes < old.size) | ~before, ~before)
    mask, pattern = map(jax.nn.sigmoid, state.hidden)
    new = Reversed(mask[..., 0], pattern, sizes, success)
    return jax.tree.map(lambda a, b: problem.choose(better, a, b), new, old)

  def _costs(
    self, state: _State, good: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    hits = jnp.where(good, state.hits + 1, 0)
    misses = jnp.where(good, 0, state.misses + 1)
    up, down = hits >= self.patience, misses >= self.patience
    factor = jnp.where(up, self.multiplier, 1.0)
    factor = jnp.where(down, self.multiplier**-1.5, factor)
    cost = state.cost * factor.astype(state.cost.dtype)
    return cost, jnp.where(up, 0, hits), jnp.where(down, 0, misses)


def anomaly(sizes: Any) -> np.ndarray:
  """Return how far below the median each size is, in robust deviations.

  (median - size) / (1.4826 MAD); as published, a class above 2 is flagged.

  Args:
    sizes: float[k], of at least 3 classes, finite.

  Returns:
    float64[k]; 0 for all where the deviation is 0.

  Raises:
    ValueError: If there are fewer, or one is not finite.

  Example:
    >>> anomaly(np.asarray([10.0, 11.0, 9.0, 10.5, 1.0])).round(1).tolist()
    [0.0, -0.7, 0.7, -0.3, 6.1]
  """
  found = signals.check_values(sizes, "sizes", (1,))
  if len(found) < 3 or not np.isfinite(found).all():
    raise ValueError(
      f"sizes are {found.shape}: pass 3 or more, all of them finite"
    )
  gap = np.median(found) - found
  deviation = _NORMAL * np.median(np.abs(gap))
  return gap / deviation if deviation else np.zeros(len(found))


def _changed(
  hidden: tuple[jax.Array, jax.Array], batch: jax.Array
) -> jax.Array:
  """Return images with the change of each class, float32[k, b, h, w, c]."""
  mask, pattern = (jax.nn.sigmoid(x)[:, None] for x in hidden)
  return (1 - mask) * batch[None] + mask * pattern


def _check_numbers(
  learning_rate: float, cost: float, multiplier: float, threshold: float
) -> None:
  signals.check_above(learning_rate, "learning_rate", 0)
  signals.check_above(cost, "cost", 0)
  signals.check_share(threshold, "threshold")
  if not multiplier >= 1:
    raise ValueError(f"multiplier={multiplier}: 1 or more")
