"""Deep-Lock against FIPS-197, a plain-Python reference, and its breaks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, masked, quantize, tree
from keyjax.aes import substitution
from keyjax.schemes import deep_lock
from tests import trees

# ------------------------------------------- an independent reference


def xtime(a: int) -> int:
  return ((a << 1) ^ 0x11B if a & 0x80 else a << 1) & 0xFF


def gmul(a: int, b: int) -> int:
  out = 0
  while b:
    out ^= a if b & 1 else 0
    a, b = xtime(a), b >> 1
  return out


def make_sbox() -> list[int]:
  """FIPS-197, 5.1.1: the inverse in GF(2^8), then the affine map."""
  box = []
  for v in range(256):
    inv = next((x for x in range(256) if gmul(v, x) == 1), 0)
    out = 0
    for i in range(8):
      bit = 0x63 >> i
      for j in (0, 4, 5, 6, 7):
        bit ^= inv >> ((i + j) % 8)
      out |= (bit & 1) << i
    box.append(out)
  return box


SBOX = make_sbox()


def expand(key: bytes, num_words: int) -> list[bytes]:
  """Continue FIPS-197, 5.2: w[0], w[1], ... as 4 bytes each."""
  nk = len(key) // 4
  words = [key[4 * i : 4 * i + 4] for i in range(nk)]
  rcon = 1
  for i in range(nk, num_words):
    t = list(words[-1])
    if i % nk == 0:
      t = [SBOX[b] for b in t[1:] + t[:1]]
      t[0] ^= rcon
      rcon = xtime(rcon)
    elif nk > 6 and i % nk == 4:
      t = [SBOX[b] for b in t]
    words.append(bytes(a ^ b for a, b in zip(t, words[i - nk], strict=True)))
  return words


def reference(key: bytes, leaves: list[np.ndarray]) -> list[bytes]:
  """Encrypt leaves in big-endian bytes: Sbox(w XOR k)."""
  nk = len(key) // 4
  total = sum(-(-x.nbytes // 4) for x in leaves)
  stream = b"".join(expand(key, nk + total)[nk:])
  out, at = [], 0
  for x in leaves:
    data = x.astype(x.dtype.newbyteorder(">")).tobytes()
    out.append(
      bytes(SBOX[a ^ k] for a, k in zip(data, stream[at:], strict=False))
    )
    at += 4 * -(-len(data) // 4)
  return out


def big_endian(x: jax.Array) -> bytes:
  array = np.asarray(x)
  return array.astype(array.dtype.newbyteorder(">")).tobytes()


# ------------------------------------------------------------- vectors


@pytest.mark.vectors
@pytest.mark.parametrize(
  ("key", "step", "words"),
  [
    # FIPS-197, appendix A.1: w[40..43] of AES-128.
    (
      "2b7e151628aed2a6abf7158809cf4f3c",
      9,
      ["d014f9a8", "c9ee2589", "e13f0cc8", "b6630ca6"],
    ),
    # A.3: w[56..59] of AES-256, the first half of its seventh step.
    (
      "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
      6,
      ["fe4890d1", "e6188d0b", "046df344", "706c631e"],
    ),
  ],
)
def test_key_schedule_of_fips_197(
  key: str, step: int, words: list[str]
) -> None:
  master = np.frombuffer(bytes.fromhex(key), ">u4").astype(np.uint32)
  made = deep_lock.key_schedule(jnp.asarray(master), step + 1)[step]
  assert [f"{w:08x}" for w in made.tolist()][:4] == words


def test_sbox_tables() -> None:
  assert substitution.SBOX.tolist() == SBOX
  assert [SBOX[v] for v in substitution.INV_SBOX.tolist()] == list(range(256))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_the_circuit_of_accelerators_equals_the_table(dtype: str) -> None:
  octets = np.arange(256, dtype=np.uint8)
  words = jnp.asarray(octets.view(dtype))
  for inverse, circuit, table in (
    (False, substitution.sub_bytes_circuit, substitution.SBOX),
    (True, substitution.inv_sub_bytes_circuit, substitution.INV_SBOX),
  ):
    want = table[octets].view(dtype)
    np.testing.assert_array_equal(circuit(words), want)
    np.testing.assert_array_equal(substitution.sub_bytes(words, inverse), want)


# Below and above the length from which the chain is unrolled.
@pytest.mark.parametrize("steps", [40, 300])
@pytest.mark.parametrize("size", [16, 32])
def test_the_schedule_continues_as_the_reference(size: int, steps: int) -> None:
  master = Secret.generate().derive("test", size)
  nk = size // 4
  words = np.frombuffer(master, ">u4").astype(np.uint32)
  made = np.asarray(deep_lock.key_schedule(jnp.asarray(words), steps))
  want = b"".join(expand(master, (steps + 1) * nk)[nk:])
  assert made.astype(">u4").tobytes() == want


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("dtype", trees.DTYPES)
def test_encrypts_as_the_reference(dtype: str, size: int) -> None:
  plain = trees.params(dtype)
  master = Secret.generate().derive("test", size)
  key = deep_lock.chain_key(master, plain)
  locked = keyjax.deep_lock(key_bits=8 * size).encrypt(key, plain)
  _, before, _ = tree.flatten(plain)
  _, after, _ = tree.flatten(locked)
  pairs = [
    (x, y) for x, y in zip(before, after, strict=True) if tree.lockable(x)
  ]
  words = [np.asarray(tree.as_words(x)).reshape(-1) for x, _ in pairs]
  want = reference(master, words)
  assert [big_endian(y) for _, y in pairs] == want
  assert len(pairs) == 4


def test_counter_schedule_is_aes_ctr() -> None:
  from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

  plain = {"v": jnp.zeros(5, jnp.bfloat16), "w": jnp.zeros((3, 2))}
  master, nonce = Secret.generate().derive("test", 32), bytes(range(12))
  key = deep_lock.counter_key(master, nonce, plain)
  mode = modes.CTR(nonce + bytes(4))
  stream = Cipher(algorithms.AES256(master), mode).encryptor().update(bytes(40))
  want = bytes(SBOX[b] for b in stream)
  locked = keyjax.deep_lock("counter").encrypt(key, plain)
  # Bytes in memory; every leaf begins at a new block.
  assert np.asarray(locked["v"]).tobytes() == want[:10]
  assert np.asarray(locked["w"]).tobytes() == want[16:]


def test_a_nonce_is_fresh_each_time_and_can_be_given() -> None:
  plain, secret = {"w": jnp.zeros(4)}, Secret.generate()
  scheme = keyjax.deep_lock("counter")
  a, b = (scheme.keygen(secret, plain, None) for _ in range(2))
  assert not np.array_equal(a.nonce, b.nonce)
  np.testing.assert_array_equal(a.round_keys, b.round_keys)
  nonce = np.asarray(a.nonce).astype(">u4").tobytes()[:12]
  again = keyjax.deep_lock("counter", nonce=nonce)
  trees.assert_same_bits(
    again.decrypt(again.keygen(secret, plain, None), scheme.encrypt(a, plain)),
    plain,
  )


# ----------------------------------------- guarantees and known breaks


def known_words(locked: jax.Array, known: np.ndarray) -> list[int]:
  """Compute k = InvSbox(w') XOR w from 4 known weights, as an attacker can."""
  octets = substitution.INV_SBOX[np.frombuffer(big_endian(locked), np.uint8)]
  words = octets.view(">u4").astype(np.uint32)
  return (words ^ known.view(np.uint32)).tolist()


def run_back(words: list[int], step: int) -> bytes:
  """Undo `step` steps of the AES-128 schedule, in plain Python."""
  rcon = [1]
  while len(rcon) < step:
    rcon.append(xtime(rcon[-1]))
  for i in reversed(range(step)):
    a, b, c, d = words
    b, c, d = b ^ a, c ^ b, d ^ c
    t = ((d << 8) | (d >> 24)) & 0xFFFFFFFF
    t = int.from_bytes(bytes(SBOX[x] for x in t.to_bytes(4, "big")), "big")
    words = [a ^ t ^ (rcon[i] << 24), b, c, d]
  return b"".join(w.to_bytes(4, "big") for w in words)


@pytest.mark.parametrize("at", [0, 1, 77])
def test_break_four_known_weights_give_the_master_key(at: int) -> None:
  rng = np.random.default_rng(0)
  weights = rng.normal(size=400).astype(np.float32)
  plain = {"w": jnp.asarray(weights)}
  master = Secret.generate().derive("test", 16)
  key = deep_lock.chain_key(master, plain)
  locked = keyjax.deep_lock().encrypt(key, plain)["w"]
  part = slice(4 * at, 4 * at + 4)
  words = known_words(locked[part], weights[part])
  assert run_back(words, at + 1) == master
  # Wrong weights give another key, so the test can fail.
  assert run_back(known_words(locked[part], weights[:4] + 1), at + 1) != master


def test_break_zero_biases_are_known_weights() -> None:
  plain = {"bias": jnp.zeros(8), "kernel": jnp.ones((3, 8))}
  master = Secret.generate().derive("test", 16)
  locked = keyjax.deep_lock().encrypt(deep_lock.chain_key(master, plain), plain)
  words = known_words(locked["bias"][:4], np.zeros(4, np.float32))
  assert run_back(words, 1) == master


def xor_of(a: jax.Array, b: jax.Array) -> np.ndarray:
  inv = [
    substitution.INV_SBOX[np.frombuffer(big_endian(x), np.uint8)]
    for x in (a, b)
  ]
  return inv[0] ^ inv[1]


@pytest.mark.parametrize(
  ("schedule", "leaks"), [("chain", True), ("counter", False)]
)
def test_two_models_under_one_secret(schedule: str, leaks: bool) -> None:
  rng = np.random.default_rng(0)
  first = {"w": jnp.asarray(rng.normal(size=64).astype(np.float32))}
  second = {"w": first["w"] + jnp.float32(1)}
  scheme, secret = keyjax.deep_lock(schedule), Secret.generate()
  locked = [
    scheme.encrypt(scheme.keygen(secret, p, None), p)["w"]
    for p in (first, second)
  ]
  plain_xor = np.frombuffer(
    big_endian(tree.as_words(first["w"]) ^ tree.as_words(second["w"])),
    np.uint8,
  )
  assert np.array_equal(xor_of(*locked), plain_xor) == leaks


@pytest.mark.parametrize("schedule", ["chain", "counter"])
def test_break_a_flipped_byte_is_not_detected(schedule: str) -> None:
  scheme, plain = keyjax.deep_lock(schedule), {"w": jnp.arange(8.0)}
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)["w"]
  opened = scheme.decrypt(key, {"w": locked.at[3].set(locked[3] ^ 1)})["w"]
  same = trees.bits(opened) == trees.bits(plain["w"])
  assert same.tolist() == [i != 3 for i in range(8)]


def test_a_pattern_that_quantizes_nothing_names_the_leaves() -> None:
  with pytest.raises(ValueError, match="'w' .*; the leaves are a/kernel$"):
    quantize.quantize({"a": {"kernel": jnp.ones((2, 2))}}, "w")


def test_float32_under_a_wrong_key_is_not_finite_and_int8_is() -> None:
  rng = np.random.default_rng(0)
  plain = {"kernel": jnp.asarray(rng.normal(size=(64, 64)).astype(np.float32))}
  scheme = keyjax.deep_lock()
  locked = scheme.encrypt(scheme.keygen(Secret.generate(), plain, None), plain)
  stolen = tree.as_floats(locked, plain)
  share = int(tree.count_nonfinite(stolen)) / 4096
  assert 0.001 < share < 0.01  # 1/256 of random exponents are all ones
  small = quantize.quantize(plain)
  scheme = masked(scheme, quantize.INT8_LEAVES)
  key = scheme.keygen(Secret.generate(), small, None)
  stolen = tree.as_floats(scheme.encrypt(key, small), small)
  assert int(tree.count_nonfinite(quantize.dequantize(stolen))) == 0


# -------------------------------------------------------------- bad input


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"schedule": "cbc"}, "choose 'chain' or 'counter'"),
    ({"key_bits": 192}, "choose 128 or 256"),
    ({"key_bits": "256"}, "key_bits='256': choose 128 or 256"),
    ({"nonce": bytes(12)}, "nonce is only for schedule='counter'"),
    ({"shardings": {}}, "shardings is only for schedule='counter'"),
    ({"schedule": "counter", "nonce": bytes(8)}, "12 bytes"),
  ],
)
def test_bad_arguments(kwargs: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    keyjax.deep_lock(**kwargs)


def test_a_master_key_of_the_wrong_length_shows_no_bytes() -> None:
  data = b"\x41" * 15
  with pytest.raises(ValueError, match="16 or 32 bytes, got 15") as error:
    deep_lock.chain_key(data, {"w": jnp.ones(4)})
  assert "A" * 4 not in str(error.value) and "41" not in str(error.value)


def test_a_key_for_another_tree_or_scheme() -> None:
  scheme, plain = keyjax.deep_lock(), {"w": jnp.ones((4, 4))}
  key = scheme.keygen(Secret.generate(), plain, None)
  with pytest.raises(
    ValueError, match="another tree.*only the key has w; only the"
  ):
    scheme.encrypt(key, {"v": jnp.ones((4, 4))})
  with pytest.raises(ValueError, match=r"leaf w is float32\[2, 8\]"):
    scheme.encrypt(key, {"w": jnp.ones((2, 8))})
  with pytest.raises(ValueError, match="bfloat16"):
    scheme.encrypt(key, {"w": jnp.ones((4, 4), jnp.bfloat16)})
  with pytest.raises(ValueError, match="encrypted leaf is uint32"):
    scheme.decrypt(key, plain)
  with pytest.raises(ValueError, match="plain leaf is float32"):
    scheme.encrypt(key, scheme.encrypt(key, plain))
  with pytest.raises(
    TypeError, match="ChainKey, got a str: the key is the first argument"
  ):
    scheme.encrypt("no key", plain)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["chain", "counter"])
def test_a_key_of_the_other_schedule_is_refused(schedule: str) -> None:
  """Otherwise the key would choose the schedule, not the caller."""
  plain = {"w": jnp.ones(4)}
  other = keyjax.deep_lock("counter" if schedule == "chain" else "chain")
  key = other.keygen(Secret.generate(), plain, None)
  locked = other.encrypt(key, plain)
  scheme = keyjax.deep_lock(schedule)
  for call, params in ((scheme.encrypt, plain), (scheme.decrypt, locked)):
    with pytest.raises(TypeError, match=f"deep_lock.'{schedule}'. needs a"):
      call(key, params)


def test_a_leaf_that_the_key_does_not_lock_may_not_become_floats() -> None:
  scheme = keyjax.deep_lock()
  shapes = {"stats": jnp.zeros(4, jnp.int32), "w": jnp.ones(4)}
  key = scheme.keygen(Secret.generate(), shapes, None)
  with pytest.raises(ValueError, match="leaf stats is float32"):
    scheme.encrypt(key, shapes | {"stats": jnp.ones(4)})


def test_stacked_keys_need_vmap() -> None:
  scheme, plain = keyjax.deep_lock(), {"w": jnp.ones(4)}
  made = [scheme.keygen(Secret.generate(), plain, None) for _ in range(3)]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *made)
  with pytest.raises(ValueError, match=r"shape \[3, 4\].*jax.vmap"):
    scheme.encrypt(stacked, plain)


def test_keys_are_not_shown() -> None:
  plain = {"w": jnp.zeros(4)}
  master = bytes(range(16))
  key = deep_lock.chain_key(master, plain)
  assert repr(key) == "<ChainKey, 16 bytes, not shown>"
  assert str(key) == repr(key) and "66051" not in f"{[key]}"
