"""What a new key costs the owner of a model.

`change_key` changes keys without training where that is possible. Elsewhere the
owner trains the model further under the new key (`train_new_key`); the curve
shows after how many steps it is as good as before, and `fresh` compares it with
a model from scratch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks import registry
from keyjax.attacks.any_scheme.fine_tune import train_keyed
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
from keyjax.key_change import rekey
from keyjax.scheme import Key, PyTree
from keyjax.secrets import Secret

_RATES = ({"learning_rate": 1e-3}, {"learning_rate": 3e-3})


@registry.register(
  "train_new_key",
  Goal.FUNCTION,
  ("hpnn", "shf", "np", "ffx"),
  Attacker(has_key=True, images=1),
  _RATES,
  condition="right",
)
def train_new_key(
  view: View, budget: Budget, fresh: bool = False, **recipe: Any
) -> Iterator[Claim]:
  """Train the opened model under another key of the same scheme.

  Args:
    view: The file, the scheme, its key and labelled images.
    budget: Its `steps` are training steps.
    fresh: Whether to start from fresh params.
    **recipe: Fields of `fit.Recipe`.
  """
  opened = view.opened()
  key = _new_key(view, opened)
  if fresh:
    opened = view.init(jax.random.key(budget.seed))
  yield from train_keyed(view, key, opened, budget, recipe)


@registry.register(
  "change_key",
  Goal.FUNCTION,
  ("deep_lock", "adv_params", "keyed_noise", "hpnn"),
  Attacker(has_key=True, images=1),
  condition="right",
)
def change_key(view: View, budget: Budget) -> Iterator[Claim]:
  """Lock the file with another key, without training.

  Args:
    view: The file, the scheme, its key and the labelled images that `keygen`
      takes.
    budget: Not used.
  """
  del budget
  assert view.scheme is not None
  new = _new_key(view, view.scheme.decrypt(view.key, view.locked))
  locked = rekey(view.scheme, view.key, new, view.locked)
  opened = view.floats(view.scheme.decrypt(new, jax.block_until_ready(locked)))
  run = keyed(view.scheme, view.apply_fn)
  yield Claim(Model((new, opened), run), Cost())


def _new_key(view: View, params: PyTree) -> Key:
  assert view.scheme is not None
  batch = jax.tree.map(jnp.asarray, view.data._asdict())
  return view.scheme.keygen(Secret.generate(), params, batch)
