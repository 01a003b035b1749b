"""Parameters of CKKS, with the security that the standard's table gives them.

Reference:
  Martin Albrecht et al., "Homomorphic encryption security standard",
  HomomorphicEncryption.org, 2018: table 1, classical attacks, ternary secrets.
"""

from typing import NamedTuple

from keyjax.arguments import describe
from keyjax.defenses.homomorphic.checks import whole
from keyjax.errors import ArgumentError

SECURITY = 128  # Bits, of classical attacks.
# Bits of the whole modulus that are 128-bit secure, by the ring's degree.
MOST_BITS = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
_LEAST_SCALE, _MOST_PRIME = 18, 60  # Bits; SEAL has no larger primes.


class Parameters(NamedTuple):
  """Ring and modulus chain of CKKS.

  Every multiplication of an encrypted value uses up one of the middle primes, a
  *level*. The first prime holds the result; the last one is only in keys.

  Attributes:
    degree: Degree of the ring's polynomial; half of it is the number of slots.
    prime_bits: Bits of each prime of the modulus.
    scale_bits: Bits of the fraction of an encrypted number.
  """

  degree: int
  prime_bits: tuple[int, ...]
  scale_bits: int

  @property
  def slots(self) -> int:
    """Return how many numbers a ciphertext holds."""
    return self.degree // 2

  @property
  def levels(self) -> int:
    """Return how many multiplications there can be, one after another."""
    return len(self.prime_bits) - 2

  @property
  def largest(self) -> float:
    """Return the magnitude below which a result does not wrap around."""
    return float(2 ** (self.prime_bits[0] - self.scale_bits - 1))


def for_levels(
  levels: int, *, scale_bits: int = 30, integer_bits: int = 20
) -> Parameters:
  """Return the smallest parameters of 128-bit security for a circuit.

  Args:
    levels: Multiplications, one after another; see `network.levels`.
    scale_bits: Bits of the fraction.
    integer_bits: Bits before the point of a result, with its sign.

  Raises:
    ArgumentError: If no ring of the standard's table is large enough, or a
      number is not whole.

  Example:
    >>> for_levels(3)
    Parameters(degree=8192, prime_bits=(50, 30, 30, 30, 60), scale_bits=30)
  """
  levels, scale_bits = whole(levels, "levels"), whole(scale_bits, "scale_bits")
  first = scale_bits + whole(integer_bits, "integer_bits")
  bits = (first, *[scale_bits] * levels)
  for degree, most in MOST_BITS.items():
    if sum(bits) + first <= most:
      # Rotations add noise of the first prime's size over the last one's.
      last = max(first, min(_MOST_PRIME, most - sum(bits)))
      return checked(Parameters(degree, (*bits, last), scale_bits))
  raise ArgumentError(
    f"too deep: {levels} levels of {scale_bits} bits need a modulus of "
    f"{sum(bits) + first} bits, and the largest ring of the standard's table "
    f"has {most} at {SECURITY}-bit security: fewer layers, or fewer scale_bits"
  )


def checked(parameters: Parameters, levels: int = 1) -> Parameters:
  """Return parameters, if they are 128-bit secure and deep enough.

  Args:
    parameters: Parameters.
    levels: Levels that a circuit needs.

  Raises:
    TypeError: If they are no `Parameters`.
    ArgumentError: If they are not; the message says which and why.

  Example:
    >>> checked(Parameters(8192, (60, 60, 60, 60), 40))
    Traceback (most recent call last):
    keyjax.errors.ArgumentError: not 128-bit secure: a modulus of 240 bits, ...
  """
  if not isinstance(parameters, Parameters):
    raise TypeError(
      f"parameters are {describe(parameters)}: pass Parameters(degree, "
      "prime_bits, scale_bits)"
    )
  degree, bits, scale = parameters
  for name, value in (("degree", degree), ("scale_bits", scale)):
    whole(value, name)
  if not isinstance(bits, tuple) or len(bits) < 2:
    raise ArgumentError(
      f"prime_bits are {describe(bits)}: pass a tuple of two numbers or more"
    )
  for value in bits:
    whole(value, "prime_bits")
  if degree not in MOST_BITS:
    known = ", ".join(map(str, MOST_BITS))
    raise ArgumentError(f"degree={degree}: choose from {known}")
  if sum(bits) > MOST_BITS[degree]:
    raise ArgumentError(
      f"not {SECURITY}-bit secure: a modulus of {sum(bits)} bits, where the "
      f"standard's table allows {MOST_BITS[degree]} at degree {degree}"
    )
  if parameters.levels < levels:
    raise ArgumentError(
      f"too deep: the network needs {levels} levels, and a modulus chain of "
      f"{len(bits)} primes has {max(parameters.levels, 0)}"
    )
  fits = max(bits) <= _MOST_PRIME and bits[0] > scale and bits[-1] == max(bits)
  if not (fits and _LEAST_SCALE <= scale and set(bits[1:-1]) == {scale}):
    raise ArgumentError(
      f"prime_bits={bits}, scale_bits={scale}: the middle primes have the "
      f"bits of the scale, {_LEAST_SCALE} or more, the first has more, and the "
      f"last is the largest, with {_MOST_PRIME} at most"
    )
  return parameters
