"""Low-rank adapters: a small difference to public weights, which stay.

    W' = W + alpha / r  A B     A: [inputs, r], B: [r, outputs], at first 0

Only A and B train. They are a few megabytes, and without them the public
weights are the public model: sealed adapters keep secret exactly what was
learned, as no lock of the merged weights does while their base is public.

References:
  Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
  arXiv 2106.09685.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from keyjax import tree

BASE = "base"  # The collection of the public weights.
_ALPHA = 2.0  # As a multiple of the rank.


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A model whose params are adapters, and whose base is a collection.

  It has the `init` and `apply` of a linen model, so that the trainer and
  schemes that bind take it.

  Attributes:
    model: Linen module.
    rank: r, the rank of the difference.
    layers: Regular expression of the kernels, [inputs, outputs], that get one.
  """

  model: nn.Module
  rank: int
  layers: str = ".*kernel"

  def start(self, rng: jax.Array, variables: Any) -> dict[str, Any]:
    """Return variables that do what those of the model do.

    Args:
      rng: JAX PRNG key of A.
      variables: Variables of the model.

    Returns:
      `params`, the adapters by the path of their kernel; `base`, the model's
      params; and its other collections.

    Raises:
      ValueError: If no kernel matches, or the rank is below 1.
    """
    if self.rank < 1:
      raise ValueError(f"lora rank={self.rank}: must be at least 1")
    match = tree.matcher(self.layers)
    paths, leaves, _ = tree.flatten(variables["params"])
    chosen = {
      path: leaf
      for path, leaf in zip(paths, leaves, strict=True)
      if match(path) and leaf.ndim == 2
    }
    if not chosen:
      raise ValueError(
        f"lora layers={self.layers!r}: no kernel [inputs, outputs] among "
        f"{', '.join(paths[:8])}"
      )
    rngs = jax.random.split(rng, len(chosen))
    adapters = {
      path: _adapter(one, leaf.shape, self.rank)
      for one, (path, leaf) in zip(rngs, chosen.items(), strict=True)
    }
    rest = {k: v for k, v in variables.items() if k != "params"}
    return {"params": adapters, BASE: variables["params"], **rest}

  def init(self, rng: jax.Array, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return fresh variables: random weights, and adapters of them."""
    return self.start(rng, self.model.init(rng, *args, **kwargs))

  def apply(
    self,
    variables: Any,
    *args: Any,
    mutable: Any = False,
    **kwargs: Any,
  ) -> Any:
    """Run the model with its adapted weights; as `Module.apply`.

    The base is no mutable collection: it is returned as it is.
    """
    whole = self.merged(variables)
    if not isinstance(mutable, list | tuple) or BASE not in mutable:
      return self.model.apply(whole, *args, mutable=mutable, **kwargs)
    moved = [name for name in mutable if name != BASE]
    found, new = self.model.apply(whole, *args, mutable=moved, **kwargs)
    return found, {**new, BASE: variables[BASE]}

  def merged(self, variables: Any) -> dict[str, Any]:
    """Return variables of the model, with the adapters in the weights."""
    adapters = variables["params"]
    paths, leaves, treedef = tree.flatten(variables[BASE])
    adapted = [
      _add(leaf, adapters[path]) if path in adapters else leaf
      for path, leaf in zip(paths, leaves, strict=True)
    ]
    rest = {k: v for k, v in variables.items() if k not in ("params", BASE)}
    return {"params": jax.tree.unflatten(treedef, adapted), **rest}


def _adapter(
  rng: jax.Array, shape: tuple[int, ...], rank: int
) -> dict[str, jax.Array]:
  inputs, outputs = shape
  down = jax.random.normal(rng, (inputs, rank), jnp.float32) / inputs**0.5
  return {"down": down, "up": jnp.zeros((rank, outputs), jnp.float32)}


def _add(kernel: Any, adapter: dict[str, jax.Array]) -> jax.Array:
  difference = _ALPHA * (adapter["down"] @ adapter["up"])
  return jnp.asarray(kernel) + difference.astype(kernel.dtype)
