"""Training that keeps what restricted data teach in the leaves of a tier."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from keyjax import arguments, tree
from keyjax.errors import ArgumentError
from keyjax.tiers.assigning import Leaves, assign


def routed(
  optimizer: optax.GradientTransformation, tiers: Mapping[str, Leaves]
) -> optax.GradientTransformationExtraArgs:
  """Return an optimizer whose every step updates the leaves of one tier alone.

  `update(grads, state, params, tier=NAME)` names the tier that the batch
  belongs to. The params of all others keep their bits, and so do their moments
  and step counts: neither momentum nor weight decay moves them. Compute the
  gradients of a restricted batch with its expert, and those of a public one
  without it, so that the rest of the model learns to do without.

  Args:
    optimizer: Optimizer of each tier; each has a state of its own.
    tiers: Pattern of each tier's leaves, as in `Tier`; a leaf is in the first
      that matches, and must be in one.

  Returns:
    A transformation; `tier` is the name of a tier, fixed under `jit`.

  Raises:
    ArgumentError: In `init`, if a leaf is in no tier or a tier has no leaf; in
      `update`, if there is no such tier.

  Example:
    >>> params = {"stem": jnp.float32(1), "expert": jnp.float32(1)}
    >>> optimizer = routed(optax.sgd(0.5), {"expert": "expert", "base": ".*"})
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(params, state, params, tier="expert")
    >>> {name: float(x) for name, x in updates.items()}
    {'expert': -0.5, 'stem': 0.0}

  References:
    Cloud et al., "Gradient Routing: Masking Gradients to Localize Computation
    in Neural Networks", arXiv:2410.04332, 2024.
    Shilov et al., "Beyond Data Filtering: Knowledge Localization for Capability
    Removal in LLMs", arXiv:2512.05648, 2025.
  """
  optax_parts = {
    name: optax.transforms.conditionally_mask(
      optimizer, _is_for(name), forward_extra_args=True
    )
    for name in tiers
  }

  def labels(params: Any) -> Any:
    paths, _, treedef = tree.flatten(params)
    of = {i: name for name, mine in assign(paths, tiers).items() for i in mine}
    return treedef.unflatten([of[i] for i in range(len(paths))])

  parts = optax.partition(optax_parts, labels)

  def update(
    updates: Any, state: Any, params: Any = None, *, tier: str, **extra: Any
  ) -> Any:
    if tier not in tiers:
      raise ArgumentError(
        f"routed: no tier {arguments.show(tier)}; there are {', '.join(tiers)}"
      )
    return parts.update(updates, state, params, tier=tier, **extra)

  return optax.GradientTransformationExtraArgs(parts.init, update)


def _is_for(name: str) -> Callable[..., Any]:
  return lambda step, *, tier, **_: jnp.bool_(tier == name)
