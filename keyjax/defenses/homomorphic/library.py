"""TenSEAL: contexts, and Microsoft SEAL's objects as bytes.

SEAL's objects are written to files only; a file here is private and holds
ciphertexts and evaluation keys, never a secret key.
"""

import tempfile
from collections.abc import Sequence
from typing import Any, TypeVar

from keyjax.defenses.homomorphic.parameters import (
  MOST_BITS,
  SECURITY,
  Parameters,
)
from keyjax.errors import ContentError
from keyjax.extras import library

T = TypeVar("T")
# What TenSEAL, SEAL and protocol buffers raise for bytes that are not theirs.
_REFUSALS = (ValueError, RuntimeError, IndexError, OverflowError)


def tenseal() -> Any:
  """Import TenSEAL.

  Raises:
    KeyringError: If it is not installed.
  """
  seal()  # Some of what its contexts return is of classes defined there.
  return library("tenseal", "homomorphic")


def seal() -> Any:
  """Import SEAL's objects, as TenSEAL has them.

  Raises:
    KeyringError: If TenSEAL is not installed.
  """
  return library("tenseal.sealapi", "homomorphic")


def new_context(parameters: Parameters) -> Any:
  """Return a new context with its secret key."""
  ts = tenseal()
  made = ts.context(
    ts.SCHEME_TYPE.CKKS,
    parameters.degree,
    coeff_mod_bit_sizes=list(parameters.prime_bits),
  )
  made.global_scale = 2.0**parameters.scale_bits
  return made


def public_context(data: bytes) -> Any:
  """Read a context that has no secret key.

  Raises:
    ContentError: If it has one, or it is not a context, or not secure.
  """
  try:
    context = tenseal().context_from(data)
    private = context.is_private()
    degree, bits = shape(context)
  except _REFUSALS as error:
    raise ContentError(
      f"not a context of TenSEAL: {_one_line(error)}"
    ) from None
  if private:
    raise ContentError(
      "this context contains the secret key: whoever has it decrypts every "
      "question; send a public one"
    )
  if sum(bits) > MOST_BITS.get(degree, 0) or not context.has_relin_keys():
    raise ContentError(
      f"a context of degree {degree} and {sum(bits)} bits, without "
      f"{SECURITY}-bit security or without keys to relinearise"
    )
  return context


def shape(context: Any) -> tuple[int, tuple[int, ...]]:
  """Return the degree of a context's ring, and the bits of its primes."""
  found = context.seal_context().data.key_context_data().parms()
  bits = tuple(prime.bit_count() for prime in found.coeff_modulus())
  return found.poly_modulus_degree(), bits


def primes(context: Any) -> tuple[int, ...]:
  """Return the primes of a context's modulus, as it has them."""
  found = context.seal_context().data.key_context_data().parms()
  return tuple(prime.value() for prime in found.coeff_modulus())


def galois_keys(context: Any, rotations: Sequence[int]) -> bytes:
  """Make keys for rotations to the left, from a context's secret key."""
  degree, _ = shape(context)
  keys = seal().KeyGenerator(
    context.seal_context().data, context.secret_key().data
  )
  # The automorphism x -> x^(3^k) rotates by k.
  elements = [pow(3, k, 2 * degree) for k in rotations]
  return to_bytes(keys.create_galois_keys(elements))


def to_bytes(item: Any) -> bytes:
  """Return an object of SEAL as bytes."""
  with tempfile.NamedTemporaryFile() as file:
    item.save(file.name)
    return file.read()


def from_bytes(empty: T, context: Any, data: bytes, what: str) -> T:
  """Read an object of SEAL, which checks it against the context.

  Args:
    empty: New object of its class.
    context: Context of TenSEAL.
    data: Bytes.
    what: Name of the object, for the error.

  Raises:
    ContentError: If the bytes are not such an object of this context.
  """
  with tempfile.NamedTemporaryFile() as file:
    file.write(data)
    file.flush()
    try:
      empty.load(context.seal_context().data, file.name)  # type: ignore[attr-defined]
    except _REFUSALS as error:
      raise ContentError(f"not {what}: {_one_line(error)}") from None
  return empty


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
