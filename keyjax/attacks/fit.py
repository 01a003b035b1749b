"""Training as an attacker does it: a model, some images, a few settings.

The steps are driven from the host: XLA's CPU compiler optimises convolutions
only in a program's entry computation. Compiled steps are cached, so that a
sweep over learning rates, layers, data and starting points compiles once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from keyjax import device_rows, tasks, tree
from keyjax.attacks.game import Examples
from keyjax.scheme import ApplyFn, PyTree
from keyjax.tasks.task import Loss

_RULES = {
  "adam": optax.scale_by_adam,
  "sgd": functools.partial(optax.trace, decay=0.9),
}


class Recipe(NamedTuple):
  """Settings of training.

  Attributes:
    optimizer: `adam` or `sgd` (momentum 0.9).
    learning_rate: Initial learning rate of a cosine decay to 0.
    layers: Regular expression of the leaf paths that train.
    batch_size: Batch size; all images if there are fewer.
    weight_decay: Decay of all that trains, times the learning rate.
  """

  optimizer: str = "adam"
  learning_rate: float = 1e-3
  layers: str = ".*"
  batch_size: int = 64
  weight_decay: float = 0.0


_DEFAULT = Recipe()


class Fit(NamedTuple):
  """State of training; `flops` counts the compiled steps so far."""

  step: int
  params: PyTree
  flops: float


def fit(
  apply_fn: ApplyFn,
  variables: PyTree,
  data: Examples,
  marks: Sequence[int],
  recipe: Recipe = _DEFAULT,
  seed: int = 0,
  mask: PyTree | None = None,
  devices: Sequence[jax.Device] | None = None,
  loss: Loss | None = None,
) -> Iterator[Fit]:
  """Train on labels, or on what another model says, and yield at every mark.

  Devices divide each batch, and the compiler inserts the sums over them:
  batch statistics are those of the whole batch. If they do not divide the batch
  size, each computes the whole step.

  Args:
    apply_fn: Forward pass, called as `apply_fn(variables, images)`, and with
      `train=True, mutable=[...]` where the variables hold more than params.
    variables: Initial variables: `{"params": ...}` and other collections, or a
      tree of params.
    data: Inputs, and what `loss` compares outputs with.
    marks: Steps after which to yield; the last ends the training.
    recipe: Settings of training.
    seed: Seed of the order of the images.
    mask: Tree like the variables, 1.0 where a weight trains and 0.0 elsewhere;
      by default from `recipe.layers`.
    devices: Devices that share a step; by default `device_rows.workers()`.
    loss: Loss of outputs and labels, of which the mean is minimised; by default
      `cross_entropy`.

  Raises:
    ValueError: If no leaf trains, or the optimiser is unknown.
  """
  params, rest = split_collections(variables)
  if mask is None:
    mask = trained_leaves(params, recipe.layers, prefix=rest is not None)
  else:
    mask = split_collections(mask)[0]
  step_fn, init = compiled_step(
    apply_fn, recipe, rest is not None, loss or cross_entropy
  )
  mesh = device_rows.over(devices or device_rows.workers())
  home = jax.local_devices()[0]
  params, rest, mask = device_rows.copy_to(mesh, (params, rest, mask))
  state = init(params)
  order = np.random.default_rng(seed)
  total = tasks.num_examples(data)
  size = min(recipe.batch_size, total)
  rows = np.zeros(0, np.int64)
  steps = max(marks)
  flops = 0.0
  for i in range(1, steps + 1):
    if len(rows) < size:
      rows = order.permutation(total)
    picked, rows = rows[:size], rows[size:]
    batch = device_rows.cut_rows(mesh, tuple(tasks.take(data, picked)))
    rate = recipe.learning_rate * 0.5 * (1 + np.cos(np.pi * (i - 1) / steps))
    args = (params, rest, state, batch, mask, jnp.float32(rate))
    flops = flops or _flops(step_fn, args)
    params, rest, state = step_fn(*args)
    if i in marks:
      whole = params if rest is None else {"params": params, **rest}
      if mesh:  # Where everything else that an attacker has is.
        whole = jax.device_put(whole, home)
      yield Fit(i, whole, i * flops)


def split_collections(variables: PyTree) -> tuple[PyTree, dict | None]:
  """Return the params, and the other collections; None if there are none."""
  if isinstance(variables, dict) and "params" in variables:
    rest = {k: v for k, v in variables.items() if k != "params"}
    return variables["params"], rest
  return variables, None


def trained_leaves(params: PyTree, layers: str, prefix: bool) -> PyTree:
  """Return 1.0 for the leaves that train and 0.0 for the others."""
  match = tree.matcher(layers)
  paths, _, treedef = tree.flatten(params)
  paths = [f"params/{p}" if prefix else p for p in paths]
  chosen = [float(match(p)) for p in paths]
  if not any(chosen):
    raise ValueError(f"no leaf matches layers={layers!r}: {', '.join(paths)}")
  return jax.tree.unflatten(treedef, [jnp.float32(c) for c in chosen])


def compiled_step(
  apply_fn: ApplyFn, recipe: Recipe, collections: bool, loss: Loss
) -> Any:
  """Return a compiled step, and the function that starts its state."""
  _check(recipe)
  rule = recipe.optimizer, recipe.weight_decay
  return _compiled_step(apply_fn, *rule, collections, loss)


def update(recipe: Recipe) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Return what a step does with a gradient, and the start of its state.

  The first is a function `(params, grads, state, mask, rate) -> (params,
  state)`.

  Args:
    recipe: Optimiser and weight decay.

  Raises:
    ValueError: If the optimiser is unknown.
  """
  _check(recipe)
  return _update(recipe.optimizer, recipe.weight_decay)


def _check(recipe: Recipe) -> None:
  if recipe.optimizer not in _RULES:
    known = ", ".join(_RULES)
    raise ValueError(f"optimizer={recipe.optimizer!r}: choose {known}")


def _update(
  optimizer: str, weight_decay: float
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  rule = _RULES[optimizer]()

  def move(
    params: PyTree, grads: PyTree, state: Any, mask: Any, rate: Any
  ) -> tuple[PyTree, Any]:
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = rule.update(grads, state, params)
    if weight_decay:
      updates = jax.tree.map(lambda u, p: u + weight_decay * p, updates, params)
    one = lambda p, u, m: p - (rate * m).astype(p.dtype) * u  # noqa: E731
    return jax.tree.map(one, params, updates, mask), state

  return move, rule.init


@functools.lru_cache(maxsize=16)
def _compiled_step(
  apply_fn: ApplyFn,
  optimizer: str,
  weight_decay: float,
  collections: bool,
  loss: Loss,
) -> Any:
  update, start = _update(optimizer, weight_decay)

  def loss_fn(params: PyTree, rest: Any, batch: Any) -> tuple[jax.Array, Any]:
    images, labels = batch
    if rest:
      logits, rest = apply_fn(
        {"params": params, **rest}, images, train=True, mutable=list(rest)
      )
    else:
      logits = apply_fn({"params": params} if collections else params, images)
    return jnp.mean(loss(logits, labels)), rest

  @jax.jit
  def step(
    params: PyTree, rest: Any, state: Any, batch: Any, mask: Any, rate: Any
  ) -> tuple[PyTree, Any, Any]:
    grads, rest = jax.grad(loss_fn, has_aux=True)(params, rest, batch)
    params, state = update(params, grads, state, mask, rate)
    return params, rest, state

  return step, jax.jit(start)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Return the mean loss against labels int32[n] or logits float32[n, c]."""
  if labels.ndim == 2:
    losses = optax.softmax_cross_entropy(logits, jax.nn.softmax(labels))
  else:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses.mean()


def _flops(step_fn: Any, args: Any) -> float:
  """Return the operations of a step by XLA's count; 0 where it has none."""
  leaves, treedef = jax.tree.flatten(jax.eval_shape(lambda *a: a, *args))
  return _count_flops(step_fn, tuple(leaves), treedef)


@functools.lru_cache(maxsize=64)
def _count_flops(step_fn: Any, leaves: tuple, treedef: Any) -> float:
  lowered = step_fn.lower(*jax.tree.unflatten(treedef, leaves))
  return float((lowered.cost_analysis() or {}).get("flops", 0.0))


def has_statistics(variables: PyTree) -> bool:
  """Return whether a model has batch-norm statistics."""
  return isinstance(variables, dict) and bool(variables.get("batch_stats"))


def estimate(
  apply_fn: ApplyFn, variables: PyTree, images: Any, rounds: int = 32
) -> PyTree:
  """Return the variables with batch statistics of these images."""

  @jax.jit
  def turn(variables: PyTree, x: jax.Array) -> PyTree:
    _, new = apply_fn(variables, x, train=True, mutable=["batch_stats"])
    return {**variables, **new}

  inputs = jax.tree.map(jnp.asarray, images)
  for _ in range(rounds):  # Until running means forget the initial ones.
    variables = turn(variables, inputs)
  return variables
