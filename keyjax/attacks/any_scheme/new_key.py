"""What a new key costs an owner whose scheme must be trained for it.

`keyjax.rekey` changes keys without training where that is possible. Elsewhere
the owner trains the model further under the new key; the curve shows after how
many steps it is as good as before, and `fresh` compares it with a model from
scratch.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from keyjax.attacks import registry
from keyjax.attacks.any_scheme.fine_tune import train_keyed
from keyjax.attacks.game import Attacker, Budget, Claim, Goal
from keyjax.attacks.views import View
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
  assert view.scheme is not None
  opened = view.opened()
  batch = {
    "image": jnp.asarray(view.data.image),
    "label": jnp.asarray(view.data.label),
  }
  key = view.scheme.keygen(Secret.generate(), opened, batch)
  if fresh:
    opened = view.init(jax.random.key(budget.seed))
  yield from train_keyed(view, key, opened, budget, recipe)
