"""The base class of keys, and the decorator that makes a key a pytree."""

import dataclasses
import sys
from typing import (
  Any,
  ClassVar,
  NoReturn,
  Self,
  TypeVar,
  dataclass_transform,
)

import flax
import jax
import numpy as np

_K = TypeVar("_K")


class Key:
  """Base class of every scheme's key; see `key_dataclass`.

  Judging a lock takes operations on its key: keys near to it, random keys,
  the size of the key space. A key class overrides what its scheme knows. The
  defaults cover a key that is bits, given `near`, `max_distance` and
  `distance_unit`; without these, nothing is near the key.

  Attributes:
    distance_unit: What the distance between two keys counts, such as `bits`
      or `swaps`; empty if no distance is defined.
  """

  distance_unit: ClassVar[str] = ""

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Return a key at a distance, from 0 to `max_distance()`."""
    raise TypeError(f"no near keys for a {type(self).__name__}")

  def max_distance(self) -> int:
    """Return the largest distance that `near` accepts."""
    raise TypeError(f"no near keys for a {type(self).__name__}")

  def random(self, rng: np.random.Generator) -> Self:
    """Return a random key of the same structure: an uninformed guess."""
    distance = self.max_distance()
    if self.distance_unit == "bits":  # Each bit is flipped half of the time.
      distance = int(rng.binomial(distance, 0.5))
    return self.near(distance, rng)

  def entropy_bits(self) -> float:
    """Return the base-2 logarithm of the number of keys like this one."""
    if self.distance_unit != "bits":
      raise TypeError(f"no key space for a {type(self).__name__}")
    return float(self.max_distance())

  def size_in_bytes(self) -> int:
    """Return the size of what must be stored, without padding."""
    return _array_bytes(self)

  def check(self) -> None:
    """Raise a ValueError if the arrays of the key contradict each other.

    `load` calls it. A traced key cannot be checked.
    """

  def transform_inputs(self, inputs: jax.Array) -> jax.Array | None:
    """Return inputs as they travel to the model; None if they are unchanged."""
    return None

  def rebind(self, new: Self, params: Any) -> Any:
    """Return params that do under `new` what `params` do under this key.

    Of the pass that the scheme binds; a scheme that only encrypts returns
    `params`.
    """
    del new, params
    raise TypeError(
      f"{type(self).__name__}: the model must be trained for another key"
    )

  def neuron_schedule(self) -> Any:
    """Return the map from neurons to key bits; None if there is none."""
    return None

  def replace(self, **fields: Any) -> Self:
    """Return a copy with other values in some fields."""
    return dataclasses.replace(self, **fields)  # type: ignore[type-var]

  def __copy__(self) -> Self:  # Its arrays cannot be changed.
    return self

  def __deepcopy__(self, memo: Any) -> Self:
    return self

  def __reduce_ex__(self, protocol: Any) -> NoReturn:
    raise TypeError(
      f"a {type(self).__name__} is not pickled: write it to a file of its own "
      "with keyjax.keys.save"
    )

  def __repr__(self) -> str:
    leaves = jax.tree.leaves(self)
    concrete = [x for x in leaves if not isinstance(x, jax.core.Tracer)]
    size = sum(np.asarray(x).nbytes for x in concrete)
    return f"<{type(self).__name__}, {size} bytes, not shown>"


class OneTimeKey(Key):
  """Base class of keys that encrypt one tree: they contain its nonce.

  The XOR of two trees that one nonce encrypted is public. `encrypt` is a pure
  function whose result has the shapes of its argument: it can neither draw a
  nonce and ship it with the ciphertext, nor remember what it encrypted. So the
  key file remembers (`keyjax.keys.claim`), and a key read from a file, which
  may have encrypted anything, does not encrypt (`keyjax.keys.load`).

  What remains is up to the caller: the key that `keygen` returned, or `claim`,
  encrypts any number of trees in its process, and each copy of a key file
  remembers on its own.

  Subclasses declare the field `opens_only: bool = keys.static(default=False)`.

  Attributes:
    opens_only: Whether `encrypt` refuses the key.
  """

  opens_only: bool


def _array_bytes(key: Any) -> int:
  leaves = jax.tree.leaves(key)
  return sum(int(x.size) * x.dtype.itemsize for x in leaves)


def size_in_bytes(key: Any) -> int:
  """Return the size of a key or of a chain's keys, without padding."""
  if isinstance(key, tuple):
    return sum(map(size_in_bytes, key))
  return key.size_in_bytes() if isinstance(key, Key) else _array_bytes(key)


def flip_bits(
  data: np.ndarray, distance: int, rng: np.random.Generator
) -> np.ndarray:
  """Return uint8[n] with `distance` different bits flipped."""
  at = rng.choice(data.size * 8, distance, replace=False)
  flips = np.zeros(data.size * 8, np.uint8)
  flips[at] = 1
  return data ^ np.packbits(flips)


KEY_TYPES: dict[str, type] = {}
_SPECS: dict[str, Any] = {}  # The import of the file that defined a class.
_BUILT_IN = "keyjax.schemes."


def static(**options: Any) -> Any:
  """Declare a field that is public and static: a spec, a block size.

  Args:
    **options: As for `dataclasses.field`, such as a default.
  """
  return flax.struct.field(pytree_node=False, **options)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def key_dataclass(cls: type[_K]) -> type[_K]:
  """Turn a class into a frozen pytree dataclass whose `repr` shows no key.

  Array fields are leaves; fields declared with `static()` belong to the
  structure and must be public, because JAX prints structures in its errors.

  Key files name a class by its module and name (`my_scheme.MyKey`; built-in
  schemes by `deep_lock.ChainKey`), so both are part of the file format.

  Raises:
    ValueError: If a key class of this module and name exists.
  """
  name = type_name(cls)
  spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
  if name in KEY_TYPES and not _runs_again(cls.__module__, spec, _SPECS[name]):
    raise ValueError(
      f"a key class {name} is registered already: rename one of the two, or "
      "key files could not tell them apart"
    )
  made = flax.struct.dataclass(cls, repr=False, kw_only=True)
  KEY_TYPES[name] = made
  _SPECS[name] = spec
  return made


def _runs_again(module: str, spec: Any, before: Any) -> bool:
  """Return whether one file defines its classes again.

  A notebook runs a cell again; a file is reloaded, or imported again after an
  error. Each import of a file has a spec of its own.
  """
  if module == "__main__":
    return True
  if spec is None or before is None or spec is before:
    return False
  return spec.origin is not None and spec.origin == before.origin


def type_name(cls: type) -> str:
  """Return the name of a key class in key files."""
  return f"{cls.__module__}.{cls.__qualname__}".removeprefix(_BUILT_IN)
