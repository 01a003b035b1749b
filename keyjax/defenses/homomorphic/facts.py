"""What a client knows of a network, and what follows for its parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyjax.defenses.homomorphic import packing, parameters
from keyjax.defenses.homomorphic.parameters import Parameters
from keyjax.errors import ArgumentError, ContentError


class Facts(NamedTuple):
  """What a client has to know of a network; it tells no weight.

  Attributes:
    inputs: Number of inputs.
    outputs: Number of outputs.
    repeats: How many times a question has each input in a row.
    width: Period of the widest vector.
    levels: Multiplications, one after another.
    low: Smallest input.
    high: Largest input.
    largest: Bound of all values inside, as a power of two.
  """

  inputs: int
  outputs: int
  repeats: int
  width: int
  levels: int
  low: float
  high: float
  largest: float


def check_size(chain: Parameters, facts: Facts) -> None:
  """Check that slots and numbers are large enough.

  Args:
    chain: Parameters of CKKS.
    facts: Of a network.

  Raises:
    ArgumentError: If they are not.
  """
  if facts.width > chain.slots:
    raise ArgumentError(
      f"the network needs {facts.width} slots, and a ring of degree "
      f"{chain.degree} has {chain.slots}: a larger degree"
    )
  if facts.largest > chain.largest:
    raise ArgumentError(
      f"values of the network may reach {facts.largest:g}, and those from "
      f"{chain.largest:g} on would wrap around: more bits for the first prime"
    )


def facts_from(fields: Mapping[str, Any]) -> Facts:
  """Return facts from JSON that a server sent.

  Raises:
    ContentError: If they are not such facts.
  """
  whole, real = Facts._fields[:5], Facts._fields[5:]
  try:
    numbers: list[Any] = [int(fields[k]) for k in whole]
    found = Facts(*numbers, *(float(fields[k]) for k in real))
  except (KeyError, TypeError, ValueError, OverflowError):
    raise ContentError("not the facts of a network") from None
  most = max(parameters.MOST_BITS) // 2
  row = packing.period(max(found.inputs, 1)) * found.repeats
  sizes = found.inputs, found.outputs, found.repeats, found.levels
  if min(sizes) < 1 or not max(found.outputs, row) <= found.width <= most:
    raise ContentError("not the facts of a network: sizes do not fit")
  return found
