"""Experts of tiers: layers that a model can run without.

The contract of `keyjax.tiers.authorize`: a model takes `present`, a dict with a
bool for each tier, and leaves out the experts of every tier that is False. It
reads none of their parameters, which are in a group called `experts`, under the
tier's name: `.*experts/NAME/.*`.
"""

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.base import Dtype

Present = Mapping[str, bool] | None


def present_experts(
  experts: Sequence[str], present: Present
) -> tuple[str, ...]:
  """Return the names of the experts to run.

  Args:
    experts: Tiers of which the model has experts.
    present: Whether each tier is there; None for all.

  Raises:
    ValueError: If a tier is absent of which the model has no expert, or
      nothing is said of one.
  """
  if present is None:
    return tuple(experts)
  if unsaid := [name for name in experts if name not in present]:
    raise ValueError(f"present says nothing of the expert {unsaid[0]}.")
  for name, is_there in present.items():
    if not is_there and name not in experts:
      known = ", ".join(experts) or "none"
      raise ValueError(
        f"Tier {name} is absent, and the model cannot run without it: its "
        f"experts are {known}."
      )
  return tuple(name for name in experts if present[name])


class Experts(nn.Module):
  """The sum of one expert for each tier.

  An expert is a feed-forward layer. With `attention`, that layer reads what an
  attention of the expert's own adds to its input: without one, an expert of a
  transformer sees of other positions only what the base looks for there.

  Attributes:
    tiers: Names of the tiers.
    hidden: Hidden units of each.
    features: Output features.
    dtype: Type of the computation.
    attention: Function of a name that returns an expert's attention, or None.
  """

  tiers: Sequence[str]
  hidden: int
  features: int
  dtype: Dtype = jnp.float32
  attention: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `float[..., features]` of `float[..., n]`."""
    total = jnp.zeros((*x.shape[:-1], self.features), self.dtype)
    for tier in self.tiers:
      total = total + _Expert(
        self.hidden, self.features, self.dtype, self.attention, name=tier
      )(x)
    return total


class TokenExperts(nn.Module):
  """Tables that experts add to a token embedding; they start at zero.

  A base that never met a token has no use for its row, and a model whose output
  layer is the embedding can hardly write it.

  Attributes:
    tiers: Names of the tiers.
    vocabulary: Number of tokens.
    features: Features of a token.
    dtype: Type of the computation.
  """

  tiers: Sequence[str]
  vocabulary: int
  features: int
  dtype: Dtype = jnp.float32

  def setup(self) -> None:
    """Create a table for each tier."""
    self.tables = {
      tier: nn.Embed(
        self.vocabulary,
        self.features,
        dtype=self.dtype,
        embedding_init=nn.initializers.zeros,
        name=tier,
      )
      for tier in self.tiers
    }

  def add(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
    """Return features `[b, t, features]` of `int[b, t]`, added to `x`."""
    return x + sum(table(tokens) for table in self.tables.values())

  def attend(self, logits: jax.Array, x: jax.Array) -> jax.Array:
    """Return `[b, t, vocabulary]`, added to the logits of features `x`."""
    return logits + sum(table.attend(x) for table in self.tables.values())


class _Expert(nn.Module):
  hidden: int
  features: int
  dtype: Dtype
  attention: Callable[..., nn.Module] | None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.attention is not None:
      x = x + self.attention(name="attention")(x)
    y = nn.gelu(nn.Dense(self.hidden, dtype=self.dtype, name="mlp_in")(x))
    return nn.Dense(self.features, dtype=self.dtype, name="mlp_out")(y)
