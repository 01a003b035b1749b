r"""Signatures of whole models, as OpenSSF Model Signing has them.

A signature is a file of its own beside the model, or in its folder: a Sigstore
bundle with one DSSE envelope, whose in-toto statement lists the digest of every
file. The library `model-signing` makes and checks it (`pip install
'keyjax[signing]'`), so that its command `model_signing` accepts what is made
here, and what it made is accepted here. Nothing is sent over the network.

    key = read_signing_key(pem)
    sign("model-1", "model-1.sig", key)
    verify("model-1", "model-1.sig", key=key.public_key())

The model is a file or a folder: a sealed or plain checkpoint, files from
Hugging Face, or a folder with a checkpoint and its card.

**Guarantees.** What verifies has the names and the bytes that the holder of the
signing key signed: no file was added, removed, changed or renamed. A link, or
what is no file, is refused. Bundles are untrusted: their size is checked before
they are read, and their form before the library sees them.

**Known breaks.**

- A signature says where bytes come from. It does not say that a model is good
  or safe, and hides nothing: a plain checkpoint stays readable.
- Of a sealed checkpoint the ciphertext and the envelope are signed. Whoever can
  open it and sign can replace it; a rewrap changes the envelope, and needs a
  new signature.
- An older version of a model, with its signature, still verifies.
- Files that a bundle says it ignores are not covered: git's, and what the
  signer chose. `Verified.uncovered` names those that are there. Names of empty
  folders are not covered either.
- In certificate mode anyone whom the authority certified is accepted. The chain
  is checked as of the day when the certificate became valid: expiry and
  revocation are not looked at. Trust an authority that only certifies signers,
  and read `Verified.signer`.

References:
  OpenSSF, "Model Signing Specification" v1.0, 2025.
  Secure Systems Lab, "DSSE: Dead Simple Signing Envelope" v1.0.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.signatures import bundle
  from keyjax.signatures.errors import Difference, ModelSignatureError
  from keyjax.signatures.public_keys import (
    read_certificates,
    read_public_key,
    read_signing_key,
  )
  from keyjax.signatures.signing import Signed, sign
  from keyjax.signatures.verifying import Verified, verify

__all__ = [
  "Difference",
  "ModelSignatureError",
  "Signed",
  "Verified",
  "bundle",
  "read_certificates",
  "read_public_key",
  "read_signing_key",
  "sign",
  "verify",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "errors": ("Difference", "ModelSignatureError"),
    "public_keys": (
      "read_certificates",
      "read_public_key",
      "read_signing_key",
    ),
    "signing": ("Signed", "sign"),
    "verifying": ("Verified", "verify"),
  },
)
