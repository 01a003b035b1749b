"""Trees of every container, words and floats, hiding."""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret, tree
from tests import trees


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
  kernel: Any
  bias: Any


KERNEL, BIAS = jnp.arange(6.0).reshape(2, 3), jnp.zeros(3)
CONTAINERS = {
  "nested": {"a": {"kernel": KERNEL, "bias": BIAS}},
  "frozen": flax.core.freeze({"a": {"kernel": KERNEL, "bias": BIAS}}),
  "list": [KERNEL, [BIAS, (KERNEL,)]],
  "dataclass": Layer(kernel=KERNEL, bias=[BIAS]),
  "leaf": KERNEL,
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("masked", [False, True])
def test_any_pytree(name: str, masked: bool) -> None:
  plain = CONTAINERS[name]
  scheme = keyjax.deep_lock()
  if masked:
    scheme = keyjax.masked(scheme, lambda path: not path.endswith("bias"))
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  assert type(locked) is type(plain)
  assert jax.tree.leaves(locked)[-1].dtype == jnp.uint32
  trees.assert_same_bits(scheme.decrypt(key, locked), plain)


@pytest.mark.parametrize("pattern", ["kernel", ".*kernel", "kernel/value"])
def test_nnx_state(pattern: str) -> None:
  state = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
  scheme = keyjax.masked(keyjax.deep_lock(), pattern)
  key = scheme.keygen(Secret.generate(), state, None)
  locked = scheme.encrypt(key, state)
  assert type(locked) is type(state)
  dtypes = {str(x.dtype) for x in jax.tree.leaves(locked)}
  assert dtypes == {"uint32", "float32"}
  trees.assert_same_bits(scheme.decrypt(key, locked), state)


def test_shapes_are_enough_to_make_a_key() -> None:
  shapes = jax.eval_shape(lambda: trees.params("bfloat16"))
  secret, scheme = Secret.generate(), keyjax.deep_lock()
  key = scheme.keygen(secret, shapes, None)
  trees.assert_same_bits(
    key, scheme.keygen(secret, trees.params("bfloat16"), None)
  )


@pytest.mark.parametrize(
  "params",
  [
    {},
    {"step": jnp.int32(1), "flag": jnp.array(True), "rng": jax.random.key(0)},
    {"empty": jnp.zeros((0, 3))},
    {"number": 1.5},
  ],
)
def test_nothing_to_encrypt(params: Any) -> None:
  with pytest.raises(ValueError, match="deep_lock: nothing to encrypt"):
    keyjax.deep_lock().keygen(Secret.generate(), params, None)


def test_a_mask_that_matches_nothing() -> None:
  scheme = keyjax.masked(keyjax.deep_lock(), "kernel")
  with pytest.raises(ValueError, match="'kernel'.*whole path.*a/kernel"):
    scheme.keygen(Secret.generate(), {"a": {"kernel": KERNEL}}, None)
  scheme = keyjax.masked(keyjax.deep_lock(), "a/count")
  params = {"a": {"kernel": KERNEL, "count": np.int32(1)}}
  with pytest.raises(ValueError, match="nothing to encrypt.*hidden"):
    scheme.keygen(Secret.generate(), params, None)


def test_an_invalid_pattern_is_shown() -> None:
  with pytest.raises(ValueError, match=r"'\*kernel' is not a regular expr"):
    keyjax.masked(keyjax.deep_lock(), "*kernel")


def test_floats_of_64_bits_are_refused_by_name() -> None:
  with pytest.raises(ValueError, match="leaf a/b is float64; cast it"):
    tree.make_spec({"a": {"b": np.ones(3)}}, "test")
  with pytest.raises(ValueError, match="leaf c is float4_e2m1fn; cast it"):
    tree.make_spec({"c": jnp.ones(4, jnp.float4_e2m1fn)}, "test")


@pytest.mark.parametrize("x", [np.ones(3), np.arange(2), np.complex64(1)])
def test_there_are_no_words_of_64_bits(x: Any) -> None:
  message = f"no words of {x.dtype}: cast it to 8, 16 or 32 bits"
  with pytest.raises(ValueError, match=message):
    tree.as_words(x)
  with pytest.raises(ValueError, match=message):
    tree.word_dtype(x.dtype)


def test_numpy_leaves_work() -> None:
  plain = {"w": np.arange(4, dtype=np.float32)}
  scheme = keyjax.deep_lock()
  key = scheme.keygen(Secret.generate(), plain, None)
  opened = scheme.decrypt(key, scheme.encrypt(key, plain))
  np.testing.assert_array_equal(opened["w"], plain["w"])


@pytest.mark.parametrize(
  "dtype", [*trees.DTYPES, "float8_e4m3fn", "float8_e5m2"]
)
def test_words_round_trip_every_bit_pattern(dtype: str) -> None:
  width = jnp.dtype(dtype).itemsize
  rng = np.random.default_rng(0)
  words = rng.integers(0, 256, 4096, np.uint8).view(f"u{width}")
  back = tree.as_words(tree.from_words(words, dtype))
  assert back.dtype == tree.word_dtype(dtype)
  np.testing.assert_array_equal(back, words)


def test_as_floats_and_counting() -> None:
  plain = {"w": jnp.ones(4), "step": jnp.int32(3)}
  locked = {"w": jnp.uint32([0x7FC00000, 0x7F800000, 0, 1]), "step": 3}
  view = tree.as_floats(locked | {"step": plain["step"]}, plain)
  assert view["w"].dtype == jnp.float32
  assert int(tree.count_nonfinite(view)) == 2
  assert int(tree.count_nonfinite({})) == 0


def test_hiding_nests() -> None:
  plain = {"a": jnp.ones(2), "b": jnp.ones(2), "c": jnp.ones(2)}
  outer = tree.hide(plain, lambda path: path != "c")
  inner = tree.hide(outer, lambda path: path != "b")
  seen = [
    p for p, x in zip(*tree.flatten(inner)[:2], strict=True) if tree.lockable(x)
  ]
  assert seen == ["a"]
  trees.assert_same_bits(tree.unhide(inner), outer)
  trees.assert_same_bits(tree.reveal(inner), plain)
