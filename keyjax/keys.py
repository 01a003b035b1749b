"""Keys of schemes: their base class, and key files.

A scheme's key is a pytree of arrays that stores what the scheme applies (round
keys, a permutation, signs), never a seed: streams of `jax.random` change
between releases and have 64 bits.

Nothing here prints key material: `repr` shows a size, and errors contain no
key bytes.
"""

import dataclasses
import hashlib
import json
import os
import sys
from typing import (
  Any,
  ClassVar,
  Self,
  TypeVar,
  dataclass_transform,
)

import flax
import jax
import jax.numpy as jnp
import numpy as np

from keyjax import private_files, schemes
from keyjax.secrets import Secret
from keyjax.tree import LeafSpec

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

  def __repr__(self) -> str:
    leaves = jax.tree.leaves(self)
    concrete = [x for x in leaves if not isinstance(x, jax.core.Tracer)]
    size = sum(np.asarray(x).nbytes for x in concrete)
    return f"<{type(self).__name__}, {size} bytes, not shown>"


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


_KEY_TYPES: dict[str, type] = {}
_SPECS: dict[str, Any] = {}  # The import of the file that defined a class.
_BUILT_IN = "keyjax.schemes."


def static() -> Any:
  """Declare a field that is public and static: a spec, a block size."""
  return flax.struct.field(pytree_node=False)


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
  if name in _KEY_TYPES and not _runs_again(cls.__module__, spec, _SPECS[name]):
    raise ValueError(
      f"a key class {name} is registered already: rename one of the two, or "
      "key files could not tell them apart"
    )
  made = flax.struct.dataclass(cls, repr=False, kw_only=True)
  _KEY_TYPES[name] = made
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


def require(key: Any, cls: type, scheme: str) -> None:
  """Raise a TypeError unless `key` is a key of this scheme."""
  if not isinstance(key, cls):
    raise TypeError(
      f"{scheme} needs a {cls.__name__}, got {type(key).__name__}: "
      "this key belongs to another scheme"
    )


def require_secret(secret: Any, scheme: str) -> None:
  """Raise a TypeError unless a scheme was given a `Secret`."""
  if not isinstance(secret, Secret):
    raise TypeError(
      f"{scheme}: keygen takes a keyjax.Secret, got a "
      f"{type(secret).__name__}; Secret.generate() makes one"
    )


def require_shape(
  array: jax.Array, allowed: tuple[tuple[int, ...], ...], scheme: str
) -> None:
  """Raise a ValueError unless a key's array has one of some shapes."""
  if tuple(array.shape) not in allowed:
    raise ValueError(
      f"{scheme}: an array of this key has shape {list(array.shape)}, not "
      f"{' or '.join(str(list(s)) for s in allowed)}: map over stacked keys "
      "with jax.vmap"
    )


def require_vector(array: jax.Array, scheme: str) -> None:
  """Raise a ValueError unless a key's array has one axis."""
  if array.ndim != 1:
    raise ValueError(
      f"{scheme}: an array of this key has shape {list(array.shape)}, not one "
      "axis: map over stacked keys with jax.vmap"
    )


def save(path: str | os.PathLike[str], key: Any) -> None:
  """Write a scheme's key to a new file with mode 600.

  Args:
    path: Path of the file, which must not exist.
    key: Key, or nested tuples and dicts of keys, as `keygen` returns them.

  Raises:
    FileExistsError: If `path` exists: a key is never overwritten.
    KeyringError: If `path` is inside a checkpoint.
  """
  private_files.refuse_checkpoint_folder(path)
  data = flax.serialization.msgpack_serialize(_pack(key))
  digest = hashlib.sha256(data).digest()
  file = {"keyjax": 1, "key": data, "sha256": digest}
  private_files.create(path, flax.serialization.msgpack_serialize(file), "key")


def load(path: str | os.PathLike[str]) -> Any:
  """Read a key that `save` wrote.

  Raises:
    PermissionError: If a group or everyone can read the file.
    ValueError: If the file does not hold a key, is damaged, or holds a key of
      a class whose module is not imported; the message names that class.
  """
  try:
    file = flax.serialization.msgpack_restore(private_files.read(path))
    if hashlib.sha256(file["key"]).digest() != file["sha256"]:
      raise ValueError("damaged")
    return _unpack(flax.serialization.msgpack_restore(file["key"]))
  except _UnknownTypeError as unknown:
    raise ValueError(f"{path} holds {unknown}") from None
  except (ValueError, TypeError, KeyError, AttributeError):
    raise ValueError(f"{path} does not hold a key of a scheme") from None


class _UnknownTypeError(Exception):
  """The class of a key file is not registered, or not unique."""


def _pack(key: Any) -> Any:
  """Return a key as nested dicts of arrays and strings."""
  if isinstance(key, Key):
    fields = {f: _pack(getattr(key, f)) for f in key.__dataclass_fields__}  # type: ignore[attr-defined]
    return {"type": type_name(type(key)), "fields": fields}
  if isinstance(key, LeafSpec):
    return {"leaf": json.dumps(key)}
  if isinstance(key, tuple | list):
    return {"tuple": {str(i): _pack(k) for i, k in enumerate(key)}}
  if isinstance(key, dict):
    return {"dict": {k: _pack(v) for k, v in key.items()}}
  if isinstance(key, str | int | float | bool):
    return {"value": key}
  return {"array": np.asarray(key)}


def _unpack(data: Any) -> Any:
  (kind, *_) = data
  if "type" in data:
    fields = {f: _unpack(v) for f, v in data["fields"].items()}
    return _key_type(data["type"])(**fields)
  if kind == "tuple":
    items = data["tuple"]
    return tuple(_unpack(items[str(i)]) for i in range(len(items)))
  if kind == "leaf":
    path, shape, dtype, locked = json.loads(data["leaf"])
    return LeafSpec(path, tuple(shape), dtype, locked)
  if kind == "dict":
    return {k: _unpack(v) for k, v in data["dict"].items()}
  return jnp.asarray(data[kind]) if kind == "array" else data[kind]


def _load_schemes(name: str) -> None:
  """Import the schemes of KeyJAX, which else happens when one is used."""
  try:
    schemes.load()
  except Exception as error:  # Such as a clash of names: not the file's fault.
    raise _UnknownTypeError(
      f"a key of the class {name!r}, and the schemes of KeyJAX cannot be "
      f"loaded: {error}"
    ) from error


def _key_type(name: str) -> type:
  if name not in _KEY_TYPES:
    _load_schemes(name)
  if name in _KEY_TYPES:
    return _KEY_TYPES[name]
  # Early files have only the name of the class; prefer KeyJAX's own classes.
  same = {n: t for n, t in _KEY_TYPES.items() if t.__name__ == name}
  own = {n: t for n, t in same.items() if t.__module__.startswith("keyjax.")}
  found = list((own or same).items())
  if len(found) == 1:
    return found[0][1]
  if found:
    several = " and ".join(n for n, _ in found)
    raise _UnknownTypeError(f"a {name!r}, which may be {several}")
  raise _UnknownTypeError(
    f"a key of the class {name!r}, which is not loaded: import the module "
    "that defines it first"
  )
