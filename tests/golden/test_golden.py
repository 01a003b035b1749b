"""Files written by earlier versions open unchanged.

`70c8ca2.tar.gz` holds what `make.py` wrote in a checkout of that commit: keys
of every scheme with parameters they locked, private keys of every kind,
envelopes, a keyring, shares, sealed bytes, checkpoints and the folder of a run.
All of its secrets were made for these tests and protect nothing.
"""

import json
import pathlib
import shutil
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import main
from experiments.run.config import base, scheme, set_schemes
from keyjax import Secret, checkpoint, keyring, keys, seal, tree
from tests.golden import archives

HERE = pathlib.Path(__file__).parent
PASSPHRASE = "correct horse battery staple"
SCHEMES = (
  "deep_lock_chain",
  "deep_lock_chain_256",
  "deep_lock_counter",
  "adv_params",
  "hpnn",
  "keyed_noise",
  "shf",
  "np",
  "ffx",
  "chain",
)
# Their keys depend on the secret alone; the others draw a nonce, or look at
# floating-point gradients.
DERIVED = ("deep_lock_chain", "deep_lock_chain_256", "hpnn", "shf", "np", "ffx")
KINDS = (
  "secret",
  "x25519",
  "mlkem768x25519",
  "rsa",
  "ed25519",
  "ml-dsa-65",
  "device",
)


class Net(nn.Module):
  """The model of the golden files."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.reshape(len(x), -1)
    x = nn.relu(nn.Dense(16, name="dense_0")(x))
    return nn.Dense(4, name="head")(x)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return archives.unpacked("70c8ca2", tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def root(golden: pathlib.Path) -> Secret:
  return Secret.load(golden / "root.hex")


def read_tree(path: pathlib.Path) -> Any:
  """Read nested dicts of arrays from an npz file of leaves by path."""
  made: dict[str, Any] = {}
  with np.load(path) as stored:
    for name in stored.files:
      *parents, last = name.split("/")
      node = made
      for parent in parents:
        node = node.setdefault(parent, {})
      node[last] = jnp.asarray(stored[name])
  return made


def make(name: str) -> keyjax.Scheme:
  apply = Net().apply
  return {
    "deep_lock_chain": lambda: keyjax.deep_lock(),
    "deep_lock_chain_256": lambda: keyjax.deep_lock(key_bits=256),
    "deep_lock_counter": lambda: keyjax.deep_lock("counter", key_bits=256),
    "adv_params": lambda: keyjax.adv_params(lambda variables, batch: 0.0),
    "hpnn": lambda: keyjax.hpnn(apply, units=16),
    "keyed_noise": lambda: keyjax.keyed_noise(),
    "shf": lambda: keyjax.pixel_shuffle("shf", 2),
    "np": lambda: keyjax.pixel_shuffle("np", 2),
    "ffx": lambda: keyjax.pixel_shuffle("ffx", 2),
    "chain": lambda: keyjax.chain(
      keyjax.keyed_noise(),
      keyjax.hpnn(apply, units=16),
      keyjax.deep_lock("counter"),
    ),
  }[name]()


def _unspent(key: Any) -> Any:
  one_time = isinstance(key, keys.OneTimeKey)
  return key.replace(opens_only=False) if one_time else key


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_key_opens_what_it_locked(
  name: str, golden: pathlib.Path
) -> None:
  folder = golden / "schemes"
  key = keys.load(folder / f"{name}.msgpack")
  plain = read_tree(folder / "plain.npz")
  locked = read_tree(folder / f"{name}.npz")
  made = make(name)
  assert tree.same_bits(made.decrypt(key, locked), plain)
  # These files do not say what their keys have encrypted.
  fresh = jax.tree.map(_unspent, key, is_leaf=lambda k: isinstance(k, keys.Key))
  assert tree.same_bits(made.encrypt(fresh, plain), locked)
  with np.load(folder / "batch.npz") as batch:
    image = jnp.asarray(batch["image"])
  logits = keyjax.authorize(made, key, Net().apply)(locked, image)
  want = np.load(folder / f"{name}.logits.npy")
  np.testing.assert_allclose(logits, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DERIVED)
def test_a_secret_gives_the_same_key(
  name: str, golden: pathlib.Path, root: Secret
) -> None:
  folder = golden / "schemes"
  with np.load(folder / "batch.npz") as stored:
    batch = {k: jnp.asarray(stored[k]) for k in stored.files}
  key = make(name).keygen(root, read_tree(folder / "plain.npz"), batch)
  assert tree.same_bits(key, keys.load(folder / f"{name}.msgpack"))


@pytest.mark.parametrize("form", ["plain.txt", "protected.json"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_private_key_is_read(
  kind: str, form: str, golden: pathlib.Path
) -> None:
  folder = golden / "keyring"
  source = f"file:{folder / kind}.{form}"
  key = keyring.read_key(source, PASSPHRASE)
  ids = json.loads((folder / "ids.json").read_text())
  found = keyring.as_identity(key) if kind == "secret" else key
  assert found.id == ids[kind]
  plain = (folder / f"{kind}.plain.txt").read_text().strip()
  assert keyring.format_key(key) == plain
  public = json.loads((folder / "public.json").read_text())
  if kind in ("ed25519", "ml-dsa-65"):
    verify_key = keyring.parse_verify_key(public[kind])
    assert keyring.format_verify_key(verify_key) == public[kind]
    assert verify_key == key.public
  elif kind in public:
    recipient = keyring.parse_recipient(public[kind])
    assert recipient.id == ids[kind]
    assert keyring.format_recipient(recipient) == public[kind]


@pytest.mark.parametrize("kind", ["x25519", "rsa"])
def test_a_pem_file_is_read(kind: str, golden: pathlib.Path) -> None:
  folder = golden / "keyring"
  key = keyring.read_key(f"file:{folder / kind}.pem.txt", PASSPHRASE)
  assert key.id == json.loads((folder / "ids.json").read_text())[kind]


def identities(golden: pathlib.Path, root: Secret) -> dict[str, Any]:
  folder = golden / "keyring"
  kinds = ("x25519", "mlkem768x25519", "rsa", "device")
  read = {k: keyring.read_key(f"file:{folder / k}.plain.txt") for k in kinds}
  kms = keyring.KmsKey(keyring.LocalKms(golden / "kms"), "team-a")
  return {**read, "secret": keyring.as_identity(root), "kms": kms}


def test_every_recipient_opens_an_envelope(
  golden: pathlib.Path, root: Secret
) -> None:
  envelope = (golden / "keyring/envelope.json").read_bytes()
  for kind, identity in identities(golden, root).items():
    opened = keyring.open_envelope(envelope, [identity])
    assert opened.data_key == bytes(range(32, 64)), kind
    assert opened.checkpoint == "model-a/7"
    assert opened.metadata == {"note": "golden"}
    assert opened.created == "2026-01-01T00:00:00Z"
  outside = keyring.inspect_envelope(envelope)
  assert outside["revoked"] == ["aes:0000-0000-0000-0000"]


def test_a_passphrase_opens_an_envelope(golden: pathlib.Path) -> None:
  envelope = (golden / "keyring/envelope_passphrase.json").read_bytes()
  cost = keyring.Cost(19456, 1, 1)
  opened = keyring.open_envelope(
    envelope, [keyring.Passphrase(PASSPHRASE, cost)]
  )
  assert opened.data_key == bytes(range(32, 64))


def test_a_keyring_is_read(golden: pathlib.Path, root: Secret) -> None:
  folder = golden / "keyring"
  want = json.loads((folder / "ring.json").read_text())
  ring = keyring.Keyring.load(folder / "team-a.keyring", root, "team-a")
  entries = [[e.id, e.status, e.recipient_id] for e in ring.entries]
  assert entries == want["entries"]
  assert [[g.name, g.withdrawn] for g in ring.licensees] == want["licensees"]
  assert ring.recipient().id == want["primary"]
  assert ring.licensee("lab").id == want["lab"]


def test_shares_restore_a_secret(golden: pathlib.Path, root: Secret) -> None:
  shares = (golden / "keyring/shares.txt").read_text().splitlines()
  assert keyring.combine_shares(shares[1:], "golden") == root


def test_sealed_bytes_and_trees_open(
  golden: pathlib.Path, root: Secret
) -> None:
  long = (golden / "sealed.bin").read_bytes()
  assert seal.unseal(bytes(range(32)), long, b"context") == b"golden" * 5000
  short = (golden / "sealed_128.bin").read_bytes()
  assert seal.unseal(bytes(range(16)), short, b"context") == b"golden"
  plain = read_tree(golden / "schemes/plain.npz")
  sealed = read_tree(golden / "sealed_tree.npz")
  shapes = jax.eval_shape(lambda: plain)
  opened = seal.unseal_tree(root, sealed, shapes, b"model-a")
  assert tree.same_bits(opened, plain)


def leaves(found: Any) -> dict[str, np.ndarray]:
  paths, values, _ = tree.flatten(found)
  return {p: np.asarray(v) for p, v in zip(paths, values, strict=True)}


def same_leaves(found: Any, stored: pathlib.Path) -> None:
  with np.load(stored) as want:
    got = leaves(found)
    assert set(got) == set(want.files)
    for name in want.files:
      # NumPy stores bfloat16 as two raw bytes.
      assert got[name].tobytes() == want[name].tobytes(), name
      assert got[name].shape == want[name].shape, name


def test_a_signed_checkpoint_opens(golden: pathlib.Path, root: Secret) -> None:
  path = golden / "checkpoint_signed"
  text = json.loads((golden / "keyring/public.json").read_text())["ed25519"]
  verify_key = keyring.parse_verify_key(text)
  ring = keyring.Keyring.load(golden / "keyring/team-a.keyring", root)
  readers = [
    keyring.as_identity(root),
    identities(golden, root)["x25519"],
    ring.identities(),
  ]
  for reader in readers:
    found = checkpoint.restore(path, reader, step=7, verify_key=verify_key)
    same_leaves(found, golden / "state.npz")
  assert str(found["half"].dtype) == "bfloat16"
  assert checkpoint.read_metadata(path, readers[0]) == {"by": "golden"}
  assert not list(checkpoint.verify(path, readers[0], verify_key=verify_key))


def test_a_licensed_checkpoint_opens_and_is_traced(
  golden: pathlib.Path, root: Secret
) -> None:
  path = golden / "checkpoint_licensed"
  ring = keyring.Keyring.load(golden / "keyring/team-a.keyring", root)
  lab = ring.licensee("lab").recipient()
  with np.load(golden / "state.npz") as want:
    for reader in (lab, keyring.as_identity(root)):
      found = checkpoint.restore(path, reader)["kernel"]
      assert np.asarray(found).tobytes() == want["kernel"].tobytes()
  assert checkpoint.trace(path, ring) == "lab"


def test_a_plain_checkpoint_opens(golden: pathlib.Path) -> None:
  found = checkpoint.restore_plain(golden / "checkpoint_plain")
  with np.load(golden / "state.npz") as want:
    for name, leaf in found.items():
      assert np.asarray(leaf).tobytes() == want[name].tobytes()
  assert set(found) == {"kernel", "half", "small"}


def test_a_manager_continues(
  golden: pathlib.Path, root: Secret, tmp_path: pathlib.Path
) -> None:
  folder = shutil.copytree(golden / "manager", tmp_path / "manager")
  owner = keyring.as_identity(root)
  with checkpoint.Manager(
    folder, recipients=[owner], identities=[owner]
  ) as manager:
    assert manager.latest_step() == 3
    like = {"w": jnp.zeros((4,), jnp.float32)}
    np.testing.assert_array_equal(manager.restore(like)["w"], np.full(4, 3.0))


def test_a_run_resumes(golden: pathlib.Path, tmp_path: pathlib.Path) -> None:
  folder = shutil.copytree(golden / "run", tmp_path / "run")
  shutil.copytree(golden / "run.keys", tmp_path / "run.keys")
  want = json.loads((folder / "results.json").read_text())
  for label in ("deep_lock", "hpnn"):  # Restored, decrypted and judged again.
    (folder / label / "outcome.json").unlink()
  config = base()
  config.name = "golden"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs = 1.0
  config.num_train = 400
  config.num_test = 200
  config.evaluate.wrong_keys = 4
  config.evaluate.distance_keys = 1
  config.evaluate.wrong_images = 100
  set_schemes(
    config,
    deep_lock=scheme("deep_lock", int8=True),
    hpnn=scheme("hpnn", units=16),
  )
  rows = main.run(config, str(folder))
  # Wrong keys are drawn from the operating system, times are measured.
  repeatable = [r for r in want if not _varies(r)]
  assert len(repeatable) > 10
  found = {_name(r): r["value"] for r in rows}
  for row in repeatable:
    assert found[_name(row)] == pytest.approx(row["value"]), _name(row)
  # Later releases add these, and nothing else.
  added = {
    (label, metric, "", None)
    for label in ("deep_lock", "hpnn")
    for metric in ("key_bits", "compressed_share", "repeated_blocks")
  }
  assert set(found) == {_name(r) for r in want} | added


def _varies(row: dict[str, Any]) -> bool:
  return row["condition"] in ("wrong", "near") or "seconds" in row["metric"]


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
  return (
    row["scheme"],
    row["metric"],
    row["condition"],
    row.get("distance"),
  )
