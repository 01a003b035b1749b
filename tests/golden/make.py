"""Write the golden files of commit 70c8ca2.

    git worktree add old 70c8ca2 && cd old
    python ../tests/golden/make.py FOLDER/70c8ca2
    tar czf ../tests/golden/70c8ca2.tar.gz -C FOLDER 70c8ca2

It calls the library as it was at that commit, so it runs in its checkout only.
All secrets in it are for these tests.
"""

import json
import os
import pathlib
import shutil
import sys


def write(out: pathlib.Path) -> None:
  import flax.linen as nn
  import jax
  import jax.numpy as jnp
  import ml_dtypes
  import numpy as np
  from cryptography.hazmat.primitives.asymmetric import rsa

  import keyjax
  from keyjax import Secret, checkpoint, keyring, keys, seal, tree

  shutil.rmtree(out, ignore_errors=True)
  out.mkdir(parents=True)
  root = Secret(bytes(range(32)))
  (out / "root.hex").write_text(bytes(range(32)).hex() + "\n")
  rng = np.random.default_rng(0)

  # 1. scheme keys, locked trees
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = x.reshape(len(x), -1)
      x = nn.relu(nn.Dense(16, name="dense_0")(x))
      return nn.Dense(4, name="head")(x)

  model = Net()
  x = jnp.asarray(rng.random((8, 4, 4, 3)), jnp.float32)
  label = jnp.asarray(rng.integers(0, 4, 8))
  batch = {"image": x, "label": label}
  params = model.init(jax.random.key(0), x)
  params = jax.tree.map(
    lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params
  )

  def loss(variables, batch):
    logits = model.apply(variables, batch["image"])
    return (
      -(jax.nn.log_softmax(logits) * jax.nn.one_hot(batch["label"], 4))
      .sum(-1)
      .mean()
    )

  schemes = {
    "deep_lock_chain": keyjax.deep_lock(),
    "deep_lock_chain_256": keyjax.deep_lock(key_bits=256),
    "deep_lock_counter": keyjax.deep_lock("counter", key_bits=256),
    "adv_params": keyjax.adv_params(loss, loss_threshold=50.0),
    "hpnn": keyjax.hpnn(model.apply, units=16),
    "keyed_noise": keyjax.keyed_noise(),
    "shf": keyjax.pixel_shuffle("shf", 2),
    "np": keyjax.pixel_shuffle("np", 2),
    "ffx": keyjax.pixel_shuffle("ffx", 2),
    "chain": keyjax.chain(
      keyjax.keyed_noise(),
      keyjax.hpnn(model.apply, units=16),
      keyjax.deep_lock("counter"),
    ),
  }

  def save_tree(path, t):
    paths, leaves, _ = tree.flatten(t)
    np.savez(
      path, **{p: np.asarray(v) for p, v in zip(paths, leaves, strict=True)}
    )

  (out / "schemes").mkdir()
  save_tree(out / "schemes/plain.npz", params)
  np.savez(
    out / "schemes/batch.npz", image=np.asarray(x), label=np.asarray(label)
  )
  for name, scheme in schemes.items():
    key = scheme.keygen(root, params, batch)
    keys.save(out / f"schemes/{name}.msgpack", key)
    save_tree(out / f"schemes/{name}.npz", scheme.encrypt(key, params))
    logits = keyjax.authorize(scheme, key, model.apply)(
      scheme.encrypt(key, params), x
    )
    np.save(out / f"schemes/{name}.logits.npy", np.asarray(logits))

  # 2. key files
  kr = out / "keyring"
  kr.mkdir()
  cheap = keyring.Cost(19456, 1, 1)
  private = {
    "secret": root,
    "x25519": keyring.HpkePrivateKey.generate("x25519"),
    "mlkem768x25519": keyring.HpkePrivateKey.generate("mlkem768x25519"),
    "rsa": keyring.RsaIdentity(
      rsa.generate_private_key(public_exponent=65537, key_size=3072)
    ),
    "ed25519": keyring.SigningKey.generate("ed25519"),
    "ml-dsa-65": keyring.SigningKey.generate("ml-dsa-65"),
  }
  broadcast = keyring.Broadcast(root, depth=4).revoke([3])
  private["device"] = broadcast.device(7)
  public = {}
  for name, key in private.items():
    (kr / f"{name}.plain.txt").write_text(keyring.format_key(key) + "\n")
    (kr / f"{name}.protected.json").write_text(
      keyring.protect_key(key, "correct horse battery staple", cheap) + "\n"
    )
    if name in ("x25519", "rsa"):
      (kr / f"{name}.pem.txt").write_text(
        keyring.export_pem(key, "correct horse battery staple")
      )
    if name in ("x25519", "mlkem768x25519"):
      public[name] = keyring.format_recipient(key.public)
    if name == "rsa":
      public[name] = keyring.format_recipient(key.public)
    if name in ("ed25519", "ml-dsa-65"):
      public[name] = keyring.format_verify_key(key.public)
  (kr / "public.json").write_text(json.dumps(public, indent=1) + "\n")
  ids = {n: k.id for n, k in private.items() if hasattr(k, "id")}
  ids["secret"] = keyring.as_identity(root).id
  # 3. envelopes
  data_key = bytes(range(32, 64))
  kms = keyring.LocalKms(out / "kms")
  kms.create("team-a")
  kmskey = keyring.KmsKey(kms, "team-a")
  ids["kms"] = kmskey.id
  rcp = [
    keyring.as_identity(root),
    private["x25519"].public,
    private["mlkem768x25519"].public,
    keyring.parse_recipient(public["rsa"]),
    broadcast,
    kmskey,
  ]
  rcp[1] = keyring.Expiring(rcp[1], "2099-01-01T00:00:00Z")
  env = keyring.seal_envelope(
    data_key,
    rcp,
    checkpoint="model-a/7",
    created="2026-01-01T00:00:00Z",
    extra={"note": "golden"},
    revoked=["aes:0000-0000-0000-0000"],
  )
  (kr / "envelope.json").write_bytes(env)
  env = keyring.seal_envelope(
    data_key,
    [keyring.Passphrase("correct horse battery staple", cheap)],
    checkpoint="model-a/8",
  )
  (kr / "envelope_passphrase.json").write_bytes(env)
  (kr / "ids.json").write_text(json.dumps(ids, indent=1) + "\n")
  # 4. a keyring
  ring = keyring.Keyring.create(kr / "team-a.keyring", root, "team-a")
  ring.rotate()
  lab = ring.issue("lab")
  ring.issue("gone")
  ring.withdraw("gone")
  ring.add()
  ring.disable(ring.entries[0].id)
  (kr / "ring.json").write_text(
    json.dumps(
      {
        "entries": [[e.id, e.status, e.recipient_id] for e in ring.entries],
        "licensees": [[g.name, g.withdrawn] for g in ring.licensees],
        "primary": ring.recipient().id,
        "lab": lab.id,
      },
      indent=1,
    )
    + "\n"
  )
  (kr / "team-a.keyring.lock").unlink(missing_ok=True)
  # 5. shares
  (kr / "shares.txt").write_text(
    "\n".join(keyring.split(root, 2, 3, "golden")) + "\n"
  )
  # 6. sealed bytes and trees
  (out / "sealed.bin").write_bytes(
    seal.seal(bytes(range(32)), b"golden" * 5000, b"context")
  )
  (out / "sealed_128.bin").write_bytes(
    seal.seal(bytes(range(16)), b"golden", b"context")
  )
  save_tree(out / "sealed_tree.npz", seal.seal_tree(root, params, b"model-a"))
  # 7. checkpoints
  state = {
    "kernel": rng.normal(size=(40, 60)).astype(np.float32),
    "half": rng.normal(size=(5,)).astype(ml_dtypes.bfloat16),
    "small": rng.integers(-128, 127, (3, 4)).astype(np.int8),
    "nested": {
      "list": [np.arange(3, dtype=np.int32), np.float32(2.5)],
      "empty": {},
    },
    "names": {
      "a.b": np.ones((2,), np.float32),
      "a[0]%": np.zeros((1,), np.uint16),
    },
  }
  save_tree(out / "state.npz", state)
  signer = private["ed25519"].private
  checkpoint.save(
    out / "checkpoint_signed",
    jax.tree.map(jnp.asarray, state),
    [keyring.as_identity(root), private["x25519"].public, ring.recipient()],
    step=7,
    metadata={"by": "golden"},
    signer=signer,
  )
  checkpoint.save(
    out / "checkpoint_licensed",
    {"kernel": jnp.asarray(state["kernel"])},
    [lab.recipient()],
    salt=lab.salt,
  )
  checkpoint.rewrap(
    out / "checkpoint_licensed",
    lab.recipient(),
    [lab.recipient(), keyring.as_identity(root)],
  )
  checkpoint.save_plain(
    out / "checkpoint_plain",
    {k: jnp.asarray(state[k]) for k in ("kernel", "half", "small")},
  )
  m = checkpoint.Manager(
    out / "manager",
    recipients=[keyring.as_identity(root)],
    identities=[keyring.as_identity(root)],
    keep=2,
  )
  for step in (1, 2, 3):
    m.save(step, {"w": jnp.full((4,), step, jnp.float32)})
  m.close()


def write_run(out: pathlib.Path) -> None:
  from experiments import main
  from experiments.config import base, scheme, set_schemes

  c = base()
  c.name = "golden"
  c.model = "mlp"
  c.model_args.hidden = (16,)
  c.train.epochs = 1.0
  c.num_train = 400
  c.num_test = 200
  c.evaluate.wrong_keys = 4
  c.evaluate.distance_keys = 1
  c.evaluate.wrong_images = 100
  set_schemes(
    c, deep_lock=scheme("deep_lock", int8=True), hpnn=scheme("hpnn", units=16)
  )
  main.run(c, str(out / "run"))
  (out / "run/report.html").unlink()  # Large, and never read again.
  for folder in (out / "run").glob("*/tensorboard"):
    shutil.rmtree(folder)


if __name__ == "__main__":
  os.umask(0o077)
  folder = pathlib.Path(sys.argv[1])
  write(folder)
  write_run(folder)
