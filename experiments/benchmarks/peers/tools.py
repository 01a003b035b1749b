"""How KeyJAX and each of its peers save a tree, and restore it.

Each is used as its documentation shows, with its defaults. age and openssl
encrypt a safetensors file, which is removed afterwards. openssl (AES-256-CTR)
detects no change of the file, nor do plain Orbax and safetensors; the others
authenticate. CryptoTensors signs its header, which it requires.
"""

import json
import pathlib
import secrets
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Specs = Mapping[str, tuple[str, tuple[int, ...]]]  # Dtype and shape by name.


class Tool(NamedTuple):
  """How a tool saves and restores.

  Attributes:
    take: Turns arrays into what the tool saves.
    save: Writes a tree to a new folder or file.
    restore: Reads it. The second argument is what `like` returned.
    like: Turns the tree's specs into what the tool needs to restore it.
    give: Turns a restored leaf into a NumPy array.
  """

  take: Callable[[Arrays], Any]
  save: Callable[[pathlib.Path, Any], Any]
  restore: Callable[[pathlib.Path, Any], Any]
  like: Callable[[Specs], Any] = dict
  give: Callable[[Any], np.ndarray] = np.asarray


def _jax_arrays(arrays: Arrays) -> dict[str, Any]:
  import jax
  import jax.numpy as jnp

  return jax.block_until_ready({n: jnp.asarray(x) for n, x in arrays.items()})


def _jax_specs(specs: Specs) -> dict[str, Any]:
  import jax

  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=device)
    for name, (dtype, shape) in specs.items()
  }


def _keyjax(key: pathlib.Path) -> Tool:
  import jax

  # The functions, not the room: it imports them at their first use.
  from keyjax import Secret
  from keyjax.checkpoint import restore, save
  from keyjax.keyring import SymmetricKey

  if not key.exists():
    Secret.generate().save(key)
  owner = SymmetricKey(Secret.load(key))
  return Tool(
    _jax_arrays,
    lambda path, tree: save(path, tree, owner),
    lambda path, like: jax.block_until_ready(restore(path, owner, like)),
    _jax_specs,
  )


def _orbax(key: pathlib.Path) -> Tool:
  import jax
  import orbax.checkpoint as ocp

  def save(path: pathlib.Path, tree: Any) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(path, tree)

  def restore(path: pathlib.Path, like: Any) -> Any:
    with ocp.StandardCheckpointer() as checkpointer:
      return jax.block_until_ready(checkpointer.restore(path, like))

  return Tool(_jax_arrays, save, restore, _jax_specs)


def _orbax_uncompressed(key: pathlib.Path) -> Tool:
  import jax
  import orbax.checkpoint as ocp

  def save(path: pathlib.Path, tree: Any) -> None:
    with ocp.PyTreeCheckpointer(use_compression=False) as checkpointer:
      checkpointer.save(path, tree)

  def restore(path: pathlib.Path, like: Any) -> Any:
    args = ocp.checkpoint_utils.construct_restore_args(like)
    with ocp.PyTreeCheckpointer(use_compression=False) as checkpointer:
      return jax.block_until_ready(
        checkpointer.restore(path, item=like, restore_args=args)
      )

  return Tool(_jax_arrays, save, restore, _jax_specs)


def _safetensors(key: pathlib.Path) -> Tool:
  import safetensors.numpy

  return Tool(
    dict,
    lambda path, tree: safetensors.numpy.save_file(tree, path),
    lambda path, like: safetensors.numpy.load_file(path),
  )


def _by_file(
  encrypt: Callable[[str, str], Any], decrypt: Callable[[str, str], Any]
) -> Tool:
  """Return safetensors, whose file is encrypted from one path to another."""
  plain = _safetensors(pathlib.Path())

  def save(path: pathlib.Path, tree: Any) -> None:
    file = path.with_suffix(".plain")
    plain.save(file, tree)
    encrypt(str(file), str(path))
    file.unlink()

  def restore(path: pathlib.Path, like: Any) -> Any:
    file = path.with_suffix(".plain")
    decrypt(str(path), str(file))
    tree = plain.restore(file, like)
    file.unlink()
    return tree

  return Tool(dict, save, restore)


def _pyrage(key: pathlib.Path) -> Tool:
  import pyrage

  if not key.exists():
    key.write_text(str(pyrage.x25519.Identity.generate()))
  identity = pyrage.x25519.Identity.from_str(key.read_text())
  recipient = identity.to_public()
  return _by_file(
    lambda plain, file: pyrage.encrypt_file(plain, file, [recipient]),
    lambda file, plain: pyrage.decrypt_file(file, plain, [identity]),
  )


def _age(key: pathlib.Path) -> Tool:
  if not key.exists():
    _program("age-keygen", "-o", str(key))
  options = ("-i", str(key), "-o")
  return _by_file(
    lambda plain, file: _program("age", "-e", *options, file, plain),
    lambda file, plain: _program("age", "-d", *options, plain, file),
  )


def _openssl(key: pathlib.Path) -> Tool:
  if not key.exists():
    key.write_text(secrets.token_hex(32))
  options = ("enc", "-aes-256-ctr", "-pbkdf2", "-pass", f"file:{key}")
  return _by_file(
    lambda plain, file: _program(
      "openssl", *options, "-in", plain, "-out", file
    ),
    lambda file, plain: _program(
      "openssl", *options, "-d", "-in", file, "-out", plain
    ),
  )


def _program(*command: str) -> None:
  subprocess.run(command, check=True, stderr=subprocess.PIPE)


def _tensorizer(key: pathlib.Path) -> Tool:
  import tensorizer
  import torch

  if not key.exists():
    key.write_bytes(tensorizer.EncryptionParams.random().key)
  encryption = tensorizer.EncryptionParams(key.read_bytes())
  decryption = tensorizer.DecryptionParams.from_key(key.read_bytes())

  def take(arrays: Arrays) -> dict[str, Any]:
    return {
      # PyTorch does not know NumPy's bfloat16.
      name: torch.from_numpy(x)
      if x.itemsize == 4
      else torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
      for name, x in arrays.items()
    }

  def save(path: pathlib.Path, tree: Any) -> None:
    serializer = tensorizer.TensorSerializer(str(path), encryption=encryption)
    serializer.write_state_dict(tree)
    serializer.close()

  def restore(path: pathlib.Path, like: Any) -> Any:
    with tensorizer.TensorDeserializer(
      str(path), device="cpu", encryption=decryption
    ) as found:
      return dict(found.items())

  def give(leaf: Any) -> np.ndarray:
    leaf = leaf.detach()  # Restored leaves ask for gradients.
    if leaf.dtype == torch.bfloat16:
      return leaf.view(torch.int16).numpy().view("bfloat16")
    return leaf.numpy()

  return Tool(take, save, restore, give=give)


def _cryptotensors(key: pathlib.Path) -> Tool:
  import base64

  import cryptotensors
  import cryptotensors.numpy
  from cryptography.hazmat.primitives.asymmetric import ed25519

  if not key.exists():
    signer = ed25519.Ed25519PrivateKey.generate()
    values = (
      secrets.token_bytes(32),
      signer.private_bytes_raw(),
      signer.public_key().public_bytes_raw(),
    )
    k, d, x = (base64.b64encode(v).decode() for v in values)
    sealing = {"kty": "oct", "alg": "aes256gcm", "kid": "seal", "k": k}
    signing = {"kty": "okp", "alg": "ed25519", "kid": "sign", "d": d, "x": x}
    key.write_text(json.dumps({"enc_key": sealing, "sign_key": signing}))
  config = json.loads(key.read_text())
  cryptotensors.register_direct_key_provider(keys=list(config.values()))
  return Tool(
    dict,
    lambda path, tree: cryptotensors.numpy.save_file(tree, path, config=config),
    lambda path, like: cryptotensors.numpy.load_file(path),
  )


OURS: dict[str, Callable[[pathlib.Path], Tool]] = {
  "KeyJAX": _keyjax,
  "Orbax": _orbax,
  "Orbax uncompressed": _orbax_uncompressed,
}
PEERS: dict[str, Callable[[pathlib.Path], Tool]] = {
  "safetensors": _safetensors,
  "pyrage": _pyrage,
  "age": _age,
  "openssl": _openssl,
  "tensorizer": _tensorizer,
  "CryptoTensors": _cryptotensors,
}
