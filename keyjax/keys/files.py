"""Key files of schemes.

A file contains a key and, if it is a one-time key, what it encrypts:

- nothing known, as in files of early versions: the key opens, and no more;
- unused (`save(..., unused=True)`): the first tree that claims it gets it;
- claimed: a digest of the one tree, keyed by the key itself.
"""

import hashlib
import hmac
import json
import os
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyjax import arguments, packed, private_files, schemes, tree
from keyjax.keys.base import KEY_TYPES, Key, OneTimeKey, type_name
from keyjax.secrets import Secret
from keyjax.tree import LeafSpec

_VERSION = 1
_MAX_DEPTH = 64
_CLAIMED: set[bytes] = set()  # Digests of keys that `claim` returned.


def save(
  path: str | os.PathLike[str], key: Any, *, unused: bool = False
) -> None:
  """Write a scheme's key to a new file with mode 600.

  Args:
    path: Path of the file, which must not exist.
    key: Key, or nested tuples and dicts of keys, as `keygen` returns them.
    unused: Whether the key has encrypted nothing yet, and `claim` may read it
      to encrypt a tree. That is never so of a key that `claim` returned.

  Raises:
    FileExistsError: If `path` exists: a key is never overwritten.
    KeyringError: If `path` is inside a checkpoint.
    ValueError: If `unused` is true of a key that `load` read, or that `claim`
      returned in this process.
  """
  private_files.refuse_checkpoint_folder(path)
  one_time = _one_time_keys(key) if unused else []
  if any(k.opens_only for k in one_time):
    raise ValueError("this key was read from a file: it may have been used")
  if any(_name(k) in _CLAIMED for k in one_time):
    raise ValueError(
      "this key was claimed for a tree, so it is not unused: make another one "
      "with keygen"
    )
  data = flax.serialization.msgpack_serialize(_pack(key))
  private_files.create(path, _file(data, b"" if unused else None), "key")


def load(path: str | os.PathLike[str]) -> Any:
  """Read a key that `save` wrote.

  One-time keys in it (counter mode, keyed noise) decrypt only.

  Raises:
    PermissionError: If a group or everyone can read the file.
    ValueError: If the file does not hold a key, is damaged, or holds a key of
      a class whose module is not imported; the message names that class.
  """
  key, _, _ = _read(path)
  return jax.tree.map(_opening, key, is_leaf=_is_key)


def claim(path: str | os.PathLike[str], params: Any) -> Any:
  """Read a key in order to encrypt a tree, which the file remembers.

  Repeat it as often as needed, after a crash for example, for the same tree.
  Keys without a nonce encrypt any number of trees; for them this is `load`.

  Args:
    path: File that `save(..., unused=True)` wrote.
    params: Tree that the key will encrypt.

  Raises:
    PermissionError: If a group or everyone can read the file.
    KeyringError: If another process is changing the file.
    ValueError: If the key has encrypted another tree, or may have; or is for
      leaves that this tree does not have; or see `load`.

  Example:
    >>> import tempfile
    >>> from keyjax import Secret, deep_lock
    >>> scheme, params = deep_lock("counter"), {"w": jnp.ones(4)}
    >>> path = tempfile.mkdtemp() + "/model.key"
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> save(path, key, unused=True)
    >>> locked = scheme.encrypt(claim(path, params), params)
    >>> scheme.decrypt(load(path), locked)["w"].tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> claim(path, {"w": jnp.zeros(4)})
    Traceback (most recent call last):
    ...
    ValueError: .../model.key is the key of another tree, which its nonce has \
encrypted: make another key with keygen
  """
  path = os.path.realpath(path)  # Replacing a link would leave its file.
  if not _one_time_keys(_read(path)[0]):
    return load(path)
  if os.stat(path).st_nlink > 1:
    raise ValueError(
      f"{path} has another name too, which would not remember what its key "
      "encrypts: remove the other hard links"
    )
  with private_files.lock(path):
    key, data, known = _read(path)
    if known is None or any(k.opens_only for k in _one_time_keys(key)):
      raise ValueError(
        f"{path} does not say what its key has encrypted: it decrypts only; "
        "make another key with keygen, and save it with unused=True"
      )
    _check_fit(path, key, params)
    digest = _digest(data, params)
    if known and not hmac.compare_digest(known, digest):
      raise ValueError(
        f"{path} is the key of another tree, which its nonce has encrypted: "
        "make another key with keygen"
      )
    if not known:
      private_files.replace(path, _file(data, digest))
  _CLAIMED.update(map(_name, _one_time_keys(key)))
  return key


def _check_fit(path: str, key: Any, params: Any) -> None:
  """Check that a tree has the leaves of a key, before its file is used up.

  The dtype is that of the tree or, for a later part of a chain, of ciphertext.
  Leaves that `masked` or `partition` hid from a key have no shape there;
  `encrypt` finds what is left.
  """
  paths, leaves, _ = tree.flatten(params)
  found = dict(zip(paths, leaves, strict=True))
  for one in _one_time_keys(key):
    for spec in getattr(one, "spec", ()):
      if spec.dtype == "hidden":
        continue
      leaf = found.get(spec.path)
      if leaf is None or tuple(np.shape(leaf)) != tuple(spec.shape):
        raise ValueError(
          f"{path} is the key of another tree, with a leaf {spec.path} of "
          f"shape {list(spec.shape)}: it was not claimed"
        )


def _name(key: Any) -> bytes:
  """Return a digest that tells a key from all others."""
  data = flax.serialization.msgpack_serialize(_pack(key))
  return hashlib.sha256(data).digest()


def _file(data: bytes, encrypts: bytes | None) -> bytes:
  """Return the content of a file: a packed key, and what it encrypts."""
  digest = hashlib.sha256(data).digest()
  file = {"keyjax": _VERSION, "key": data, "sha256": digest}
  if encrypts is not None:
    file["encrypts"] = encrypts
  return flax.serialization.msgpack_serialize(file)


def _read(path: str | os.PathLike[str]) -> tuple[Any, bytes, bytes | None]:
  """Return the key of a file, its packed form, and what it encrypts."""
  content = private_files.read(path)
  reason = "does not hold a key of a scheme"
  try:
    file = packed.restore(content)
    data = file["key"]
    if file["keyjax"] != _VERSION:
      reason = f"is no key file of version {_VERSION}, which KeyJAX reads"
    elif hashlib.sha256(data).digest() == file["sha256"]:
      key = _unpack(packed.restore(data))
      return key, data, file.get("encrypts")
  except _UnknownTypeError as unknown:
    reason = f"holds {unknown}"
  except Exception:  # Checks of damaged keys fail in many ways.
    pass
  hint = private_files.other_reader(content)
  if "keys.load" not in hint and not reason.startswith("holds"):
    reason += hint
  # Not in `except`: errors contain what was read.
  raise ValueError(f"{path} {reason}")


def _is_key(x: Any) -> bool:
  return isinstance(x, Key)


def _opening(key: Any) -> Any:
  return key.replace(opens_only=True) if isinstance(key, OneTimeKey) else key


def _one_time_keys(key: Any) -> list[OneTimeKey]:
  found = jax.tree.leaves(key, is_leaf=_is_key)
  return [k for k in found if isinstance(k, OneTimeKey)]


def _digest(key: bytes, params: Any) -> bytes:
  """Return an HMAC of all leaves under a key derived from the packed key."""
  info = b"keyjax/1/keys/encrypts"
  mac_key = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(key)
  mac = hmac.new(mac_key, digestmod="sha256")
  paths, leaves, _ = tree.flatten(params)
  for path, leaf in zip(paths, leaves, strict=True):
    values = tree.bits(leaf)
    head = json.dumps([path, str(getattr(leaf, "dtype", "")), values.shape])
    mac.update(len(head.encode()).to_bytes(8, "big") + head.encode())
    mac.update(values.tobytes())
  return mac.digest()


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
  if not arguments.is_array(key):
    raise TypeError(
      f"keys.save takes a key as keygen returns it, got "
      f"{arguments.describe(key)}"
      + ("; Secret.save writes secrets" if isinstance(key, Secret) else "")
    )
  return {"array": np.asarray(key)}


def _unpack(data: Any, depth: int = 0) -> Any:
  # Arrays of empty rows are endless.
  if not isinstance(data, dict) or depth > _MAX_DEPTH:
    raise TypeError("a part of a key")
  (kind, *_) = data
  if "type" in data:
    fields = {f: _unpack(v, depth + 1) for f, v in data["fields"].items()}
    key = _key_type(data["type"])(**fields)
    key.check()
    return key
  if kind == "tuple":
    items = data["tuple"]
    return tuple(_unpack(items[str(i)], depth + 1) for i in range(len(items)))
  if kind == "leaf":
    return _leaf_spec(*json.loads(data["leaf"]))
  if kind == "dict":
    return {k: _unpack(v, depth + 1) for k, v in data["dict"].items()}
  return jnp.asarray(data[kind]) if kind == "array" else data[kind]


def _leaf_spec(path: Any, shape: Any, dtype: Any, locked: Any) -> LeafSpec:
  """Return what a key stores about a leaf, after checking its types."""
  types = [type(path), type(shape), type(dtype), type(locked)]
  sizes = all(type(n) is int and n >= 0 for n in shape)
  if types != [str, list, str, bool] or not sizes:
    raise TypeError("a leaf of a key")
  return LeafSpec(path, tuple(shape), dtype, locked)


def _load_schemes(name: str) -> None:
  """Import the schemes of KeyJAX, which else happens when one is used."""
  try:
    schemes.load()
  except Exception as error:  # Such as a clash of names: not the file's fault.
    raise _UnknownTypeError(
      f"a key of the class {name!r:.80}, and the schemes of KeyJAX cannot be "
      f"loaded: {error}"
    ) from error


def _key_type(name: str) -> type:
  if name not in KEY_TYPES:
    _load_schemes(name)
  if name in KEY_TYPES:
    return KEY_TYPES[name]
  # Early files have only the name of the class; prefer KeyJAX's own classes.
  same = {n: t for n, t in KEY_TYPES.items() if t.__name__ == name}
  own = {n: t for n, t in same.items() if t.__module__.startswith("keyjax.")}
  found = list((own or same).items())
  if len(found) == 1:
    return found[0][1]
  if found:
    several = " and ".join(n for n, _ in found)
    raise _UnknownTypeError(f"a {name!r:.80}, which may be {several}")
  raise _UnknownTypeError(
    f"a key of the class {name!r:.80}, which is not loaded: import the module "
    f"that defines it first{_module_hint(name)}"
  )


def _module_hint(name: str) -> str:
  module = name.split(".")[0]
  if module == "__main__":
    return ", here the script or notebook that made the file"
  return f", such as `import {module:.80}`" if "." in name else ""
