"""Sign a release, every file of it, as OpenSSF Model Signing has it.

A release is a folder: a sealed checkpoint and a card that anyone may read. The
owner signs both; everybody verifies them with the owner's public key and no
other, also by the command `model_signing` of OpenSSF, which knows no KeyJAX.

    pip install 'keyjax[signing]'
    python examples/sign_release.py --workdir=runs/sign_release

It takes about 4 s on two cores, and uses no network. The signature says where
the bytes come from. It hides nothing (sealing does), and it does not say that
the model is good.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from keyjax import checkpoint, keyring, signatures


def new_signing_key(path: pathlib.Path) -> bytes:
  """Write a private key to a new file; return the public key, as PEM."""
  key = ec.generate_private_key(ec.SECP256R1())
  path.touch(mode=0o600, exist_ok=False)
  path.write_bytes(
    key.private_bytes(
      serialization.Encoding.PEM,
      serialization.PrivateFormat.PKCS8,
      serialization.NoEncryption(),  # Give yours a passphrase.
    )
  )
  return key.public_key().public_bytes(
    serialization.Encoding.PEM,
    serialization.PublicFormat.SubjectPublicKeyInfo,
  )


def main(argv: Sequence[str] | None = None) -> None:
  """Sign a release, verify it, change it, and sign it again."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", help="new folder; a temporary one if absent")
  args = parser.parse_args(argv)
  workdir = pathlib.Path(args.workdir or tempfile.mkdtemp() + "/keyjax")
  workdir.mkdir(parents=True)

  release = workdir / "release"
  params = {"kernel": np.ones((64, 10), np.float32)}
  alice = keyring.HpkePrivateKey.generate("mlkem768x25519")
  keyring.write_key(workdir / "alice.key", alice, plain=True)
  checkpoint.save(release / "model", params, alice.public, step=1000)
  card = {"model": "net-a", "license": "for Alice"}
  (release / "card.json").write_text(json.dumps(card) + "\n")

  # The owner's private key signs; the public one is published.
  public_pem = new_signing_key(workdir / "signer.key")
  (workdir / "signer.pub.pem").write_bytes(public_pem)
  key = signatures.read_signing_key((workdir / "signer.key").read_bytes())
  signed = signatures.sign(release, workdir / "release.sig", key)
  print(f"signed {signed.files} files")

  # Everyone else has the release, its signature and the public key.
  public = signatures.read_public_key(public_pem)

  def verify(signature: str) -> None:
    try:
      signatures.verify(release, workdir / signature, key=public)
      print(f"{signature}: the release is what the owner signed")
    except signatures.ModelSignatureError as error:
      print(f"{signature}: refused: {error}")

  verify("release.sig")
  (release / "card.json").write_text("{}\n")
  verify("release.sig")
  (release / "card.json").write_text(json.dumps(card) + "\n")
  verify("release.sig")

  # A rewrap writes another envelope: the release needs another signature.
  bob = keyring.HpkePrivateKey.generate("x25519")
  keyring.write_key(workdir / "bob.key", bob, plain=True)
  checkpoint.rewrap(release / "model", alice, [alice.public, bob.public])
  verify("release.sig")
  signatures.sign(release, workdir / "release-2.sig", key)
  verify("release-2.sig")
  print(f"files: {workdir}")


if __name__ == "__main__":
  main()
