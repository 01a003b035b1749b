"""Checks of what `measure.lock` is given, before anything is played.

Rows state what was attacked and what its attackers held: what would make them
say something else is refused here, in one line that names the argument.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import labelled, tasks, tree
from keyjax.arguments import (
  describe,
  first_line,
  is_array,
  require_apply,
  whole_number,
)
from keyjax.attacks.fit import split_collections
from keyjax.attacks.game import Attacker, Budget, Examples, Target
from keyjax.scheme import ApplyFn, Scheme, binds, chain, masked, require_scheme
from keyjax.schemes import registry as schemes
from keyjax.secrets import Secret
from keyjax.tasks import Task

_COUNTS = (
  "images",
  "ciphertexts",
  "queries",
  "known_weights",
  "copies",
  "licensees",
  "victims",
)


def require(value: Any, kind: type, name: str) -> None:
  """Raise a TypeError unless an argument is of its type."""
  if not isinstance(value, kind):
    wanted = kind.__name__
    article = "an" if wanted[0] in "AEIO" else "a"
    raise TypeError(f"{name} is {describe(value)}, not {article} {wanted}")


def check_target(target: Target) -> int:
  """Check a locked model, and that it is locked as its fields say.

  Returns:
    The number of outputs, of classes the number of logits.

  Raises:
    TypeError: If a field is of another type.
    ValueError: If the fields contradict each other.
  """
  require(target, Target, "target")
  require_scheme(target.scheme, "measure.lock: target.scheme")
  require_apply(target.apply_fn, "target.apply_fn")
  require(target.task, Task, "target.task")
  require(target.options, Mapping, "target.options")
  for name in ("train", "test"):
    _check_examples(getattr(target, name), f"target.{name}")
  built = _built(target.name, target.options, target.key, _model(target))
  outputs = _outputs(target, target.floats(target.params), "apply_fn")
  _outputs(target, target.init(jax.random.key(0)), "init")
  _check_trains(target)
  if target.task is tasks.CLASSES:
    _check_classes(target, outputs)
  opened = target.scheme.decrypt(target.key, target.locked)
  if not _same(opened, target.params):
    raise ValueError(
      "target.locked: target.key does not open it to target.params; it is the "
      "file of another key or of other params"
    )
  if not (_locks_alike(built, target) and _keys_alike(built, target)):
    raise ValueError(
      f"target.options: {target.name} with these options does not lock "
      "target.params as target.scheme does; give the arguments of the scheme"
    )
  for name in ("base", "copies", "licensed"):
    _check_files(target, name)
  return int(jax.tree.leaves(outputs)[0].shape[-1])


def check_attacker(attacker: Attacker, target: Target) -> None:
  """Raise a ValueError if an attacker would hold more than there is."""
  require(attacker, Attacker, "attacker")
  for name in _COUNTS:
    whole_number(getattr(attacker, name), name, least=0)
  there = tasks.num_examples(target.train)
  most = {
    "images": there,
    "queries": there,  # They are training images.
    "has_base": int(target.base is not None),
    "copies": len(target.copies),
    "licensees": len(target.licensed),
  }
  for name, count in most.items():
    if getattr(attacker, name) > count:
      raise ValueError(
        f"an attacker with {name}={getattr(attacker, name)}, but this target "
        f"has {count or 'none'}"
      )
  if attacker.images + attacker.ciphertexts > there:
    raise ValueError(
      f"an attacker with images={attacker.images} and "
      f"ciphertexts={attacker.ciphertexts} of others, but this target has "
      f"{there} training images"
    )
  paths = tree.flatten(target.params)[0]
  if attacker.known_leaf and attacker.known_leaf not in paths:
    raise ValueError(
      f"known_leaf: {tree.unmatched(attacker.known_leaf, paths)}"
    )


def check_budget(budget: Budget) -> None:
  """Raise a ValueError if a budget lets nothing be claimed."""
  require(budget, Budget, "budget")
  whole_number(budget.steps, "steps")
  whole_number(budget.points, "points")
  whole_number(budget.seed, "seed", least=0)


def check_worth(
  target: Target, rows: Mapping[str, Mapping[str, Any]], chance: float
) -> None:
  """Raise a ValueError if a model is of no use to the holder of its key.

  Args:
    target: The locked model.
    rows: Rows of its accuracies, by condition.
    chance: What guessing gives.
  """
  right, free = rows["right"], rows["no_key"]
  if right["value"] is None:
    raise ValueError(f"target: with its key, {right['note']}")
  if right["nonfinite"] > right["images"] / 2:
    raise ValueError(
      "target: outputs are NaN or infinite with the key, on "
      f"{right['nonfinite']} of {right['images']} test examples"
    )
  if free["value"] is not None and free["low"] > right["high"]:
    raise ValueError(
      f"target: {free['metric']} is {_span(free)} without the key and "
      f"{_span(right)} with it; train the model under the key that the scheme "
      "binds to its pass"
    )
  if target.task.is_share and right["low"] <= chance:
    raise ValueError(
      f"target: {right['metric']} with the key is {_span(right)} on "
      f"{right['images']} test examples, and cannot be told from chance, "
      f"{100 * chance:.1f} %: nothing would follow from attacks"
    )


def _span(row: Mapping[str, Any]) -> str:
  value, low, high = (100 * row[x] for x in ("value", "low", "high"))
  return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def _check_examples(examples: Any, name: str) -> None:
  require(examples, Examples, name)
  for field, value in examples._asdict().items():
    leaves = jax.tree.leaves(value)
    if not leaves or not all(is_array(x) and x.ndim for x in leaves):
      raise TypeError(
        f"{name}.{field} is {describe(value)}: pass arrays [n, ...]"
      )
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    if field == "image" and not all(np.isfinite(x).all() for x in floats):
      raise ValueError(f"{name}.image has numbers that are NaN or infinite")
  try:
    count = tasks.num_examples(examples)
  except ValueError as error:
    raise ValueError(f"{name}: {error}") from None
  if not count:
    raise ValueError(f"{name} has no examples")


def _check_classes(target: Target, outputs: Any) -> None:
  leaves = jax.tree.leaves(outputs)
  if len(leaves) != 1 or len(leaves[0].shape) != 2 or leaves[0].shape[1] < 2:
    shown = ", ".join(describe(x) for x in leaves)
    raise ValueError(
      f"target.apply_fn returns {shown} for one example: classes need logits "
      "[1, classes], 2 or more of them"
    )
  for name in ("train", "test"):
    label = getattr(target, name).label
    labelled.labels(label, leaves[0].shape[1], f"target.{name}.label")


def _outputs(target: Target, params: Any, name: str) -> Any:
  """Return the shapes of what a model returns for one example."""
  one = jax.tree.map(lambda x: jnp.asarray(x[:1]), target.train.image)
  try:
    return jax.eval_shape(target.apply_fn, params, one)
  except Exception as error:
    raise ValueError(
      f"target.{name}: the plain pass fails for one training example; what "
      "the params must become first is up to target.floats "
      f"({first_line(error)})"
    ) from error


def _check_trains(target: Target) -> None:
  """Raise a ValueError unless other collections, as of batch norm, train."""
  params = target.floats(target.params)
  rest = split_collections(params)[1]
  if not rest:
    return
  one = jax.tree.map(lambda x: jnp.asarray(x[:1]), target.train.image)
  try:
    jax.eval_shape(
      lambda p, x: target.apply_fn(p, x, train=True, mutable=list(rest)),
      params,
      one,
    )
  except Exception as error:
    raise ValueError(
      "target.apply_fn: attacks that train call it with train=True and "
      f"mutable={list(rest)}, the collections beside the params "
      f"({first_line(error)})"
    ) from error


def _check_files(target: Target, name: str) -> None:
  """Raise a ValueError unless other files are of the same tree."""
  found = getattr(target, name)
  like = target.params if name == "base" else target.locked
  files = [] if found is None else [found] if name == "base" else list(found)
  for file in files:
    if _shapes(file) != _shapes(like):
      raise ValueError(
        f"target.{name} is not of the leaves of this model, with their shapes"
      )


def _shapes(params: Any) -> list[tuple[str, tuple[int, ...]]]:
  paths, leaves, _ = tree.flatten(params)
  return [(p, np.shape(x)) for p, x in zip(paths, leaves, strict=True)]


def _same(a: Any, b: Any) -> bool:
  return _shapes(a) == _shapes(b) and tree.same_bits(a, b)


def _model(target: Target) -> dict[str, Any]:
  def loss_fn(params: Any, batch: Any) -> jax.Array:
    outputs = target.apply_fn(params, batch["image"])
    return jnp.mean(target.task.loss(outputs, batch["label"]))

  return {"apply_fn": target.apply_fn, "loss_fn": loss_fn}


def _built(
  name: str, options: Mapping[str, Any], key: Any, model: dict[str, Any]
) -> Scheme:
  """Return the scheme of a name and options, with the mask of a key."""
  if name == "chain":
    schemes.parts(name, options)  # Raises an error if there are none.
    parts = list(options["parts"])
    keys = key if isinstance(key, tuple) else ()
    if len(keys) != len(parts):
      raise ValueError(
        f"target.options: a chain of {len(parts)} parts, but target.key is of "
        f"{len(keys)}"
      )
    pairs = zip(parts, keys, strict=True)
    return chain(*(_built(n, o, k, model) for (n, o), k in pairs))
  made = schemes.build(name, options, **model)
  spec = getattr(key, "spec", ())
  shown = {s.path for s in spec if s.dtype != "hidden"}
  return masked(made, shown.__contains__) if len(shown) < len(spec) else made


def _locks_alike(built: Scheme, target: Target) -> bool:
  """Return whether a scheme does with a key what that of a target does."""
  try:
    if not _same(built.encrypt(target.key, target.params), target.locked):
      return False
    if not (binds(built) or binds(target.scheme)):
      return True
    mine, theirs = (_bound(s, target) for s in (built, target.scheme))
  except (AttributeError, IndexError, KeyError, TypeError, ValueError):
    return False  # The key is one of another scheme.
  pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
  return all(
    np.shape(x) == np.shape(y)
    and np.allclose(np.asarray(x), np.asarray(y), 1e-3, 1e-3, equal_nan=True)
    for x, y in pairs
  )


def _keys_alike(built: Scheme, target: Target) -> bool:
  """Return whether a scheme makes keys of the shapes of a target's key."""
  parts = schemes.parts(target.name, target.options)
  sources = {schemes.get(n).key_source for n, _ in parts}
  if schemes.KeySource.PARAMS in sources:
    return True  # It may take long, and what it locks was compared.
  batch = tasks.take(target.train, slice(32))._asdict()
  try:
    made = built.keygen(Secret.generate(), target.params, batch)
  except (LookupError, TypeError, ValueError):
    return True  # A scheme that takes batches of another form.
  leaves = [jax.tree.leaves(x) for x in (made, target.key)]
  shapes = [[(np.shape(x), x.dtype) for x in y] for y in leaves]
  return shapes[0] == shapes[1]


def _bound(scheme: Scheme, target: Target) -> Any:
  """Return the outputs of the first examples under the key."""
  apply_fn: ApplyFn = scheme.bind(target.key, target.apply_fn)
  few = jax.tree.map(lambda x: jnp.asarray(x[:2]), target.test.image)
  return apply_fn(target.floats(target.params), few)
