"""Language models in sealed checkpoints: weights, tokenizer and architecture.

The tree has the variables and the tokenizer, as bytes; the metadata name the
model, its attributes and its lock. All of it is sealed and authenticated.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments import models
from experiments.data.tokenizer import Tokenizer
from experiments.models import packages, pretrained
from experiments.models.readers import gguf
from keyjax import Scheme, checkpoint, keys, tree
from keyjax.keyring import Identity, Recipient
from keyjax.schemes import registry

_NAME = "llama"
_RECORD = "language_model"  # Key of the metadata.
_VERSION = 1
_KEYGEN_TOKENS = (1, 8)  # HPNN's key generation runs the model on them.
# Name of a lock -> scheme, and arguments of its factory.
LOCKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  "deep_lock": ("deep_lock", {"schedule": "counter"}),
  "hpnn": ("hpnn", {"layers": r".*/mlp_(gate|up)"}),
}
_ATTRIBUTES = (
  *("vocabulary", "context", "features", "depth", "heads", "kv_heads"),
  *("hidden", "base", "epsilon", "tied"),
)
Path = str | os.PathLike[str]


class Loaded(NamedTuple):
  """A language model that can run.

  Attributes:
    model: Module.
    variables: Its variables, locked if there is a scheme.
    tokenizer: Its tokenizer.
    scheme: Scheme that locks it; None for none.
    key: Key of the scheme.
  """

  model: Any
  variables: Any
  tokenizer: Tokenizer
  scheme: Scheme | None = None
  key: Any = ()

  def unlocked(self) -> Any:
    """Return the variables that a pass of the scheme runs on."""
    if self.scheme is None:
      return self.variables
    return jax.jit(self.scheme.decrypt)(self.key, self.variables)


def load(source: Path) -> Loaded:
  """Load a GGUF file: `PATH` or `package:NAME`.

  Raises:
    ValueError: If it is not read, or its parts do not fit each other.
    FileNotFoundError: If there is no such file.
  """
  file = packages.resolve(source)
  if file.suffix != ".gguf":
    raise ValueError(
      f"{file.name}: weights with a tokenizer are in .gguf files"
    )
  tensors, metadata = gguf.contents(file)
  options = models.options_of(metadata, tensors)
  tokenizer = Tokenizer.from_gguf(metadata)
  tokenizer.check_fits(options["vocabulary"])
  model = _create(_NAME, options)
  variables = pretrained.fit(tensors, model, _tokens(), file.name)
  return Loaded(model, variables, tokenizer)


def seal(
  folder: Path,
  source: Path,
  recipients: Iterable[Recipient],
  lock: str = "",
  key_file: Path = "",
) -> None:
  """Seal a GGUF file for recipients.

  Args:
    folder: New folder.
    source: As in `load`.
    recipients: Who can open it.
    lock: One of `LOCKS`, so that the opened weights are locked; none if empty.
    key_file: New file for the key of the lock.

  Raises:
    ValueError: As `load`, or if the lock is unknown, or has no key file.
    FileExistsError: If the folder or the key file exists.
  """
  checkpoint.check_new(folder)
  if lock and lock not in LOCKS:
    raise ValueError(f"Unknown lock {lock!r}: choose from {', '.join(LOCKS)}.")
  if bool(lock) != bool(key_file):
    raise ValueError("a lock and the file of its key are given together")
  model, variables, tokenizer, *_ = load(source)
  if lock:
    variables = _locked(lock, model, variables, key_file)
  record = json.dumps(tokenizer.record()).encode()
  described = {
    "version": _VERSION,
    "model": _NAME,
    "options": _options(model),
    "lock": lock,
  }
  checkpoint.save(
    folder,
    {"variables": variables, "tokenizer": np.frombuffer(record, np.uint8)},
    list(recipients),
    metadata={_RECORD: described},
  )


def open_sealed(
  folder: Path, identities: Iterable[Identity], key_file: Path = ""
) -> Loaded:
  """Open a model that `seal` wrote.

  Args:
    folder: Folder.
    identities: Keys, one of which opens it.
    key_file: File of the key of its lock, if it has one.

  Raises:
    ValueError: If it holds no language model, one of an unknown architecture,
      or parts that do not fit each other; or if a key file is missing or not
      needed.
    FileNotFoundError, KeyringError, CheckpointError: As
      `keyjax.checkpoint.restore`.
  """
  identities = list(identities)
  record = checkpoint.read_metadata(folder, identities).get(_RECORD)
  name = pathlib.Path(folder).name
  if not isinstance(record, dict) or record.get("version") != _VERSION:
    raise ValueError(
      f"{name} holds no language model: experiments.generate --seal makes one"
    )
  lock, model = _described(name, record)
  if bool(lock) != bool(key_file):
    need = f"is locked by {lock}: give" if lock else "has no lock: leave out"
    raise ValueError(f"{name} {need} --lock_key")
  opened = checkpoint.restore(folder, identities)
  if not isinstance(opened, dict) or set(opened) != {"variables", "tokenizer"}:
    raise ValueError(f"{name} holds no variables, or no tokenizer")
  text = np.asarray(opened["tokenizer"]).tobytes()
  tokenizer = Tokenizer.from_record(json.loads(text))
  tokenizer.check_fits(model.vocabulary)
  variables = opened["variables"]
  _check_shapes(model, variables)
  if not lock:
    return Loaded(model, variables, tokenizer)
  scheme = _scheme(lock, model)
  return Loaded(model, variables, tokenizer, scheme, keys.load(key_file))


def _described(name: str, record: Mapping[str, Any]) -> tuple[str, Any]:
  """Return the lock and the model of a record.

  Whoever has a recipient's public key can seal one.

  Raises:
    ValueError: If it is damaged, or its lock or model is unknown.
  """
  lock, options = record.get("lock"), record.get("options")
  if lock not in ("", *LOCKS):
    raise ValueError(f"{name} has the lock {lock!r}, which is unknown")
  like = _options(_create(_NAME, {"vocabulary": 1}))
  if not isinstance(options, dict) or options.keys() != like.keys():
    raise ValueError(f"{name} lacks a part of the model's description")
  for key, value in options.items():
    # A whole number may stand for a fraction.
    known = type(value) in (type(like[key]), int)
    if not known or (value <= 0 and key != "tied"):
      raise ValueError(f"{name} describes a model of {key}={value!r}")
  return lock, _create(str(record.get("model")), options)


def _create(name: str, options: Mapping[str, Any]) -> Any:
  options = dict(options)
  return models.create(name, options.pop("vocabulary"), (), (), **options)


def _options(model: Any) -> dict[str, Any]:
  """Return the attributes that make the model again."""
  return {name: getattr(model, name) for name in _ATTRIBUTES}


def _tokens() -> jax.Array:
  return jnp.zeros(_KEYGEN_TOKENS, jnp.int32)


def _scheme(lock: str, model: Any) -> Scheme:
  name, args = LOCKS[lock]
  return registry.build(name, args, apply_fn=model.apply)


def _locked(lock: str, model: Any, variables: Any, key_file: Path) -> Any:
  scheme = _scheme(lock, model)
  secret = keyjax.Secret.generate()
  key = scheme.keygen(secret, variables, {"image": _tokens()})
  keys.save(key_file, key, unused=True)
  key = keys.claim(key_file, variables)
  if lock == "hpnn":
    # Signs need no training: the locked weights are those with the signs.
    return keyjax.absorb(key, variables)
  return jax.jit(scheme.encrypt)(key, variables)


def _check_shapes(model: Any, variables: Any) -> None:
  """Raise a ValueError unless the variables are those of the model."""
  if model.depth > len(jax.tree.leaves(variables)):  # Their shapes take long.
    raise ValueError(f"the checkpoint has no {model.depth} blocks")
  shapes = jax.eval_shape(model.init, jax.random.key(0), _tokens())
  want, got = (
    {
      path: tuple(leaf.shape)
      for path, leaf in zip(*tree.flatten(x)[:2], strict=True)
    }
    for x in (shapes, variables)
  )
  for path in sorted(set(want) | set(got)):
    if want.get(path) != got.get(path):
      raise ValueError(
        f"the checkpoint has {path} of shape {got.get(path)}, the model of "
        f"shape {want.get(path)}"
      )
