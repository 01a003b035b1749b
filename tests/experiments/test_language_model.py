"""The language model: its size, its mask, its output layer, its errors."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models
from tests import trees

TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 20, (3, 16)))


def create(**options: Any) -> Any:
  # Its blocks are all alike: one is enough.
  return models.create("gpt_micro", 20, (), (), depth=1, **options)


def variables_of(model: Any) -> Any:
  return trees.variables(model, TOKENS)


def test_gpt2_has_the_published_size() -> None:
  """124,439,808 parameters, as in Hugging Face's gpt2; the output is tied."""
  for tied, more in ((True, 0), (False, 768 * 50257)):
    model = models.create("gpt2", 50257, (), (), tied=tied)
    tokens = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(variables))
    assert count == 124_439_808 + more
    assert ("head" in variables["params"]) != tied


@pytest.mark.parametrize("tied", [True, False])
def test_no_position_sees_later_ones(tied: bool) -> None:
  model = create(tied=tied)
  variables = variables_of(model)
  apply = jax.jit(model.apply)
  logits = apply(variables, TOKENS)
  assert logits.shape == (3, 16, 20) and logits.dtype == jnp.float32
  other = apply(variables, TOKENS.at[:, 9].set((TOKENS[:, 9] + 1) % 20))
  np.testing.assert_allclose(logits[:, :9], other[:, :9], atol=1e-5)
  changed = jnp.abs(logits - other).max(axis=(0, 2))[9:]
  assert bool((changed > 1e-4).all()), "and every later one sees it"


def test_order_matters() -> None:
  """Without positions, equal tokens would have equal logits."""
  model = create()
  same = jnp.full((1, 8), 3)
  logits = jax.jit(model.apply)(variables_of(model), same)
  assert float(jnp.abs(logits[0, 1:] - logits[0, :-1]).min(0).max()) > 1e-4


def test_bfloat16_computes_and_params_stay_float32() -> None:
  model = create(dtype="bfloat16")
  variables = variables_of(model)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  logits = jax.jit(model.apply)(variables, TOKENS)
  assert logits.dtype == jnp.float32
  exact = jax.jit(create().apply)(variables, TOKENS)
  error = float(jnp.abs(logits - exact).max())
  assert 0 < error < 0.1 * float(jnp.abs(exact).max())


def test_bad_tokens_are_errors() -> None:
  model = create()
  with pytest.raises(ValueError, match="integer tokens.*float32"):
    model.init(jax.random.key(0), jnp.zeros((1, 8)))
  with pytest.raises(ValueError, match="65 tokens are more than context=64"):
    model.init(jax.random.key(0), jnp.zeros((1, 65), jnp.int32))
  with pytest.raises(ValueError, match="dpth of model gpt_micro.*context"):
    create(dpth=3)
