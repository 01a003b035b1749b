"""Write the golden checkpoint with tiers of commit 856cc60.

    git worktree add old 856cc60 && cd old
    PYTHONPATH=. python ../tests/golden/make_tiers.py FOLDER/856cc60_tiers
    tar czf ../tests/golden/856cc60_tiers.tar.gz -C FOLDER 856cc60_tiers

It calls the library as it was at that commit, so it runs in its checkout only.
All secrets in it are for these tests.
"""

import json
import os
import pathlib
import sys


def write(out: pathlib.Path) -> None:
  import jax.numpy as jnp
  import numpy as np

  from keyjax import Secret, keyring, tiers
  from keyjax.tiers import Tier

  out.mkdir(parents=True)
  keys = {
    "alice": keyring.HpkePrivateKey.generate("x25519"),
    "bob": Secret(bytes(range(32))),
    "carol": Secret(bytes(range(32, 64))),
    "signer": keyring.SigningKey.generate(),
  }
  for name, key in keys.items():
    (out / f"{name}.txt").write_text(f"{keyring.format_key(key)}\n")
  bob, carol = map(keyring.as_identity, (keys["bob"], keys["carol"]))
  leaves = {
    "block": {
      "expert": np.arange(6, dtype=np.float32).reshape(2, 3),
      "w": np.arange(-4, 4, dtype=np.int8),
    },
    "head": np.asarray([1.5, -2.0], np.float16),
    "step": np.int32(7),
  }
  parts = {"block/expert": leaves["block"]["expert"]}
  parts |= {"block/w": leaves["block"]["w"]}
  parts |= {name: leaves[name] for name in ("head", "step")}
  np.savez(out / "leaves.npz", **parts)
  tiers.save(
    out / "model",
    {
      "block": {k: jnp.asarray(v) for k, v in leaves["block"].items()},
      "head": jnp.asarray(leaves["head"]),
      "step": jnp.asarray(leaves["step"]),
    },
    [
      Tier("expert", "block/expert", [keys["alice"].public], opens=["base"]),
      Tier("head", "head", [bob]),
      Tier("base", ".*", [carol]),
    ],
    step=7,
    name="golden",
    run="one",
    metadata={"by": "golden"},
    signer=keys["signer"].private,
  )
  # Of this tier the folder has a new name.
  tiers.reencrypt(
    out / "model", bob, {"head": [bob]}, signer=keys["signer"].private
  )
  public = keyring.format_verify_key(keys["signer"].public)
  (out / "verify_key.txt").write_text(f"{public}\n")
  index = tiers.index.read_index(out / "model")
  expected = {"id": index.id, "tiers": index.folders}
  (out / "index.json").write_text(json.dumps(expected, indent=1))


if __name__ == "__main__":
  os.umask(0o077)
  write(pathlib.Path(sys.argv[1]))
