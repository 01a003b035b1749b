"""Random keys: the result of guessing, and its rate."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from keyjax import tasks
from keyjax.attacks import registry
from keyjax.attacks.game import (
  Attacker,
  Budget,
  Claim,
  Cost,
  Goal,
  Model,
  keyed,
)
from keyjax.attacks.views import View
from keyjax.secrets import Secret

_IMAGES = 128  # Enough to tell a right key from a wrong one.


@registry.register(
  "random_keys",
  Goal.FUNCTION,
  (registry.FROM_SECRET,),
  Attacker(images=1),
)
def random_keys(view: View, budget: Budget) -> Iterator[Claim]:
  """Try keys of random secrets, and keep the one with the lowest loss."""
  scheme = view.scheme
  assert scheme is not None
  few = tasks.take(view.data, slice(_IMAGES))
  image, label = jax.tree.map(jnp.asarray, tuple(few))

  @jax.jit
  def loss_of(key: Any, locked: Any) -> jax.Array:
    params = view.floats(scheme.decrypt(key, locked))
    outputs = scheme.bind(key, view.apply_fn)(params, image)
    return view.task.loss(outputs, label).mean()

  def guess() -> Any:
    return scheme.keygen(Secret.generate(), view.like, {"image": image})

  best = guess()
  least = float("inf")
  start = time.perf_counter()
  marks = budget.marks()
  for step in range(1, budget.steps + 1):
    key = guess()
    loss = float(loss_of(key, view.locked))
    if loss < least:  # NaN never is.
      best, least = key, loss
    if step in marks:
      rate = step / (time.perf_counter() - start)
      params = view.floats(scheme.decrypt(best, view.locked))
      claim = Model((best, params), keyed(scheme, view.apply_fn))
      yield Claim(claim, Cost(steps=step), {"keys_a_second": rate})
