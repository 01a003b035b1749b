"""Licensee marks: the bits that change, the bound, and what is traced."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import keyjax
from keyjax import Secret, quantize
from tests import trees

FLOATS = ("float32", "bfloat16", "float16")
SCHEME = keyjax.licensee_mark()
ACCUSE = 1e-6


def weights(seed: int = 0) -> dict[str, Any]:
  rng = np.random.default_rng(seed)
  kernel = rng.normal(0, 0.3, (64, 32)).astype(np.float32)
  return {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(32)}


PLAIN = weights()
KEYS = {
  str(i): SCHEME.keygen(Secret.generate(), PLAIN, None) for i in range(60)
}
COPIES = {n: SCHEME.encrypt(key, PLAIN) for n, key in KEYS.items()}


def accused(found: Any, keys: Mapping[str, Any] = KEYS) -> set[str]:
  evidence = keyjax.trace_marks(keys, PLAIN, found)
  return {name for name, e in evidence.items() if e.p_value <= ACCUSE}


def changed(copy: Any, edit: Any) -> dict[str, Any]:
  return {**copy, "kernel": edit(np.asarray(copy["kernel"]))}


# -------------------------------------------------------------------- the bits


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_weight_moves_by_one_step_and_back(dtype: str) -> None:
  rng = np.random.default_rng(1)
  w = jnp.asarray(rng.normal(size=4096).astype(np.float32), dtype)
  key = keyjax.licensee_mark("w").keygen(Secret.generate(), {"w": w}, None)
  marked = keyjax.licensee_mark("w").encrypt(key, {"w": w})["w"]
  step = 1 << (jnp.finfo(dtype).nmant - 4)
  moved = trees.bits(marked).astype(np.int64) - trees.bits(w)
  assert set(np.abs(moved).tolist()) == {step}
  assert abs((moved > 0).mean() - 0.5) < 0.05  # 6 standard deviations.
  opened = keyjax.licensee_mark("w").decrypt(key, {"w": marked})
  trees.assert_same_bits(opened, {"w": w})


@pytest.mark.parametrize("dtype", FLOATS)
def test_values_at_the_ends_of_a_format(dtype: str) -> None:
  info = jnp.finfo(dtype)
  ends = [0.0, -0.0, np.inf, -np.inf, np.nan, info.max, info.min]
  ends += [info.tiny, -info.tiny, info.smallest_subnormal, 1.0, -1.0]
  w = jnp.asarray(np.asarray(ends * 40).astype(jnp.dtype(dtype)))
  scheme = keyjax.licensee_mark("w")
  key = scheme.keygen(Secret.generate(), {"w": w}, None)
  marked = scheme.encrypt(key, {"w": w})
  trees.assert_same_bits(scheme.decrypt(key, marked), {"w": w})
  before = np.asarray(w, np.float64)
  after = np.asarray(marked["w"], np.float64)
  with np.errstate(invalid="ignore"):
    steps = np.abs(after - before) / np.abs(before)
  assert steps[np.isfinite(steps)].max() <= 2**-4
  np.testing.assert_array_equal(np.isnan(before), np.isnan(after))
  np.testing.assert_array_equal(before[~(steps > 0)], after[~(steps > 0)])


def test_offsets_are_aes_ctr() -> None:
  secret = Secret.generate()
  plain = {"kernel": jnp.asarray(np.linspace(1, 2, 32, dtype=np.float32))}
  key = SCHEME.keygen(secret, plain, None)
  cipher = Cipher(
    algorithms.AES256(secret.derive("licensee_mark", 32)), modes.CTR(bytes(16))
  ).encryptor()
  stream = np.frombuffer(cipher.update(bytes(128)), "<u4")
  step = np.uint32(1 << 19)
  offset = stream & (2 * step - 1)
  words = trees.bits(plain["kernel"])
  found = trees.bits(SCHEME.encrypt(key, plain)["kernel"])
  np.testing.assert_array_equal(found, ((words + offset) ^ step) - offset)


def test_small_leaves_and_others_stay() -> None:
  plain = {**PLAIN, "tiny": {"kernel": jnp.ones(15)}}
  key = SCHEME.keygen(Secret.generate(), plain, None)
  marked = SCHEME.encrypt(key, plain)
  for name in ("bias", "tiny"):
    trees.assert_same_bits(marked[name], plain[name])
  assert not np.array_equal(marked["kernel"], plain["kernel"])


# ------------------------------------------------------------------ guarantees


def test_each_copy_is_traced_to_its_licensee_alone() -> None:
  for name in ("0", "7"):
    assert accused(COPIES[name]) == {name}
  assert accused(PLAIN) == set()
  assert accused(weights(1)) == set()


def test_scores_without_the_mark_keep_to_the_bound() -> None:
  """Hoeffding: P(score >= t) <= exp(-t^2 / 2), whatever the weights are."""
  found = {**PLAIN, "kernel": COPIES["0"]["kernel"] * 1.003}
  scores = [
    keyjax.trace_marks({n: KEYS[n]}, PLAIN, copy)[n].score
    for copy in (found, weights(2), COPIES["1"])
    for n in list(KEYS)[2:]
  ]
  assert max(scores) < math.sqrt(2 * math.log(len(scores) / ACCUSE))
  for t in (1.0, 1.5):
    assert np.mean(np.asarray(scores) >= t) <= math.exp(-t * t / 2)
  # They are neither constant nor tiny: the bound is put to a test.
  assert 0.7 < np.std(scores) < 1.3


def test_the_bound_counts_the_licensees() -> None:
  copy = changed(PLAIN, lambda w: np.where(w > 1, COPIES["0"]["kernel"], w))
  one = keyjax.trace_marks({"0": KEYS["0"]}, PLAIN, copy)["0"]
  two = keyjax.trace_marks({n: KEYS[n] for n in "01"}, PLAIN, copy)["0"]
  assert one.weights == two.weights and one.score == two.score
  assert two.p_value == min(1, 2 * one.p_value) and one.p_value > 0


def quantized(copy: Any) -> Any:
  return quantize.dequantize(quantize.quantize(copy))


SURVIVED = {
  "bfloat16": lambda c: jax.tree.map(lambda x: x.astype("bfloat16"), c),
  "float8": lambda c: jax.tree.map(lambda x: x.astype("float8_e4m3fn"), c),
  "int8": quantized,
  "pruning": lambda c: changed(
    c, lambda w: np.where(np.abs(w) < np.quantile(np.abs(w), 0.3), 0, w)
  ),
  "a part": lambda c: {"kernel": c["kernel"], "x": 1},
}


@pytest.mark.parametrize("what", SURVIVED)
def test_a_changed_copy_is_traced(what: str) -> None:
  assert accused(SURVIVED[what](COPIES["3"])) == {"3"}


def test_each_of_three_who_average_is_traced() -> None:
  three = np.stack([np.asarray(COPIES[n]["kernel"]) for n in "567"])
  for mix in (
    three.mean(0),
    np.median(three, 0),
    three.max(0) / 2 + three.min(0) / 2,
  ):
    assert accused({**PLAIN, "kernel": mix}) == {"5", "6", "7"}


def test_a_copy_is_marked_and_encrypted_in_one_call() -> None:
  lock = keyjax.deep_lock("counter")
  chain = keyjax.chain(SCHEME, lock)
  owner, lab, shop = (
    chain.keygen(Secret.generate(), PLAIN, None) for _ in range(3)
  )
  marks = {"owner": owner[0], "lab": lab[0], "shop": shop[0]}
  copy = keyjax.rekey(chain, owner, lab, chain.encrypt(owner, PLAIN))
  opened = lock.decrypt(lab[1], copy)
  assert accused(opened, marks) == {"lab"}
  trees.assert_same_bits(chain.decrypt(lab, copy), PLAIN)
  other = keyjax.rekey(chain, lab, shop, copy)
  assert accused(lock.decrypt(shop[1], other), marks) == {"shop"}


# ---------------------------------------------------------------- known breaks


def test_the_middle_of_many_copies_is_the_plain_weight() -> None:
  many = np.stack([np.asarray(c["kernel"]) for c in COPIES.values()])
  middle = many.max(0) / 2 + many.min(0) / 2
  assert accused({**PLAIN, "kernel": middle}) == set()


def test_noise_of_many_steps_hides_the_mark() -> None:
  noise = np.random.default_rng(0).normal(1, 3, (64, 32))
  assert accused(changed(COPIES["3"], lambda w: w * noise)) == set()


def test_other_orders_and_scales_leave_nothing_to_compare() -> None:
  order = np.random.default_rng(0).permutation(32)
  assert accused(changed(COPIES["3"], lambda w: w[:, order])) == set()
  assert accused(changed(COPIES["3"], lambda w: w * 1.5)) == set()


# ------------------------------------------------------------------- bad input


def test_bad_input() -> None:
  new = Secret.generate()
  for depth in (0, -1, 2.0, True):
    with pytest.raises(ValueError, match="a mantissa bit, 1 or more"):
      keyjax.licensee_mark(depth=depth)  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="fewer than 16 weights"):
    SCHEME.keygen(new, {"kernel": jnp.ones(15)}, None)
  with pytest.raises(ValueError, match="no leaf of floats matches layers='x'"):
    keyjax.licensee_mark("x").keygen(new, PLAIN, None)
  narrow = {"kernel": jnp.ones(64, "float8_e4m3fn")}
  with pytest.raises(ValueError, match="3 mantissa bits: depth=4 is too deep"):
    SCHEME.keygen(new, narrow, None)
  with pytest.raises(ValueError, match="depth=5, but the key has 4"):
    keyjax.licensee_mark(depth=5).encrypt(KEYS["0"], PLAIN)
  with pytest.raises(
    TypeError, match="Key, got a tuple: the key is the first argument"
  ):
    SCHEME.encrypt((), PLAIN)
  with pytest.raises(ValueError, match="needs the key of a licensee"):
    keyjax.trace_marks({}, PLAIN, PLAIN)
  with pytest.raises(ValueError, match="no marked leaf is in the model"):
    keyjax.trace_marks(KEYS, PLAIN, {"kernel": np.ones((32, 64))})
  with pytest.raises(ValueError, match="another tree"):
    keyjax.trace_marks(KEYS, {"other": PLAIN["bias"]}, PLAIN)


def test_nobody_is_accused_by_weights_at_the_ends_of_a_format() -> None:
  """There, some offsets move a weight in neither direction."""
  low = np.float16(2.0**-14)
  rng = np.random.default_rng(3)
  plain = (low * (1 + rng.random(4096) / 8)).astype(np.float16)
  outward = (plain.astype(np.float32) + 2.0**-18).astype(np.float16)
  params = {"kernel": jnp.asarray(plain)}
  marks = {
    str(i): SCHEME.keygen(Secret.generate(), params, None) for i in range(3)
  }
  found = keyjax.trace_marks(marks, params, {"kernel": outward})
  assert all(x.p_value > ACCUSE for x in found.values())
