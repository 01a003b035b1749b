"""Fine-tuning, compared with the same budget from scratch.

The attacker trains the stolen file on their labelled images. The figure that
matters is not the accuracy reached but its gain over training from scratch with
the same images and steps: the value of the locked weights to the attacker.
`gain` computes it from two results.

`fine_tune_keyed` is the authorised user's side: what the lock costs a licensee
who tunes the opened model under the key, compared with the same recipe on a
model without a lock. `batch_norm_tune` trains only scales, shifts and
statistics.

References:
  Tamirisa et al., "Tamper-Resistant Safeguards for Open-Weight LLMs", 2024,
  and Qi et al., "On Evaluating the Durability of Safeguards for Open-Weight
  LLMs", 2024: attackers sweep their settings, and the best one counts.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks, tree
from keyjax.attacks import intervals, registry
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
)
from keyjax.attacks.referee import AttackResult
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, PyTree, Scheme

# A weight this large is ciphertext and not a weight.
_LARGEST = 1e3
# The collection that carries a licensee's key through training.
KEY = ".key"
GRID = tuple(
  {"optimizer": optimizer, "learning_rate": rate}
  for optimizer, rates in (("adam", (3e-4, 1e-3, 3e-3)), ("sgd", (1e-2, 1e-1)))
  for rate in rates
)


@registry.register(
  "fine_tune",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, images=1),
  GRID,
)
def fine_tune(
  view: View, budget: Budget, layers: str = ".*", **recipe: Any
) -> Iterator[Claim]:
  """Train the stolen file; leaves that are noise start from fresh weights.

  Args:
    view: At least the file and a labelled image.
    budget: Its `steps` are training steps.
    layers: Regular expression of the leaf paths that train.
    **recipe: Fields of `fit.Recipe`.
  """
  start, renewed = usable(view, budget.seed)
  more = {"renewed_leaves": renewed, "layers": layers}
  chosen = Recipe(layers=layers, **recipe)
  yield from _train(view, Model(start, view.apply_fn), budget, chosen, more)


@registry.register(
  "batch_norm_tune",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, images=1),
  GRID,
)
def batch_norm_tune(
  view: View, budget: Budget, **recipe: Any
) -> Iterator[Claim]:
  """Train only batch norm; without any, nothing is claimed.

  Args:
    view: At least the file and a labelled image.
    budget: Its `steps` are training steps.
    **recipe: Fields of `fit.Recipe` except `layers`.
  """
  layers = norm_layers(view.like)
  if not layers:
    yield Claim(None, Cost(), {"note": "the network has no batch norm"})
    return
  yield from fine_tune(view, budget, layers, **recipe)


@registry.register(
  "fine_tune_keyed",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(has_key=True, images=1),
  GRID,
  condition="right",
)
def fine_tune_keyed(
  view: View, budget: Budget, layers: str = ".*", **recipe: Any
) -> Iterator[Claim]:
  """Train the opened model under the key, as a licensee may.

  Args:
    view: The file, the scheme, its key and a labelled image.
    budget: Its `steps` are training steps.
    layers: Regular expression of the leaf paths that train.
    **recipe: Fields of `fit.Recipe`.
  """
  settings = {"layers": layers, **recipe}
  yield from train_keyed(view, view.key, view.opened(), budget, settings)


def train_keyed(
  view: View,
  key: Any,
  params: PyTree,
  budget: Budget,
  recipe: Mapping[str, Any],
) -> Iterator[Claim]:
  """Train plain params under a key of the view's scheme.

  Args:
    view: At least the scheme and labelled images.
    key: Key that the model is trained under.
    params: Variables to start from.
    budget: Its `steps` are training steps.
    recipe: Fields of `fit.Recipe`.
  """
  assert view.scheme is not None
  start = Model({**params, KEY: key}, keyed_pass(view.scheme, view.apply_fn))
  chosen = Recipe(**recipe)
  yield from _train(view, start, budget, chosen, {"layers": chosen.layers})


@registry.register(
  "scratch",
  Goal.FUNCTION,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, images=1),
  GRID,
)
def scratch(view: View, budget: Budget, **recipe: Any) -> Iterator[Claim]:
  """Train a fresh model: the value of the images without the file."""
  start = Model(view.init(jax.random.key(budget.seed)), view.apply_fn)
  yield from _train(view, start, budget, Recipe(**recipe), {})


def _train(
  view: View,
  start: Model,
  budget: Budget,
  recipe: Recipe,
  details: Mapping[str, Any],
) -> Iterator[Claim]:
  # The file before the first step.
  yield Claim(start, Cost(), details)
  more = {**details, "images": tasks.num_examples(view.data)}
  run = start.apply_fn
  marks = budget.marks()
  for at in fit(
    run,
    start.params,
    view.data,
    marks,
    recipe,
    budget.seed,
    loss=view.task.loss,
  ):
    cost = Cost(steps=at.step, flops=at.flops)
    yield Claim(Model(at.params, run), cost, more)


def norm_layers(like: PyTree) -> str:
  """Return a regular expression of batch norm's params; empty without any.

  Args:
    like: Variables or their shapes; modules with statistics are batch norm.

  Example:
    >>> like = {"params": {}, "batch_stats": {"norm_0": {"mean": 0.0}}}
    >>> norm_layers(like)
    'params/(norm_0)/[^/]*'
  """
  stats = like.get("batch_stats", {}) if isinstance(like, dict) else {}
  modules = {path.rpartition("/")[0] for path in tree.flatten(stats)[0]}
  if not modules:
    return ""
  return f"params/({'|'.join(map(re.escape, sorted(modules)))})/[^/]*"


@functools.lru_cache(maxsize=16)
def keyed_pass(scheme: Scheme, apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass over variables that hold the key as a collection.

  `fit` trains the params and passes the rest through, so that no key becomes a
  compiled constant.
  """

  def forward(variables: PyTree, images: jax.Array, **kwargs: Any) -> Any:
    key = variables[KEY]
    plain = {k: v for k, v in variables.items() if k != KEY}
    run = scheme.bind(key, apply_fn)
    if "mutable" not in kwargs:
      return run(plain, images, **kwargs)
    moved = [name for name in kwargs.pop("mutable") if name != KEY]
    if not moved:  # `fit` calls a model that has only params this way.
      return run(plain, images), {KEY: key}
    logits, rest = run(plain, images, mutable=moved, **kwargs)
    return logits, {**rest, KEY: key}

  return forward


def usable(view: View, seed: int = 0) -> tuple[PyTree, int]:
  """Return the stolen params, with noise replaced by fresh weights.

  An attacker sees which leaves cannot be weights: values that are not finite,
  or far larger than any weight.

  Returns:
    The params and the number of leaves that were replaced.
  """
  stolen = view.stolen()
  fresh = view.init(jax.random.key(seed))
  count = 0

  def pick(x: Any, y: Any) -> Any:
    nonlocal count
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
      return x
    value = np.asarray(x, np.float32)
    if np.isfinite(value).all() and np.abs(value).max(initial=0) < _LARGEST:
      return x
    count += 1
    return y

  return jax.tree.map(pick, stolen, fresh), count


def gain(tuned: AttackResult, fresh: AttackResult) -> dict[str, float]:
  """Return the gain of stolen weights over training from scratch.

  Returns:
    `value`, `low` and `high` of the difference of the two accuracies.
  """
  first, second = tuned.score, fresh.score
  low, high = intervals.difference(first[:3], second[:3])
  return {"value": first.value - second.value, "low": low, "high": high}
