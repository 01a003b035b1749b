"""Folding a block-wise key into the layer that first sees the pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import models
from keyjax import Secret
from keyjax.schemes import pixel_shuffle
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((3, 16, 16, 3)).astype(np.float32))
# Channels of different scale: a key moves values between them.
MEAN, STD = (0.1, 0.5, 0.7), (0.1, 0.3, 0.9)
VIT = models.create("vit_micro", 10, MEAN, STD, patch=8, depth=1)


def make(kind: str, block_size: int) -> Any:
  scheme = keyjax.pixel_shuffle(kind, block_size)
  return scheme.keygen(Secret.generate(), None, {"image": IMAGES})


def moved(variables: Any, move: Any, key: Any) -> Any:
  """Return the variables with another patch embedding."""
  layer = variables["params"]["patch_embedding"]
  kernel, bias = move(key, layer["kernel"], layer["bias"], MEAN, STD)
  params = variables["params"] | {
    "patch_embedding": {"kernel": kernel, "bias": bias}
  }
  return {"params": params}


@pytest.fixture(scope="module")
def variables() -> Any:
  made = trees.fresh(VIT, IMAGES)
  bias = jnp.asarray(RNG.normal(size=32).astype(np.float32))
  made["params"]["patch_embedding"]["bias"] = bias
  return made


@pytest.mark.parametrize("kind", ["shf", "np"])
@pytest.mark.parametrize("block_size", [2, 8])
def test_the_plain_model_serves_encrypted_images(
  kind: str, block_size: int, variables: Any
) -> None:
  key = make(kind, block_size)
  apply = jax.jit(VIT.apply)
  plain = apply(variables, IMAGES)
  folded = moved(variables, keyjax.fold_patch_embedding, key)
  encrypted = pixel_shuffle.transform(key, IMAGES)
  np.testing.assert_allclose(apply(folded, encrypted), plain, atol=2e-4)
  # Neither of the two alone is enough, nor is another key.
  for v, x in (
    (folded, IMAGES),
    (variables, encrypted),
    (folded, pixel_shuffle.transform(make(kind, block_size), IMAGES)),
  ):
    assert float(jnp.abs(apply(v, x) - plain).max()) > 1e-2
  back = moved(folded, keyjax.unfold_patch_embedding, key)
  for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(variables),
                  strict=True):  # fmt: skip
    np.testing.assert_allclose(x, y, atol=1e-5)


def test_with_equal_channels_a_fold_only_permutes() -> None:
  """In this case a fold is an exact permutation of the kernel's rows."""
  key = make("shf", 4)
  kernel = jnp.asarray(RNG.normal(size=(8, 8, 3, 5)).astype(np.float32))
  bias, same = jnp.zeros(5), ((0.0,) * 3, (1.0,) * 3)
  folded, moved_bias = keyjax.fold_patch_embedding(key, kernel, bias, *same)
  assert not np.array_equal(folded, kernel)
  np.testing.assert_array_equal(jnp.sort(folded, axis=None),
                                jnp.sort(kernel, axis=None))  # fmt: skip
  back, _ = keyjax.unfold_patch_embedding(key, folded, moved_bias, *same)
  trees.assert_same_bits(back, kernel)


def test_bfloat16_kernels_keep_their_dtype() -> None:
  kernel = jnp.ones((4, 4, 3, 2), jnp.bfloat16)
  bias = jnp.ones(2, jnp.bfloat16)
  out = keyjax.fold_patch_embedding(make("np", 4), kernel, bias, MEAN, STD)
  assert [x.dtype for x in out] == [jnp.bfloat16] * 2


def test_bad_arguments() -> None:
  kernel, bias = jnp.ones((4, 4, 3, 2)), jnp.ones(2)
  with pytest.raises(TypeError, match="patch_embedding"):
    keyjax.fold_patch_embedding(make("ffx", 4), kernel, bias, MEAN, STD)
  with pytest.raises(ValueError, match="block_size=8 does not divide .* 4 x 4"):
    keyjax.fold_patch_embedding(make("shf", 8), kernel, bias, MEAN, STD)
  with pytest.raises(ValueError, match="3 channels, mean has 1"):
    keyjax.fold_patch_embedding(make("np", 4), kernel, bias, (0.0,), STD)
