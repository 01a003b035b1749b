"""How well models and attackers do a task."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.capabilities.attackers import Attacked
from experiments.capabilities.task import RESTRICTED, Batch, Task, share_right
from keyjax import tiers


class Best(NamedTuple):
  """The best of a sweep.

  Attributes:
    setting: Setting.
    value: Share of right answers on all test examples.
  """

  setting: dict[str, float]
  value: float


def score(
  task: Task,
  module: nn.Module,
  params: Any,
  present: Mapping[str, bool],
  kind: str,
  tests: int | None = None,
) -> float:
  """Return the share of right answers on test examples of a kind.

  Args:
    task: Task.
    module: Network.
    params: Params.
    present: Tiers that the network runs with.
    kind: Kind of examples.
    tests: Number of examples, the first ones; all by default.
  """
  batch = jax.tree.map(lambda x: x[:tests], task.tests[kind])
  judge = _judge(module, tuple(present.items()), task.whole)
  return float(judge(params, batch))


def best(task: Task, found: Iterable[Attacked], choosing: int) -> Best:
  """Return the best setting, with its score on all test examples.

  Args:
    task: Task.
    found: What an attack made.
    choosing: Number of test examples by which it is chosen.
  """

  def restricted(x: Attacked, tests: int | None = None) -> float:
    return score(task, x.module, x.params, x.present, RESTRICTED, tests)

  chosen = max(found, key=lambda x: restricted(x, choosing))
  return Best(chosen.setting, restricted(chosen))


@functools.cache
def _judge(
  module: nn.Module, present: tuple[tuple[str, bool], ...], whole: bool
) -> Any:
  forward = tiers.authorize(dict(present), module.apply)

  @jax.jit
  def judge(params: Any, batch: Batch) -> jax.Array:
    logits = forward({"params": params}, batch.tokens)
    return jnp.asarray(share_right(logits, batch, whole))

  return judge
