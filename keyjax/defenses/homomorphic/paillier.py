"""A linear layer on inputs encrypted with Paillier, which adds ciphertexts.

The client encrypts each input, the server computes W x + b from ciphertexts,
and the client decrypts, applies whatever activation there is, and encrypts
again for the next layer. Numbers are integers of a fixed point, so that no
exponent tells a magnitude.

Guarantees:
  Inputs are hidden from a server that follows the protocol, as hard to learn as
  composite residuosity. An answer is a fresh encryption: it tells the client
  the outputs and nothing else of the weights.

Known breaks:
  The client sees the outputs of every layer, from which it solves for the
  weights with as many questions as there are inputs, and one. A quantum
  computer factors the modulus.

References:
  Pascal Paillier, "Public-key cryptosystems based on composite degree
  residuosity classes", EUROCRYPT 1999.
  Claudio Orlandi, Alessandro Piva and Mauro Barni, "Oblivious neural network
  computing via homomorphic encryption", EURASIP Journal on Information Security
  2007.
  Elaine Barker, "Recommendation for key management: Part 1", NIST SP 800-57,
  2020, table 2: a modulus of 3072 bits has 128 bits of security, 2048 has 112.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keyjax.arguments import describe, show
from keyjax.defenses.homomorphic.checks import reals, require_bytes
from keyjax.errors import ArgumentError, ContentError
from keyjax.extras import library

FRACTION_BITS = 16  # Of an input and of a weight; outputs have twice as many.
_LARGEST = 2.0**31  # Of an input, a weight or a bias.


class Owner:
  """The holder of the private key.

  Attributes:
    modulus: The public key.
  """

  def __init__(self, bits: int = 3072):
    """Make a key.

    Args:
      bits: Of the modulus, an even number: of two primes of half as many.

    Raises:
      ArgumentError: If it is below 2048, or odd.
    """
    # phe looks for an odd length without end.
    if not isinstance(bits, int) or bits < 2048 or bits % 2:
      raise ArgumentError(
        f"bits={show(bits)}: an even whole number, 2048 or more"
      )
    made = _phe().generate_paillier_keypair(n_length=bits)
    self._public, self._private = made
    self.modulus = int(self._public.n)

  def encrypt(self, x: np.ndarray) -> bytes:
    """Return encrypted inputs, one after another.

    Args:
      x: float[inputs].

    Raises:
      ArgumentError: If it is not a vector, or too large, or not finite.
    """
    return _as_bytes(
      self.modulus, [self._public.encrypt(k) for k in _fixed(x, "inputs")]
    )

  def decrypt(self, answer: bytes) -> np.ndarray:
    """Return the outputs, float64[outputs].

    Any ciphertexts under the key are numbers: a question, which nobody has
    answered, cannot be told from an answer.

    Args:
      answer: From `linear`.

    Raises:
      TypeError: If it is not bytes.
      ContentError: If it is not made of ciphertexts under this key.
    """
    require_bytes(answer, "an answer", "linear")
    numbers = list(_numbers(self.modulus, answer))
    one = 4**FRACTION_BITS
    try:
      found = [self._private.decrypt(x) / one for x in numbers]
    except OverflowError:  # Numbers that no fixed point has.
      raise ContentError("not ciphertexts under this key") from None
    return np.asarray(found)


def linear(
  modulus: int, question: bytes, kernel: np.ndarray, bias: np.ndarray
) -> bytes:
  """Return encrypted outputs of a dense layer, for encrypted inputs.

  Args:
    modulus: The client's public key.
    question: From `Owner.encrypt`.
    kernel: float[inputs, outputs].
    bias: float[outputs].

  Raises:
    TypeError: If the modulus is no int, or the question is not bytes.
    ArgumentError: If the weights are too large, or not finite, or kernel and
      bias are of no dense layer.
    ContentError: If the modulus is no public key, or the question is not one
      ciphertext for each input.
  """
  if not isinstance(modulus, int):
    raise TypeError(f"modulus is {describe(modulus)}: pass Owner.modulus")
  require_bytes(question, "a question", "Owner.encrypt")
  kernel, bias = reals(kernel, "weights"), reals(bias, "biases")
  if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
    raise ArgumentError(
      f"a kernel of {kernel.shape} and a bias of {bias.shape} do not fit: pass "
      "[inputs, outputs] and [outputs]"
    )
  inputs = list(_numbers(modulus, question))
  if len(inputs) != len(kernel):
    raise ContentError(
      f"{len(inputs)} encrypted inputs: the layer has {len(kernel)}"
    )
  columns = [_fixed(column, "weights") for column in kernel.T]
  # A bias has the fraction bits of a product.
  biases = [b << FRACTION_BITS for b in _fixed(bias, "biases")]
  public = _public(modulus)
  found = []
  for column, b in zip(columns, biases, strict=True):
    total = public.encrypt(b, r_value=1)  # It is disguised below.
    for x, weight in zip(inputs, column, strict=True):
      if weight:
        total = total + x * weight
    total.obfuscate()  # Or the client could divide by powers of its own.
    found.append(total)
  return _as_bytes(modulus, found)


def _phe() -> Any:
  return library("phe.paillier", "homomorphic")


@functools.cache
def _public(modulus: int) -> Any:
  if modulus < 1 << 2047 or modulus % 2 == 0:
    raise ContentError("not a public key: an odd number of 2048 bits or more")
  return _phe().PaillierPublicKey(modulus)


def _fixed(values: Any, what: str) -> list[int]:
  """Return numbers of a fixed point, rounded to the nearest."""
  values = reals(values, what)
  if values.ndim != 1 or not (np.abs(values) < _LARGEST).all():
    raise ArgumentError(
      f"{what} of shape {values.shape}: a vector of finite numbers below "
      f"{_LARGEST:g} is expected"
    )
  return [int(x) for x in np.rint(values * 2**FRACTION_BITS)]


def _size(modulus: int) -> int:
  return (2 * modulus.bit_length() + 7) // 8


def _as_bytes(modulus: int, numbers: Sequence[Any]) -> bytes:
  size = _size(modulus)
  return b"".join(
    int(x.ciphertext(be_secure=False)).to_bytes(size, "big") for x in numbers
  )


def _numbers(modulus: int, data: bytes) -> Iterator[Any]:
  """Yield the ciphertexts of a message."""
  public, size = _public(modulus), _size(modulus)
  whole = len(data) // size * size
  values = [
    int.from_bytes(data[i : i + size], "big") for i in range(0, whole, size)
  ]
  if whole != len(data) or not values:
    raise ContentError(f"not ciphertexts: {len(data)} bytes, of {size} each")
  if not all(0 < x < modulus**2 for x in values):
    raise ContentError("not ciphertexts under this key")
  for x in values:
    yield _phe().EncryptedNumber(public, x)
