"""Write the format vectors: `python -m tests.formats.make [NAME ...]`.

What draws random bytes differs at each run, so the files are kept as they were
written, and a format that changes gets new cases. All secrets in them are for
these tests and protect nothing. `tests/vectors/formats/README.md` describes the
files.
"""

import base64
import json
import pathlib
import sys
import tempfile
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa

from keyjax import (
  adv_params,
  deep_lock,
  hpnn,
  keyed_noise,
  keyring,
  licensee_mark,
  pixel_shuffle,
  seal,
  secrets,
  tree,
)
from keyjax import keys as scheme_keys
from keyjax.keyring.encoding import dump
from keyjax.tiers.records import sub_key
from tests.formats.make_checkpoints import (
  DATA_KEY,
  ROOT,
  cases_of_checkpoints,
  text,
)
from tests.formats.vectors import FOLDER

PASSPHRASE = "correct horse battery staple"
CHEAP = keyring.Cost(19456, 1, 1)


def derivations() -> dict[str, Any]:
  labels = [("aes", 16), ("keyring/leaf/leaf/params/w", 32), ("ü", 100)]
  return {
    "secret": bytes(range(32)).hex(),
    "fingerprint": ROOT.fingerprint(),
    "derive": [[x, n, ROOT.derive(x, n).hex()] for x, n in labels],
    "stream": ["demo", 40, ROOT.stream("demo", 40).hex()],
    "bits": ["demo", 11, secrets.bits(ROOT, "demo", 11).tolist()],
    "permutation": ["demo", 9, secrets.permutation(ROOT, "demo", 9).tolist()],
  }


def sub_keys() -> dict[str, Any]:
  """Return stanzas of lower tiers, for those who open a higher one."""
  cases = []
  for name in ("base", "a", "expert-2_b", "x" * 64):
    lower = ROOT.child(name).derive("data", 32)
    key = sub_key(DATA_KEY, name)
    context = f"keyjax/envelope/1/{name[:8]}"
    cases.append(
      {
        "tier": name,
        "id": key.id,
        "context": context,
        "wrapped": key.wrap(lower, context.encode())["wrapped"],
        "data_key": lower.hex(),
      }
    )
  return {"data_key": DATA_KEY.hex(), "cases": cases}


def private_keys() -> dict[str, Any]:
  return {
    "secret": ROOT,
    "x25519": keyring.HpkePrivateKey.generate("x25519"),
    "mlkem768x25519": keyring.HpkePrivateKey.generate("mlkem768x25519"),
    "rsa": keyring.RsaIdentity(rsa.generate_private_key(65537, 2048)),
    "ed25519": keyring.SigningKey.generate("ed25519"),
    "ml-dsa-65": keyring.SigningKey.generate("ml-dsa-65"),
    "device": keyring.Broadcast(ROOT, depth=3).device(5),
  }


def key_files(private: dict[str, Any]) -> dict[str, Any]:
  cases = []
  for kind, key in private.items():
    raw = key._bytes if kind == "secret" else key.reveal()
    found = {"kind": kind, "raw": text(raw), "plain": keyring.format_key(key)}
    found["protected"] = keyring.protect_key(key, PASSPHRASE, CHEAP)
    if kind in ("ed25519", "ml-dsa-65"):
      found["public"] = keyring.format_verify_key(key.public)
    elif hasattr(key, "public"):
      found["public"] = keyring.format_recipient(key.public)
    cases.append(found)
  protected = json.loads(cases[0]["protected"])
  plain = cases[0]["plain"]
  spoiled = {
    "a wrong checksum": plain[:-6] + "AAAA" + plain[-2:],
    "an unknown kind": plain.replace("SECRET:", "MORSE:"),
    "too cheap a cost": dump(protected | {"memory": 8}).decode(),
    "too high a cost": dump(protected | {"passes": 17}).decode(),
    "another kind": dump(protected | {"kind": "ed25519"}).decode(),
    "another version": dump(protected | {"version": 2}).decode(),
    "another salt": dump(protected | {"salt": text(bytes(16))}).decode(),
    "not canonical": json.dumps(protected),
  }
  refused = [{"why": k, "text": v} for k, v in spoiled.items()]
  return {"passphrase": PASSPHRASE, "keys": cases, "refused": refused}


def envelopes(private: dict[str, Any]) -> dict[str, Any]:
  folder = tempfile.mkdtemp()
  kms = keyring.LocalKms(folder)
  kms.create("team-a")
  kms_secret = pathlib.Path(folder, "team-a.key").read_text().strip()
  kms_key = keyring.KmsKey(kms, "team-a")
  recipients = [
    keyring.as_identity(ROOT),
    keyring.Expiring(private["x25519"].public, "2999-01-01T00:00:00Z"),
    private["mlkem768x25519"].public,
    private["rsa"].public,
    keyring.Broadcast(ROOT, depth=3).revoke([2]),
    kms_key,
  ]
  full = keyring.seal_envelope(
    DATA_KEY,
    recipients,
    checkpoint="model-a/7",
    created="2026-01-01T00:00:00Z",
    metadata={"note": "vector \u00fc"},
    revoked=["aes:0000-0000-0000-0000"],
  )
  locked = keyring.seal_envelope(
    DATA_KEY, [keyring.Passphrase(PASSPHRASE, CHEAP)], checkpoint="model-a/8"
  )
  late = keyring.seal_envelope(
    DATA_KEY,
    [keyring.Expiring(keyring.as_identity(ROOT), "2020-01-01T00:00:00Z")],
    checkpoint="model-a/9",
  )
  only = json.loads(
    keyring.seal_envelope(
      DATA_KEY, [keyring.as_identity(ROOT)], checkpoint="model-a/7"
    )
  )
  stanza = only["recipients"][0]
  spoiled = {
    "another version": only | {"version": 2},
    "an unknown field": only | {"note": ""},
    "no mac": {k: v for k, v in only.items() if k != "mac"},
    "another mac": only | {"mac": text(bytes(32))},
    "another checkpoint": only | {"checkpoint": "model-a/8"},
    "revoked after it was sealed": only | {"revoked": ["aes:1"]},
    "no recipient": only | {"recipients": []},
    "a recipient twice": only | {"recipients": [stanza, stanza]},
    "another data key": only
    | {"recipients": [stanza | {"wrapped": text(bytes(40))}]},
    "base64 of another spelling": only | {"mac": only["mac"][:-2] + "B="},
    "a number as text": only | {"version": "1"},
    "a boolean as a number": only | {"version": True},
  }
  refused = [{"why": k, "text": dump(v).decode()} for k, v in spoiled.items()]
  valid = dump(only).decode()
  twice = valid.replace('"version":1', '"version":1,"version":1')
  refused += [
    {"why": "expired", "text": late.decode()},
    {"why": "a space", "text": valid.replace(":", ": ", 1)},
    {"why": "a field twice", "text": twice},
    {"why": "not an object", "text": f"[{valid}]"},
  ]
  return {
    "data_key": DATA_KEY.hex(),
    "secret": bytes(range(32)).hex(),
    "passphrase": PASSPHRASE,
    "kms": {"name": "team-a", "secret": kms_secret},
    "kinds": [r.id.partition(":")[0] for r in recipients],
    "metadata": {"note": "vector \u00fc"},
    "envelope": full.decode(),
    "with_passphrase": locked.decode(),
    "refused": refused,
  }


def keyrings() -> dict[str, Any]:
  path = pathlib.Path(tempfile.mkdtemp(), "ring")
  ring = keyring.Keyring.create(path, ROOT, "team-a")
  ring.rotate()
  ring.disable(ring.entries[0].id)
  lab = ring.issue("lab")
  return {
    "root": bytes(range(32)).hex(),
    "file": text(path.read_bytes()),
    "name": "team-a",
    "keys": [[e.id, e.status, e.primary, e.recipient_id] for e in ring.entries],
    "licensee": ["lab", lab.secret.fingerprint(), lab.salt().hex()],
  }


DTYPES = ("float32", "bfloat16", "float16", "int8", "float8_e4m3fn", "int32")


def plain_tree() -> dict[str, Any]:
  """Return leaves of every width, of lengths that fill no block."""
  found = {}
  for i, dtype in enumerate(DTYPES):
    size = 63 if jnp.dtype(dtype).itemsize == 1 else 84
    bits = np.frombuffer(ROOT.stream(f"leaf/{i}", size), np.uint8)
    values = bits.view(jnp.dtype(dtype)).reshape(-1, 7)
    found[dtype] = jnp.asarray(values)
  return {"b": found, "a": jnp.float32(1.5)}


def leaves_of(made: Any) -> list[list[Any]]:
  paths, leaves, _ = tree.flatten(made)
  return [
    [path, str(x.dtype), list(x.shape), np.asarray(x).tobytes().hex()]
    for path, x in zip(paths, leaves, strict=True)
  ]


def file_of(key: Any, params: Any = None) -> str:
  """Return the file of a key, which has encrypted `params`."""
  path = pathlib.Path(tempfile.mkdtemp(), "key")
  scheme_keys.save(path, key, unused=params is not None)
  if params is not None:
    scheme_keys.claim(path, params)
  return text(path.read_bytes())


def keystreams() -> dict[str, Any]:
  """Return trees under counter mode, the chain and keyed noise."""
  nonce = bytes(range(100, 112))
  made = {
    "deep_lock counter 128": deep_lock("counter", 128, nonce),
    "deep_lock counter 256": deep_lock("counter", 256, nonce),
    "deep_lock chain 128": deep_lock(),
    "deep_lock chain 256": deep_lock(key_bits=256),
    "keyed noise": keyed_noise("b/.*", nonce),
    "licensee mark": licensee_mark("b/.*", depth=2),
  }
  params = plain_tree()
  cases = []
  for name, scheme in made.items():
    key = scheme.keygen(ROOT, params, None)
    locked = leaves_of(scheme.encrypt(key, params))
    file = file_of(key, params)
    known = flax.serialization.msgpack_restore(base64.b64decode(file))
    digest = known["encrypts"].hex() or None
    cases.append(
      {"name": name, "key": file, "encrypts": digest, "locked": locked}
    )
  sealed = leaves_of(seal.seal_tree(ROOT, params, b"model-a"))
  return {
    "secret": bytes(range(32)).hex(),
    "plain": leaves_of(params),
    "cases": cases,
    "sealed": {"context": "model-a", "messages": {x[0]: x[3] for x in sealed}},
  }


def keys_of_schemes() -> dict[str, Any]:
  """Return a key of every scheme, with its fields."""
  import flax.linen as nn

  params = {"params": {"kernel": jnp.arange(6.0).reshape(2, 3)}}
  batch = {"image": jnp.ones((1, 2, 2, 1))}
  model = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
  x = jnp.ones((1, 2))
  loss = adv_params(lambda p, b: p["params"]["kernel"].mean(), max_params=4)
  made = {
    "deep_lock": deep_lock().keygen(ROOT, params, None),
    "adv_params": loss.keygen(ROOT, params, batch),
    "hpnn": hpnn(model.apply, units=8).keygen(
      ROOT, model.init(jax.random.key(0), x), {"image": x}
    ),
    "shf": pixel_shuffle("shf", 2).keygen(ROOT, {}, batch),
    "np": pixel_shuffle("np", 2).keygen(ROOT, {}, batch),
    "ffx": pixel_shuffle("ffx", 2).keygen(ROOT, {}, batch),
  }
  made["chain"] = (made["shf"], made["deep_lock"])
  cases = [
    {"name": n, "file": file_of(k), "fields": fields_of(k)}
    for n, k in made.items()
  ]
  return {"secret": bytes(range(32)).hex(), "cases": cases}


def fields_of(key: Any) -> Any:
  """Return a key as JSON: arrays as lists of numbers."""
  if isinstance(key, scheme_keys.Key):
    fields = {f: getattr(key, f) for f in key.__dataclass_fields__}  # type: ignore[attr-defined]
    return {"type": scheme_keys.type_name(type(key))} | fields_of(fields)
  if isinstance(key, dict):
    return {k: fields_of(v) for k, v in key.items()}
  if isinstance(key, tuple):
    return [fields_of(k) for k in key]
  return key if isinstance(key, str | int) else np.asarray(key).tolist()


def main(names: list[str]) -> None:
  private = private_keys()
  makers = {
    "derivations": derivations,
    "sub_keys": sub_keys,
    "key_files": lambda: key_files(private),
    "envelopes": lambda: envelopes(private),
    "keyrings": keyrings,
    "scheme_keys": keys_of_schemes,
    "keystreams": keystreams,
    "checkpoints": lambda: cases_of_checkpoints(private),
  }
  # Envelopes are for the keys of the key files: make these two together.
  for name in names or makers:
    content = json.dumps(makers[name](), indent=1)
    (FOLDER / f"{name}.json").write_text(f"{content}\n")


if __name__ == "__main__":
  main(sys.argv[1:])
