"""The laws, for every scheme, combinator and dtype.

1. decrypt(encrypt(p)) is p, bit for bit.
2. Structure, shapes and sharding are kept; dtypes too, or a cipher's words.
3. A chain undoes itself in reverse.
4. eager = jit = vmap over keys = pmap = sharded over a mesh.
5. One compilation serves every key.
6. Something is locked; a wrong key never restores an encrypted leaf, nor runs
   the bound pass.
7. No two leaves, positions, nonces or encryptions share a keystream. It fails
   for Deep-Lock's published chain: two files under one secret share theirs.
8. Absorbed params run plain compute what the key holder computes.

More in `test_laws_sharding.py`, `test_laws_bound.py`, `test_laws_keystream.py`,
and `test_laws_broken.py`, whose schemes each break one.
"""

import functools
from typing import Any

import jax
import numpy as np
import pytest

import keyjax
from keyjax import Scheme, Secret, laws, tree
from keyjax.attacks import near_keys
from tests import trees
from tests.law_cases import (
  BATCH,
  TREE_SCHEMES,
  equal,
  rolled,
  stack,
  without_rng,
)

pytestmark = pytest.mark.laws


FLOAT_ONLY = (
  "adv_params",
  "keyed_noise",
  "licensee_mark",
  "chain",
  "partition",
)


CASES = [
  (name, dtype)
  for name in TREE_SCHEMES
  for dtype in trees.DTYPES
  if not (dtype == "int8" and name in FLOAT_ONLY)
]


# Combinations are put to other dtypes than float32 by the slow tests.
COMBINED = ("chain", "chain_rolled", "masked", "partition", "nested")


def case(name: str, dtype: str) -> Any:
  slow = (*COMBINED, "adv_params") if dtype == "bfloat16" else COMBINED
  long = name in slow and dtype != "float32"
  return pytest.param(name, dtype, marks=[pytest.mark.slow] if long else [])


per_case = pytest.mark.parametrize(
  ("name", "dtype"), [case(*names) for names in CASES]
)


@functools.cache
def setup(name: str, dtype: str) -> tuple[Scheme, Any, Any]:
  """Return the scheme, the plain tree and a key."""
  scheme = TREE_SCHEMES[name][0]()
  plain = trees.params(dtype)
  return scheme, plain, scheme.keygen(Secret.generate(), plain, BATCH)


def at(stacked: Any, i: int) -> Any:
  return jax.tree.map(lambda x: x[i], stacked)


# Words of other sizes are locked with another number of key bits.
CHECKED = [
  case(name, dtype)
  if name != "deep_lock_256" or dtype == "float32"
  else pytest.param(name, dtype, marks=pytest.mark.slow)
  for name, dtype in CASES
  if dtype != "float16"
]


@pytest.mark.parametrize(("name", "dtype"), CHECKED)
def test_laws_check_passes(name: str, dtype: str) -> None:
  scheme = TREE_SCHEMES[name][0]()
  laws.check(
    scheme, trees.params(dtype), BATCH, locks_nothing=name == "identity"
  )


@per_case
def test_1_and_2_a_cipher_leaves_words(name: str, dtype: str) -> None:
  scheme, plain, key = setup(name, dtype)
  # `laws.check` compiles the other dtypes.
  jit = jax.jit if dtype == "float16" else lambda function: function
  locked = jit(scheme.encrypt)(key, plain)
  trees.assert_same_bits(jit(scheme.decrypt)(key, locked), plain)
  paths, before, _ = tree.flatten(plain)
  for path, x, y in zip(paths, before, jax.tree.leaves(locked), strict=True):
    cipher = tree.lockable(x) and TREE_SCHEMES[name][1](path)
    assert y.dtype == (tree.word_dtype(x.dtype) if cipher else x.dtype), path


def test_3_a_chain_undoes_itself_in_reverse() -> None:
  first, second = rolled(), keyjax.deep_lock()
  scheme = keyjax.chain(first, second)
  plain = trees.params("float32")
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  trees.assert_same_bits(scheme.decrypt(key, locked), plain)
  by_hand = second.encrypt(key[1], first.encrypt(key[0], plain))
  trees.assert_same_bits(locked, by_hand)
  # Rolling last undoes another order, so the law above can fail.
  floats = tree.as_floats(first.decrypt(key[0], _view(locked, plain)), plain)
  words = jax.tree.map(
    lambda x: tree.as_words(x) if tree.lockable(x) else x, floats
  )
  assert not equal(second.decrypt(key[1], words), plain)


def _view(locked: Any, plain: Any) -> Any:
  """Words as floats for `rolled`; nothing computes with them."""
  return tree.as_floats(locked, plain)


@pytest.mark.parametrize("name", TREE_SCHEMES)
def test_4_encrypt_under_pmap_and_decrypt_under_vmap(name: str) -> None:
  """`laws.check` does the other two."""
  scheme, plain, _ = setup(name, "float32")
  plain = without_rng(plain)
  made = [scheme.keygen(Secret.generate(), plain, BATCH) for _ in range(8)]
  eager = [scheme.encrypt(k, plain) for k in made[:2]]
  if not jax.tree.leaves(made):  # identity has no key to map over
    trees.assert_same_bits(eager[0], plain)
    return
  by_pmap = jax.pmap(scheme.encrypt, in_axes=(0, None))(stack(*made), plain)
  locked = jax.device_get(by_pmap)
  for i, one in enumerate(eager):
    trees.assert_same_bits(jax.device_get(one), at(locked, i))
  back = jax.device_get(jax.vmap(scheme.decrypt)(stack(*made), locked))
  for i in range(8):
    trees.assert_same_bits(at(back, i), jax.device_get(plain))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_6_adv_params_with_a_wrong_key(dtype: str) -> None:
  scheme, plain, key = setup("adv_params", dtype)
  locked = scheme.encrypt(key, plain)
  near = near_keys.near_key(key, 1, np.random.default_rng(0))
  opened = scheme.decrypt(near, locked)
  assert equal(scheme.decrypt(key, locked), plain)
  assert not equal(opened, plain)
