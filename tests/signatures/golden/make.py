"""Golden bundles, made by OpenSSF Model Signing itself.

`*.sig` are what `model_signing` wrote (version 1.1.1, with pyOpenSSL 26.4.0 and
cryptography 50.0.2): `sign key` and `sign certificate` for most, and the
library for digests that the command does not offer (blake2, blake3, shards).
The private keys were made for this and are not kept. To make them again, with
other keys:

  python -m venv ms && ms/bin/pip install model-signing==1.1.1 pyopenssl==26.4.0
  PATH=$PWD/ms/bin:$PATH ms/bin/python tests/signatures/golden/make.py

This file imports nothing of KeyJAX: the tool has an environment of its own.
"""

import datetime
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).parent
ARCHIVE = HERE.parent.parent / "golden" / "70c8ca2.tar.gz"
# Signed as they are: a plain and a sealed checkpoint of an earlier version.
CHECKPOINTS = ("checkpoint_plain", "checkpoint_signed")
# As a folder from Hugging Face.
MODEL = {
  ".gitattributes": b"*.safetensors filter=lfs\n",
  "README.md": b"# A model\n",
  "card.json": b'{"card": 1}\n',
  "config.json": b'{"layers": 1}\n',
  "model.safetensors": bytes(range(256)) * 5,
  "onnx/model.onnx": b"onnx",
}
CURVES = {"p256": "SECP256R1", "p384": "SECP384R1", "p521": "SECP521R1"}
HASHES: dict[str, tuple[str, dict[str, Any]]] = {
  "blake2": ("use_file_serialization", {"hashing_algorithm": "blake2"}),
  "blake3": ("use_file_serialization", {"hashing_algorithm": "blake3"}),
  "shards": ("use_shard_serialization", {"shard_size": 500}),
}


def write_model(folder: pathlib.Path) -> pathlib.Path:
  """Write the model's files; return their new folder, `folder/model`."""
  home = folder / "model"
  for name, data in MODEL.items():
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return home


def new_key(curve: str, folder: pathlib.Path, name: str) -> Any:
  """Make a key; write it to `folder/name.pem` and `name.pub.pem`."""
  from cryptography.hazmat.primitives import serialization as forms
  from cryptography.hazmat.primitives.asymmetric import ec

  key = ec.generate_private_key(getattr(ec, CURVES[curve])())
  pem = forms.Encoding.PEM
  private = key.private_bytes(
    pem, forms.PrivateFormat.PKCS8, forms.NoEncryption()
  )
  public = key.public_key().public_bytes(
    pem, forms.PublicFormat.SubjectPublicKeyInfo
  )
  opener = os.open(folder / f"{name}.pem", os.O_WRONLY | os.O_CREAT, 0o600)
  with open(opener, "wb") as file:
    file.write(private)
  (folder / f"{name}.pub.pem").write_bytes(public)
  return key


def certificate(
  name: str, key: Any, issuer: str, by: Any, **made: Any
) -> bytes:
  """Return a certificate as PEM.

  Args:
    name: Whose it is.
    key: Their private key.
    issuer: Who certifies them.
    by: The private key of these.
    **made: `is_authority`, whether they certify others, and `years`, first and
      last.
  """
  from cryptography import x509
  from cryptography.hazmat.primitives import hashes, serialization

  def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

  first, last = (
    datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    for year in made.get("years", (2025, 2065))
  )
  top = made["is_authority"]
  usage = dict.fromkeys(
    (
      "content_commitment",
      "key_encipherment",
      "data_encipherment",
      "key_agreement",
      "encipher_only",
      "decipher_only",
    ),
    False,
  )
  builder = (
    x509.CertificateBuilder()
    .subject_name(named(name))
    .issuer_name(named(issuer))
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(first)
    .not_valid_after(last)
    .add_extension(x509.BasicConstraints(top, None), critical=True)
    .add_extension(
      x509.KeyUsage(
        digital_signature=not top, key_cert_sign=top, crl_sign=top, **usage
      ),
      critical=True,
    )
  )
  one = builder.sign(by, hashes.SHA256())
  return one.public_bytes(serialization.Encoding.PEM)


def write_chain(folder: pathlib.Path) -> None:
  """Make root.pem, between.pem and leaf.pem, which has expired."""
  root = new_key("p384", folder, "root_key")
  between = new_key("p256", folder, "between_key")
  leaf = new_key("p256", folder, "leaf_key")
  old = (2025, 2026)
  for name, made in (
    ("root", certificate("Root", root, "Root", root, is_authority=True)),
    (
      "between",
      certificate("Between", between, "Root", root, is_authority=True),
    ),
    (
      "leaf",
      certificate(
        "Signer", leaf, "Between", between, is_authority=False, years=old
      ),
    ),
  ):
    (folder / f"{name}.pem").write_bytes(made)


def tool(*argv: Any) -> None:
  """Run `model_signing`."""
  subprocess.run(["model_signing", *map(str, argv)], check=True)


def main() -> None:
  """Make every golden file."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    model = write_model(folder)
    for curve in CURVES:
      new_key(curve, folder, curve)
      key = ("--private_key", folder / f"{curve}.pem")
      tool("sign", "key", model, *key, "--signature", HERE / f"{curve}.sig")
      public = (folder / f"{curve}.pub.pem").read_bytes()
      (HERE / f"{curve}.pub.pem").write_bytes(public)
    key = ("--private_key", folder / "p256.pem", "--signature")
    tool("sign", "key", model, *key, model / "model.sig")
    (model / "model.sig").rename(HERE / "in_folder.sig")
    tool("sign", "key", model / "config.json", *key, HERE / "file.sig")
    with tarfile.open(ARCHIVE) as archive:
      archive.extractall(folder, filter="tar")
    for one in CHECKPOINTS:
      tool("sign", "key", folder / "70c8ca2" / one, *key, HERE / f"{one}.sig")
    write_chain(folder)
    tool(
      *("sign", "certificate", model, "--signature", HERE / "chain.sig"),
      *("--private_key", folder / "leaf_key.pem"),
      *("--signing_certificate", folder / "leaf.pem"),
      *("--certificate_chain", folder / "between.pem"),
    )
    (HERE / "root.pem").write_bytes((folder / "root.pem").read_bytes())
    for label, (method, options) in HASHES.items():
      program = (
        "import sys; from model_signing import hashing, signing\n"
        f"how = hashing.Config().{method}(**{options!r})\n"
        "signing.Config().use_elliptic_key_signer(private_key=sys.argv[1])"
        ".set_hashing_config(how).sign(*sys.argv[2:])"
      )
      argv = [str(folder / "p256.pem"), str(model), str(HERE / f"{label}.sig")]
      subprocess.run([sys.executable, "-c", program, *argv], check=True)


if __name__ == "__main__":
  main()
