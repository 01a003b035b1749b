"""Shadow models: the target's training, repeated on data that one chooses.

Tens of models are trained by one compiled step, mapped over seeds and training
data. A step is that of `fit`, which trains one model, or that of another
procedure.

Needs: data like the target's, and how it was trained. Cost: a training for each
model; side by side, small ones cost less than one after another.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from keyjax import device_rows, tasks
from keyjax.arguments import (
  describe,
  first_line,
  positive,
  require_apply,
  require_function,
  require_pattern,
  seed_number,
  whole_number,
)
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import procedures, signals, stacked
from keyjax.scheme import ApplyFn, PyTree
from keyjax.tasks.task import Loss

_DEFAULT = fit.Recipe()


class Shadows(NamedTuple):
  """Trained models.

  Attributes:
    params: Their variables on the host, with a first axis over models.
    members: bool[k, n], the training data of each.
    logits: float32[k, n, c], their answers for all data; None if not asked for.
  """

  params: PyTree
  members: np.ndarray
  logits: np.ndarray | None


def split(k: int, n: int, seed: int = 0) -> np.ndarray:
  """Return training data of k models: each example is in half of them.

  Each example is in k // 2 of the models, drawn at random; each model has about
  half of the examples.

  Args:
    k: Number of models, at least 2.
    n: Number of examples.
    seed: Seed of the draw.

  Returns:
    bool[k, n].

  Raises:
    ValueError: If a number is too small.

  Example:
    >>> split(4, 3).sum(0).tolist()
    [2, 2, 2]
  """
  k, n = whole_number(k, "k", least=2), whole_number(n, "n")
  order = np.random.default_rng(seed_number(seed)).random((k, n)).argsort(0)
  return np.asarray(order < k // 2)


def train(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  data: Examples,
  members: Any,
  recipe: fit.Recipe = _DEFAULT,
  seed: int = 0,
  *,
  steps: int = 500,
  each: int = 2,
  chunk: int = 16,
  logits: bool = False,
  loss: Loss | None = None,
  devices: Sequence[jax.Device] | None = None,
  shared: Mapping[str, PyTree] | None = None,
  procedure: procedures.Procedure | None = None,
) -> Shadows:
  """Train k models, each on its own members of the data.

  Model i has its own initial weights and order of its members, from (seed, i)
  alone: neither chunks nor devices change it, up to rounding. A batch has
  `recipe.batch_size` of its members, or as many as the smallest training set,
  so that shapes are equal; an epoch visits each member at most once.

  Args:
    apply_fn: Forward pass, called as in `fit`: with `train=True, mutable=[...]`
      where the variables hold more than params, such as batch statistics.
    init: Function from a PRNG key to the initial variables; it is mapped.
    data: Inputs and labels, pytrees of arrays [n, ...].
    members: bool[k, n], such as `split(k, n)`.
    recipe: Settings of training.
    seed: Seed of initial weights and orders.
    steps: Number of steps.
    each: Least number of models with, and without, each example. LiRA needs 2;
      0 does not check, for models without the examples to be judged.
    chunk: Models that are on the devices at the same time. On a CPU, pass 1
      for convolutions of images above 8 x 8 or so: XLA has no fast ones there
      with other kernels for each model.
    logits: Whether to return the models' logits for all data.
    loss: Loss of outputs and labels, as in `fit`; by default cross-entropy.
    devices: Devices that share the models of a chunk, each training its own; by
      default `device_rows.workers()`.
    shared: Collections that all models have in common and none changes, such as
      a key: apply_fn finds them among the variables. They are arguments of the
      compiled step, never its constants, and are not in what is returned.
    procedure: Another way to train, such as with noise; of the recipe, it is
      given the learning rate and the layers alone. The same object, or a
      program is compiled again.

  Raises:
    ValueError: If an argument is wrong, a label is no class of the model, an
      example has too few models, a model has a collection of `shared` already,
      or a model's weights or logits become NaN.
    TypeError: If apply_fn, init or loss is no function, or data, recipe, shared
      or procedure is something else.

  Example:
    >>> x = np.eye(8, dtype=np.float32)
    >>> data = Examples(x, (np.arange(8) % 2).astype(np.int32))
    >>> init = lambda rng: {"w": jax.random.normal(rng, (8, 2))}
    >>> found = train(lambda params, x: x @ params["w"], init, data,
    ...   split(4, 8), fit.Recipe(learning_rate=0.1), steps=20, logits=True)
    >>> found.params["w"].shape, found.logits.shape
    ((4, 8, 2), (4, 8, 2))
  """
  require_apply(apply_fn, "shadows: apply_fn")
  require_function(init, "shadows: init", "one from a PRNG key to variables")
  steps, chunk = whole_number(steps, "steps"), whole_number(chunk, "chunk")
  each = whole_number(each, "each", least=0)
  seed = seed_number(seed)
  check_kinds("shadows", data, recipe)
  among = _check_data(data, members, each)
  shared = stacked.check_shared(shared)
  if loss is None:
    _check_classes(apply_fn, init, data, shared)
  else:
    require_function(loss, "shadows: loss", "one of outputs and labels")
    _check_shared(init, shared)
  if procedure is None:
    size = min(recipe.batch_size, int(among.sum(1).min()))
    procedure = procedures.by_fit(apply_fn, init, recipe, size, seed, loss)
  elif not isinstance(procedure, procedures.Procedure):
    raise TypeError(
      f"procedure is {describe(procedure)}: pass a procedures.Procedure"
    )
  mesh = device_rows.over(devices or device_rows.workers())
  inputs = device_rows.copy_to(
    mesh, (*jax.tree.map(jnp.asarray, tuple(data)), shared)
  )
  found = []
  for rows in stacked.chunks(len(among), chunk, mesh):
    fitted = _train_chunk(
      procedure, init, inputs, among, rows, recipe, seed, steps, mesh
    )
    found.append(fitted)
  params = stacked.joined(found, len(among))
  stacked.require_finite(params, "weights")
  answered = None
  if logits:
    answered = stacked.answers(
      apply_fn, params, data.image, chunk=chunk, devices=devices, shared=shared
    )
  return Shadows(params, among, answered)


def check_kinds(what: str, data: Any, recipe: Any) -> None:
  """Check that data are `Examples`, and the settings of training.

  Args:
    what: What takes them, for the error.
    data: Inputs and labels.
    recipe: Settings; the optimiser is checked where it is used.

  Raises:
    TypeError: If one of them is something else.
    ValueError: If a setting is out of range.
  """
  if not isinstance(data, Examples):
    raise TypeError(
      f"{what}: data are {describe(data)}: pass Examples(image, label)"
    )
  if not isinstance(recipe, fit.Recipe):
    raise TypeError(f"{what}: recipe is {describe(recipe)}: pass a fit.Recipe")
  positive(recipe.learning_rate, "learning_rate")
  whole_number(recipe.batch_size, "batch_size")
  require_pattern(recipe.layers, "layers")


def _check_shared(
  init: Callable[[jax.Array], PyTree], shared: Mapping[str, PyTree]
) -> None:
  """Raise ValueError if models have some of what they are to have in common."""
  if shared:
    stacked.with_shared(jax.eval_shape(init, jax.random.key(0)), shared)


def _check_data(data: Examples, members: Any, each: int) -> np.ndarray:
  n = tasks.num_examples(data.image)
  if tasks.num_examples(data.label) != n:
    raise ValueError(
      f"shadows: {n} inputs and {tasks.num_examples(data.label)} labels"
    )
  found = np.asarray(members)
  k = len(found) if found.ndim == 2 else 1
  found = signals.check_members(found, (max(k, 1), n), each, each)
  if not found.any(1).all():
    raise ValueError(f"shadows: model {np.argmin(found.any(1))} has no members")
  return found


def _check_classes(
  apply_fn: ApplyFn,
  init: Callable[[jax.Array], PyTree],
  data: Examples,
  shared: Mapping[str, PyTree],
) -> None:
  """Raise ValueError if labels are no classes of the model."""
  _check_shared(init, shared)
  first = tasks.take(data.image, slice(1))

  def run(rng: jax.Array, inputs: Any, shared: Any) -> Any:
    return apply_fn(stacked.with_shared(init(rng), shared), inputs)

  try:
    found = jax.eval_shape(run, jax.random.key(0), first, shared)
  except Exception as error:
    raise ValueError(
      f"shadows: apply_fn fails on what init returns ({first_line(error)})"
    ) from error
  shape: tuple[int, ...] = getattr(found, "shape", ())
  if len(shape) != 2:
    raise ValueError(
      f"shadows: apply_fn returns {describe(found)}: expected [1, classes]; "
      "for other outputs pass `loss=`"
    )
  signals.check_labels(data.label, (tasks.num_examples(data.image), shape[-1]))


def _train_chunk(
  procedure: procedures.Procedure,
  init: Callable[[jax.Array], PyTree],
  data: tuple[Any, Any, Any],
  members: np.ndarray,
  rows: np.ndarray,
  recipe: fit.Recipe,
  seed: int,
  steps: int,
  mesh: Mesh | None,
) -> PyTree:
  """Return the trained variables of the models `rows`, on the host."""
  rng = jax.random.key(seed)
  rngs = jax.vmap(functools.partial(jax.random.fold_in, rng))(jnp.asarray(rows))
  params, rest = fit.split_collections(jax.jit(jax.vmap(init))(rngs))
  one = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params
  )
  mask = fit.trained_leaves(one, recipe.layers, prefix=rest is not None)
  step, start = _mapped(procedure.step, procedure.start, mesh)
  orders = [procedure.draw(int(i), np.flatnonzero(members[i])) for i in rows]
  params, rest = device_rows.cut_rows(mesh, (params, rest))
  state = start(None, params)
  mask = device_rows.copy_to(mesh, mask)
  for i in range(steps):
    rate = recipe.learning_rate * 0.5 * (1 + np.cos(np.pi * i / steps))
    drawn = [next(order) for order in orders]
    picked = jax.tree.map(lambda *x: np.stack(x), *drawn)  # [chunk, ...]
    common = (data, mask, device_rows.copy_to(mesh, jnp.float32(rate)))
    mine = (params, rest, state, device_rows.cut_rows(mesh, picked))
    params, rest, state = step(common, mine)
  whole = params if rest is None else {"params": params, **rest}
  return jax.tree.map(np.asarray, whole)


@functools.lru_cache(maxsize=8)
def _mapped(
  step: Callable[..., Any], start: Callable[..., Any], mesh: Mesh | None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Return a compiled step of all models, and the start of its state."""

  def steps(common: Any, mine: Any) -> Any:
    (*data, shared), mask, rate = common

    def one(params: Any, rest: Any, state: Any, drawn: Any) -> Any:
      if shared:
        rest = {**rest, **shared}
      params, rest, state = step(
        params, rest, state, tuple(data), drawn, mask, rate
      )
      if shared:
        rest = {k: v for k, v in rest.items() if k not in shared}
      return params, rest, state

    return jax.vmap(one)(*mine)

  def starts(_: None, params: Any) -> Any:
    return jax.vmap(start)(params)

  each = functools.partial(device_rows.each_device, mesh=mesh)
  return jax.jit(each(steps)), jax.jit(each(starts))
