"""Keyed noise: what it hides, what it leaves, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from tests import trees

FLOATS = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("dtype", FLOATS)
def test_exponents_stay_and_signs_and_mantissas_do_not(dtype: str) -> None:
  rng = np.random.default_rng(0)
  w = jnp.asarray(rng.normal(size=4096).astype(np.float32), dtype)
  scheme = keyjax.keyed_noise("w")
  key = scheme.keygen(Secret.generate(), {"w": w}, None)
  locked = scheme.encrypt(key, {"w": w})["w"]
  assert locked.dtype == w.dtype and bool(jnp.isfinite(locked).all())
  before, after = (np.frexp(np.asarray(x, np.float32)) for x in (w, locked))
  np.testing.assert_array_equal(before[1], after[1])
  changed = trees.bits(w) ^ trees.bits(locked)
  sign, mantissa = 8 * w.dtype.itemsize - 1, jnp.finfo(dtype).nmant
  mask = (1 << sign) | (1 << mantissa) - 1
  for bit in range(8 * w.dtype.itemsize):
    share = ((changed >> bit) & 1).mean()
    assert abs(share - 0.5) < 0.05 if mask >> bit & 1 else share == 0


def test_the_noise_is_aes_ctr() -> None:
  secret = Secret.generate()
  nonce = b"only once 12"
  scheme = keyjax.keyed_noise(".*", nonce=nonce)
  params = {"a": jnp.zeros(5), "b": jnp.zeros(4)}
  locked = scheme.encrypt(scheme.keygen(secret, params, None), params)
  from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

  cipher = Cipher(
    algorithms.AES256(secret.derive("keyed_noise", 32)),
    modes.CTR(nonce + bytes(4)),
  ).encryptor()
  stream = np.frombuffer(cipher.update(bytes(48)), "<u4")
  stream = np.delete(stream, [5, 6, 7])  # "b" begins at a new block.
  want = stream & np.uint32(0x807FFFFF)
  found = np.concatenate([trees.bits(locked[k]) for k in "ab"])
  np.testing.assert_array_equal(found, want)


def test_a_second_encryption_has_another_nonce() -> None:
  scheme, secret = keyjax.keyed_noise(), Secret.generate()
  plain = trees.params("float32")
  first, second = (scheme.keygen(secret, plain, None) for _ in range(2))
  assert not np.array_equal(first.nonce, second.nonce)
  assert np.array_equal(first.round_keys, second.round_keys)


def test_a_wrong_key_restores_no_kernel() -> None:
  scheme, plain = keyjax.keyed_noise(), trees.params("float32")
  key, other = (scheme.keygen(Secret.generate(), plain, None) for _ in range(2))
  opened = scheme.decrypt(other, scheme.encrypt(key, plain))
  for name in ("conv", "dense"):
    a, b = (np.asarray(t[name]["kernel"]) for t in (opened, plain))
    assert (a != b).mean() > 0.9
  np.testing.assert_array_equal(opened["conv"]["bias"], plain["conv"]["bias"])


def test_bad_input() -> None:
  plain = trees.params("float32")
  with pytest.raises(ValueError, match="a nonce has 12 bytes, got 3"):
    keyjax.keyed_noise(nonce=b"abc")
  with pytest.raises(ValueError, match="no leaf of floats matches layers='x'"):
    keyjax.keyed_noise("x").keygen(Secret.generate(), plain, None)
  with pytest.raises(ValueError, match="no leaf of floats"):
    keyjax.keyed_noise().keygen(Secret.generate(), trees.params("int8"), None)
  with pytest.raises(
    TypeError, match="Key, got a tuple: the key is the first argument"
  ):
    keyjax.keyed_noise().encrypt((), plain)
  key = keyjax.keyed_noise().keygen(Secret.generate(), plain, None)
  with pytest.raises(ValueError, match="another tree"):
    jax.jit(keyjax.keyed_noise().encrypt)(key, plain["conv"])


@pytest.mark.parametrize(
  "scheme",
  [
    keyjax.keyed_noise(),
    keyjax.deep_lock(),
    keyjax.deep_lock("counter"),
    keyjax.permutation_lock(),
  ],
)
def test_another_byte_order_is_refused_by_name(scheme: keyjax.Scheme) -> None:
  params = {"d": {"kernel": np.arange(12, dtype=">f4").reshape(3, 4)}}
  with pytest.raises(TypeError, match="leaf d/kernel is >f4, .*newbyteorder"):
    scheme.keygen(Secret.generate(), params, None)
  native = jax.tree.map(lambda x: x.astype(x.dtype.newbyteorder("=")), params)
  key = scheme.keygen(Secret.generate(), native, None)
  opened = scheme.decrypt(key, scheme.encrypt(key, native))
  trees.assert_same_bits(opened, native)
