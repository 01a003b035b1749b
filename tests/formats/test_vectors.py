"""The format vectors: KeyJAX and a second reader open the same files.

`examples/read_*.py` were written from `docs/formats` and share no code with
KeyJAX: what both open, and both refuse, is what the documents say.
"""

import base64
import functools
import hashlib
import hmac
import json
import pathlib
import re
import zlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore as ts
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from examples import read_envelope, read_keys, read_locked, read_sealed
from examples.read_envelope import Refused
from keyjax import (
  Secret,
  checkpoint,
  deep_lock,
  keyed_noise,
  keyring,
  licensee_mark,
  schemes,
  seal,
  secrets,
  tree,
)
from keyjax import keys as scheme_keys
from keyjax.checkpoint.format import manifest_json, signature, tree_structure
from keyjax.checkpoint.storage import sealed_files
from keyjax.errors import KeyringError
from keyjax.keyring import envelope, keyfile, ring
from keyjax.keyring.recipients import broadcast
from keyjax.keys.base import KEY_TYPES
from tests import wycheproof
from tests.conftest import ROOT
from tests.formats.make import FOLDER, fields_of

SECRET = bytes(range(32))
octets = base64.b64decode


@functools.cache
def vectors(name: str) -> dict[str, Any]:
  return json.loads((FOLDER / f"{name}.json").read_text())


# ------------------------------------------------------------- docs/formats


def stream(label: str, size: int) -> bytes:
  key = read_envelope.derive(SECRET, f"stream/{label}")
  mode = modes.CTR(bytes(16))
  return Cipher(algorithms.AES(key), mode).encryptor().update(bytes(size))


def permutation(label: str, n: int) -> list[int]:
  numbers = stream(label, 16 * n)
  words = [
    int.from_bytes(numbers[i : i + 8], "little") for i in range(0, 16 * n, 8)
  ]
  return sorted(range(n), key=lambda i: (words[n + i], words[i]))


LABEL = re.compile(
  r"""(?:\.(?:derive|child|stream)|permutation|secrets\.bits)\(\s*(?:\w+,\s*)?"""
  r"""f?"([^"]+)\""""
)


def test_every_label_and_key_class_is_documented() -> None:
  documents = "".join(
    p.read_text() for p in sorted((ROOT / "docs/formats").glob("*.md"))
  )
  labels = set()
  for file in sorted((ROOT / "keyjax").rglob("*.py")):
    code = "".join(
      line
      for line in file.read_text().splitlines(keepends=True)
      if ">>>" not in line and "..." not in line
    )
    name = re.search(r'^NAME = "(\w+)"', code, re.M)
    for label in LABEL.findall(code):
      label = label.replace("{NAME}", name[1] if name else "")
      labels.add(label.partition("{")[0])
  assert {"keyring/leaf/", "hpnn/schedule/", "broadcast/"} <= labels
  assert not [
    x for x in labels if f"`{x}" not in documents and x != "fingerprint"
  ]
  schemes.load()
  built_in = [
    (name, cls)
    for name, cls in KEY_TYPES.items()
    if cls.__module__.startswith("keyjax.")
  ]
  assert len(built_in) > 7
  for name, cls in built_in:
    (row,) = re.findall(rf"^\| `{name}` \|.*", documents, re.M)
    assert not [f for f in cls.__dataclass_fields__ if f"`{f}`" not in row], row


LIMITS = {
  "envelopes.md": {
    "bytes | 2^24 |": envelope.MAX_SIZE == 2**24,
    "1,024": envelope.MAX_RECIPIENTS == 1024,
    "14,336": envelope._MAX_ITEMS == 14336,
    "`sealed` | 2^18 |": envelope.MAX_PRIVATE == 2**18,
    "at most 12 fields": envelope._MAX_STANZA_FIELDS == 12,
    "DEPTH at most 30": broadcast.MAX_DEPTH == 30,
  },
  "key_files.md": {
    "65,536 bytes": keyfile.MAX_KEY == 65536,
    "At most 2^26 bytes": ring._MAX_SIZE == 2**26,
  },
  "checkpoints.md": {
    "most 2^25 bytes and 32,768": sealed_files.MAX_HEADER_BYTES == 2**25
    and sealed_files._MAX_HEADER_ITEMS == 32768,
    "67,174,472": manifest_json.MAX_SEALED_SIZE == 67174472,
    "2^26 bytes and 2^22": manifest_json.MAX_SIZE == 2**26
    and manifest_json._MAX_ITEMS == 2**22,
    "at most 2^20 bytes": manifest_json.MAX_METADATA == 2**20,
    "versions 1 to 3": manifest_json.VERSION_WITH_NAMES == 3,
    "64. Dataclasses": tree_structure.MAX_DEPTH == 64,
    "6,072": signature.SEALED_SIZE == 6072,
  },
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_those_of_the_code(name: str) -> None:
  document = (ROOT / "docs/formats" / name).read_text()
  for text, same in LIMITS[name].items():
    assert same and text in document, text


def test_the_cost_of_a_passphrase_is_limited() -> None:
  document = (ROOT / "docs/formats/envelopes.md").read_text()
  assert "memory from 19,456 to 1,048,576, passes and\nlanes from 1" in document
  for right in ((19456, 1, 1), (2**20, 4, 16), (19456, 16, 1)):
    keyring.Cost(*right).check()
  for wrong in (
    (19455, 1, 1),
    (2**20 + 1, 1, 1),
    (2**20, 5, 1),
    (19456, 1, 17),
  ):
    with pytest.raises(KeyringError, match="Argon2id"):
      keyring.Cost(*wrong).check()


def test_derivations() -> None:
  found = vectors("derivations")
  secret = Secret(bytes.fromhex(found["secret"]))
  for label, size, want in found["derive"]:
    assert secret.derive(label, size).hex() == want
    assert read_envelope.derive(SECRET, label, size).hex() == want
  label, size, want = found["stream"]
  assert secret.stream(label, size).hex() == stream(label, size).hex() == want
  label, size, want = found["permutation"]
  assert secrets.permutation(secret, label, size).tolist() == want
  assert permutation(label, size) == want
  label, size, want = found["bits"]
  assert secrets.bits(secret, label, size).tolist() == want
  data = int.from_bytes(stream(label, 2), "big")
  assert [data >> (15 - i) & 1 for i in range(size)] == want
  name = read_envelope.from_secret(SECRET)[0].removeprefix("aes:")
  assert name == secret.fingerprint() == found["fingerprint"]


@pytest.mark.vectors
@pytest.mark.parametrize("bits", [128, 256])
def test_the_second_reader_opens_sealed_messages(bits: int) -> None:
  name = f"c2sp_chunked_encryption_aes_{bits}_gcm_test.json"
  for case in wycheproof.cases(name):
    message = zlib.decompress(bytes.fromhex(case["ct"]))
    args = (bytes.fromhex(case["key"]), message, bytes.fromhex(case["ctx"]))
    if case["result"] == "valid":
      opened = read_envelope.unseal(*args)
      assert hashlib.sha512(opened).hexdigest() == case["msgSha512"]
    else:
      with pytest.raises(Refused):
        read_envelope.unseal(*args)


# ----------------------------------------------------------------- key files


@pytest.mark.parametrize(
  "case", vectors("key_files")["keys"], ids=lambda x: x["kind"]
)
def test_key_files(case: dict[str, str]) -> None:
  want = (case["kind"], octets(case["raw"]))
  passphrase = vectors("key_files")["passphrase"]
  assert read_keys.private_key(case["plain"]) == want
  assert read_keys.private_key(case["protected"], passphrase) == want
  key = keyring.parse_key(case["protected"], passphrase)
  assert keyring.format_key(key) == case["plain"]
  if "public" in case:
    kind, data = read_keys.public_key(case["public"])
    assert kind == case["kind"]
    if kind in ("ed25519", "ml-dsa-65"):
      verify_key = keyring.parse_verify_key(case["public"])
      assert verify_key.public_bytes_raw() == data
    else:
      assert keyring.parse_recipient(case["public"]).data == data


@pytest.mark.parametrize(
  "case", vectors("key_files")["refused"], ids=lambda x: x["why"]
)
def test_malformed_key_files_are_refused(case: dict[str, str]) -> None:
  passphrase = vectors("key_files")["passphrase"]
  with pytest.raises(Refused):
    read_keys.private_key(case["text"], passphrase)
  with pytest.raises(KeyringError):
    keyring.parse_key(case["text"], passphrase)


def test_keyrings(tmp_path: pathlib.Path) -> None:
  case = vectors("keyrings")
  data = octets(case["file"])
  ring = read_keys.open_keyring(data, bytes.fromhex(case["root"]))
  assert ring["name"] == case["name"]
  found = [
    [k["id"], k["status"], k["primary"], f"aes:{k['fingerprint']}"]
    for k in ring["keys"]
  ]
  assert found == case["keys"]
  for key in ring["keys"]:
    name, _ = read_envelope.from_secret(octets(key["secret"]))
    assert name == f"aes:{key['fingerprint']}"
  name, fingerprint, salt = case["licensee"]
  licensing = octets(ring["licensing"])
  mine = read_envelope.derive(licensing, f"licensee/{name}")
  key_id, _ = read_envelope.from_secret(read_envelope.derive(mine, "key"))
  assert key_id == f"aes:{fingerprint}"
  mark = read_envelope.derive(mine, "mark")
  fresh, tag = bytes.fromhex(salt)[:12], bytes.fromhex(salt)[12:]
  assert hmac.digest(mark, fresh, "sha256")[:12] == tag
  path = tmp_path / "ring"
  path.write_bytes(data)
  path.chmod(0o600)
  loaded = keyring.Keyring.load(path, Secret(SECRET), case["name"])
  assert [e.recipient_id for e in loaded.entries] == [
    x[3] for x in case["keys"]
  ]
  with pytest.raises(Refused):
    read_keys.open_keyring(data[:-1], SECRET)


# ----------------------------------------------------------------- envelopes


def private_keys() -> dict[str, bytes]:
  keys = {x["kind"]: octets(x["raw"]) for x in vectors("key_files")["keys"]}
  kms = vectors("envelopes")["kms"]
  keys["kms"] = bytes.fromhex(kms["secret"]) + kms["name"].encode()
  return keys


@pytest.mark.parametrize(
  "kind", ["secret", "x25519", "mlkem768x25519", "rsa", "device", "kms"]
)
def test_envelopes(kind: str, tmp_path: pathlib.Path) -> None:
  case = vectors("envelopes")
  data = case["envelope"].encode()
  raw = private_keys()[kind]
  data_key, document, private = read_envelope.open_envelope(data, [(kind, raw)])
  assert data_key.hex() == case["data_key"]
  assert private["extra"] == case["metadata"]
  identity: Any
  if kind == "kms":
    (tmp_path / "team-a.key").write_text(case["kms"]["secret"])
    (tmp_path / "team-a.key").chmod(0o600)
    identity = keyring.KmsKey(keyring.LocalKms(tmp_path), "team-a")
  else:
    plain = {x["kind"]: x["plain"] for x in vectors("key_files")["keys"]}
    identity = keyring.as_identity(keyring.parse_key(plain[kind]))
  opened = keyring.open_envelope(data, [identity])
  assert opened.data_key == data_key
  assert opened.created == private["created"]
  assert opened.checkpoint == document["checkpoint"]


def test_an_envelope_under_a_passphrase() -> None:
  case = vectors("envelopes")
  data = case["with_passphrase"].encode()
  key = ("passphrase", case["passphrase"].encode())
  assert read_envelope.open_envelope(data, [key])[0].hex() == case["data_key"]
  own = keyring.Passphrase(case["passphrase"], keyring.Cost(19456, 1, 1))
  assert keyring.open_envelope(data, [own]).data_key.hex() == case["data_key"]


@pytest.mark.parametrize(
  "case", vectors("envelopes")["refused"], ids=lambda x: x["why"]
)
def test_malformed_envelopes_are_refused(case: dict[str, str]) -> None:
  data = case["text"].encode()
  with pytest.raises(Refused):
    read_envelope.open_envelope(data, [("secret", SECRET)])
  with pytest.raises(KeyringError):
    keyring.open_envelope(data, [keyring.as_identity(Secret(SECRET))])


# ------------------------------------------------------------------- schemes


def key_file(folder: pathlib.Path, text: str) -> pathlib.Path:
  path = folder / "key"
  path.write_bytes(octets(text))
  path.chmod(0o600)
  return path


def as_numbers(node: Any) -> Any:
  """Return what `read_key` returned, with arrays as lists of numbers."""
  if isinstance(node, dict):
    return {k: as_numbers(v) for k, v in node.items()}
  if isinstance(node, tuple):
    dtype, shape, raw = node
    return np.frombuffer(raw, dtype).reshape(shape).tolist()
  return [as_numbers(x) for x in node] if isinstance(node, list) else node


@pytest.mark.parametrize(
  "case", vectors("scheme_keys")["cases"], ids=lambda x: x["name"]
)
def test_scheme_keys(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  found = read_locked.read_key(octets(case["file"]))
  assert as_numbers(found) == case["fields"]
  loaded = scheme_keys.load(key_file(tmp_path, case["file"]))
  assert json.loads(json.dumps(fields_of(loaded))) == case["fields"]
  data = octets(case["file"])
  assert data.count(b"\xa6keyjax\x01") == 1
  newer = data.replace(b"\xa6keyjax\x01", b"\xa6keyjax\x02")
  for altered in (data[:-1] + b"?", newer):
    with pytest.raises(ValueError):
      read_locked.read_key(altered)
    (tmp_path / "key").write_bytes(altered)
    with pytest.raises(ValueError, match="version 1|does not hold a key"):
      scheme_keys.load(tmp_path / "key")


def tree_of(leaves: list[Any]) -> dict[str, Any]:
  return {p: (d, s, bytes.fromhex(raw)) for p, d, s, raw in leaves}


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
  """Return leaves by path as nested dicts."""
  made: dict[str, Any] = {}
  for path, leaf in leaves.items():
    *above, last = path.split("/")
    node = made
    for name in above:
      node = node.setdefault(name, {})
    node[last] = leaf
  return made


def tree_digest(file: bytes, leaves: dict[str, Any]) -> str:
  """Return what a key's file remembers of the tree that it encrypts."""
  packed = read_locked.unpack(file)["key"]
  info = b"keyjax/1/keys/encrypts"
  key = HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(packed)
  data = b""
  for path, (dtype, shape, raw) in leaves.items():
    head = json.dumps([path, dtype, list(shape)]).encode()
    data += len(head).to_bytes(8, "big") + head + raw
  found = hmac.digest(key, data, "sha256")
  assert read_locked.unpack(file)["encrypts"] == found
  return found.hex()


@pytest.mark.parametrize(
  "case", vectors("keystreams")["cases"], ids=lambda x: x["name"]
)
def test_locked_trees(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  plain = tree_of(vectors("keystreams")["plain"])
  locked = tree_of(case["locked"])
  found = read_locked.unlock(read_locked.read_key(octets(case["key"])), locked)
  assert found == plain
  if (known := case["encrypts"]) is not None:
    assert tree_digest(octets(case["key"]), plain) == known
  if case["name"].endswith("128"):  # The same programs, which take seconds.
    return
  key = scheme_keys.load(key_file(tmp_path, case["key"]))
  _, schedule, size = (*case["name"].split(), "")[:3]
  others = {"noise": keyed_noise(), "mark": licensee_mark(depth=2)}
  scheme = others.get(schedule) or deep_lock(schedule, int(size))
  arrays = nested(
    {
      path: jnp.asarray(np.frombuffer(raw, jnp.dtype(dtype)).reshape(shape))
      for path, (dtype, shape, raw) in locked.items()
    }
  )
  paths, leaves, _ = tree.flatten(scheme.decrypt(key, arrays))
  for path, leaf in zip(paths, leaves, strict=True):
    assert np.asarray(leaf).tobytes() == plain[path][2], path


def test_sealed_trees() -> None:
  case = vectors("keystreams")["sealed"]
  plain = tree_of(vectors("keystreams")["plain"])
  context = case["context"].encode()
  key = read_envelope.derive(SECRET, "seal/cobblestone-256")
  found = {p: bytes.fromhex(raw) for p, raw in case["messages"].items()}
  for i, (path, (dtype, shape, raw)) in enumerate(plain.items()):
    text = f"{path}|{dtype}|{tuple(shape)}|{i} of one tree".encode()
    bound = len(context).to_bytes(8, "big") + context + text
    assert read_envelope.unseal(key, found[path], bound) == raw
  like = nested(
    {
      p: np.frombuffer(x[2], jnp.dtype(x[0])).reshape(x[1])
      for p, x in plain.items()
    }
  )
  messages = nested({p: np.frombuffer(x, np.uint8) for p, x in found.items()})
  opened = seal.unseal_tree(Secret(SECRET), messages, like, context)
  assert tree.same_bits(opened, like)


# --------------------------------------------------------------- checkpoints


def rows_of(case: dict[str, Any], **altered: bytes) -> Any:
  """Return the reader of a case's arrays, without a container."""

  def rows(name: str) -> list[bytes]:
    data = altered.get(name, octets(case["arrays"][name]))
    size = case["streams"][2] if name.isdigit() else len(data)
    return [data[i : i + size] for i in range(0, len(data), size)]

  return rows


CHECKPOINTS = vectors("checkpoints")["cases"]
OWNER = [("secret", SECRET)]
by_name = pytest.mark.parametrize("case", CHECKPOINTS, ids=lambda x: x["case"])


def write_container(path: pathlib.Path, case: dict[str, Any]) -> None:
  """Write a checkpoint as docs/formats/checkpoints.md describes it."""
  (path / "header").mkdir(parents=True)
  (path / "header/metadata").write_text(json.dumps(case["header"]))
  count, _, size, read_size = case["streams"]
  for name, data in case["arrays"].items():
    array = np.frombuffer(octets(data), np.uint8)
    chunks = [array.size]
    if name.isdigit():
      array, chunks = array.reshape(count, size), [1, read_size]
    base = {"driver": "file", "path": f"{path}/sealed/"}
    metadata = {"dtype": "|u1", "compressor": None, "chunks": chunks}
    spec = {
      "driver": "zarr",
      "kvstore": {"driver": "ocdbt", "base": base},
      "path": f"{name}/",
      "metadata": metadata | {"shape": list(array.shape)},
    }
    ts.open(spec, create=True, open=True).result().write(array).result()


@by_name
def test_checkpoints(case: dict[str, Any], tmp_path: pathlib.Path) -> None:
  header = json.dumps(case["header"]).encode()
  line = case["verify_key"]
  verify_key = read_keys.public_key(line) if line else None
  opened = read_sealed.open_checkpoint(header, rows_of(case), OWNER, verify_key)
  manifest, leaves = opened
  assert manifest["metadata"] == case["metadata"]
  assert manifest["step"] == case["step"]
  names = (manifest.get("name", ""), manifest.get("run", ""))
  assert names == (case["name"], case["run"])
  assert manifest["tree"] == case["tree"]
  want = {p: (d, s, bytes.fromhex(raw)) for p, d, s, _, raw in case["leaves"]}
  assert leaves == want
  # And in its container, which KeyJAX reads too.
  path = tmp_path / "model"
  write_container(path, case)
  header = (path / "header/metadata").read_bytes()
  stored = read_sealed.container(path)
  assert (
    read_sealed.open_checkpoint(header, stored, OWNER, verify_key) == opened
  )
  owner = keyring.as_identity(Secret(SECRET))
  key = keyring.parse_verify_key(line) if line else None
  found = checkpoint.restore(
    path,
    owner,
    step=case["step"],
    name=case["name"] or None,
    run=case["run"] or None,
    verify_key=key,
  )
  paths, values, _ = tree.flatten(found)
  assert paths == list(want)
  for name, value in zip(paths, values, strict=True):
    assert tree.bits(value).tobytes() == want[name][2], name
  assert not checkpoint.verify(path, owner, verify_key=key)


@by_name
def test_altered_checkpoints_are_refused(case: dict[str, Any]) -> None:
  header = json.dumps(case["header"]).encode()
  line = case["verify_key"]
  verify_key = read_keys.public_key(line) if line else None
  for name in ("manifest", "signature", "000000"):
    if name == "signature" and not line:
      continue
    data = bytearray(octets(case["arrays"][name]))
    data[100] ^= 1
    rows = rows_of(case, **{name: bytes(data)})
    with pytest.raises(Refused):
      read_sealed.open_checkpoint(header, rows, OWNER, verify_key)
  other = next(x for x in CHECKPOINTS if x is not case)
  with pytest.raises(Refused):
    read_sealed.open_checkpoint(header, rows_of(other), OWNER)
