"""Leaves that `masked` hides say so when a scheme uses them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, tree

SECRET = Secret(b"T" * 32)
PARAMS = {
  "kernel": np.ones((3, 2), np.float32),
  "bias": np.zeros(2, np.float32),
}
LOCK = keyjax.deep_lock()


def test_a_hidden_leaf_says_what_it_is() -> None:
  hidden: Any = tree.Hidden(jnp.ones(3))
  with pytest.raises(
    AttributeError, match="no dtype: `masked` hides this leaf"
  ):
    hidden.dtype  # noqa: B018
  for use in (np.asarray, jnp.asarray, jnp.sum):
    with pytest.raises(TypeError, match=r"(?i)hidden"):
      use(hidden)
  disjoint = keyjax.masked(keyjax.masked(LOCK, ".*kernel"), ".*bias")
  with pytest.raises(ValueError, match="`masked` hides all, so check"):
    disjoint.keygen(SECRET, PARAMS, None)


def test_a_scheme_that_maps_over_hidden_leaves() -> None:
  added = keyjax.Scheme(
    keygen=lambda secret, params, batch: (),
    encrypt=lambda key, params: jax.tree.map(lambda x: x + 1, params),
    decrypt=lambda key, params: jax.tree.map(lambda x: x - 1, params),
  )
  masked = keyjax.masked(keyjax.masked(added, "a|b"), "b|c")
  params = {"a": np.float32(0), "b": np.float32(0), "c": np.float32(0)}
  locked = masked.encrypt((), params)
  assert locked == {"a": 0, "b": 1, "c": 0}
  assert masked.decrypt((), locked) == params
  broken = added._replace(encrypt=lambda key, params: params["a"])
  with pytest.raises(ValueError, match="another structure: only its argument"):
    keyjax.masked(broken, "a").encrypt((), params)
