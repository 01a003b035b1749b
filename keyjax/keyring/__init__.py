"""Keys of a team: recipients, envelopes, hierarchy, rotation and backup.

A *root secret* opens a keyring; the keyring's *key encryption keys*, one
primary, wrap *data keys*, one for each checkpoint; a data key gives one key for
each leaf and purpose. An *envelope* holds a data key wrapped for any number of
*recipients*, each of whom opens it alone.

    root = Secret.generate()
    ring = Keyring.create("team-a.keyring", root, "team-a")
    colleague = parse_recipient("keyjax-mlkem768x25519:...")
    envelope = seal_envelope(
      new_data_key(), [ring.recipient(), colleague], checkpoint="model-a/1000")

**Rotate or revoke.** `rewrap` writes a new envelope around the same data key:
right when somebody joins, or a key encryption key is rotated on schedule, and
done in milliseconds whatever the checkpoint's size. It is not enough when
somebody must lose access: they may hold the old envelope, or the data key
itself, and both open the old ciphertext for ever. Revocation therefore encrypts
the data again under a new data key, and even that protects only against those
who kept no copy of the old one. Where licensees are very many and checkpoints
keep coming, `Broadcast` shuts the revoked out of the next data key instead.

What an attacker can and cannot do:

- *With an envelope or a keyring file, and no key*: read the checkpoint's id,
  the ids of recipients, sizes; for `Broadcast` who is revoked. Destroy or hide
  the file. Not read a key, not change, add or remove a recipient unnoticed.
  Guess a passphrase at the price of Argon2id a guess. Not make the reader use
  much memory, nor learn from its errors which key or passphrase came near.
- *With write access to the storage*: put an older, whole envelope or keyring in
  the place of a newer one: statuses and recipients of that day are back. Write
  an envelope of their own for anybody whose public key they know. Signatures
  over the checkpoint, and a version that the reader expects, are the answer.
- *With a recipient's private key*: open everything wrapped for it, also what
  was recorded earlier: envelopes have no forward secrecy. Write envelopes as
  this recipient could.
- *With an old key encryption key*: open every envelope that was wrapped under
  it and is still to be had. Disabling a key stops KeyJAX from using it, not
  the thief.
- *With the root secret*: open every version of every keyring file they get.
- *With a quantum computer, later*: open stanzas of X25519 and RSA, not those of
  the hybrid, of symmetric keys, passphrases and `Broadcast`.
- *With the host while it opens*: everything that passes through it. Nothing
  here protects memory; `sources` says what is cleared.

Each module adds its own *Guarantees* and *Known breaks*.
"""

from keyjax.errors import CannotOpen, KeyringError, WrongPassphrase
from keyjax.keyring.data_keys import leaf_key, new_data_key
from keyjax.keyring.entries import Entry, Grant
from keyjax.keyring.envelope import (
  Opened,
  inspect_envelope,
  open_envelope,
  rewrap,
  seal_envelope,
)
from keyjax.keyring.kept import kept
from keyjax.keyring.keyfile import (
  PrivateKey,
  as_identity,
  export_pem,
  format_key,
  parse_key,
  protect_key,
)
from keyjax.keyring.licensees import Licensee, trace
from keyjax.keyring.recipients.base import (
  Expiring,
  Identity,
  Recipient,
  Stanza,
  SymmetricKey,
)
from keyjax.keyring.recipients.broadcast import Broadcast, DeviceKeys, cover
from keyjax.keyring.recipients.hpke import HpkePrivateKey, HpkePublicKey
from keyjax.keyring.recipients.kms import Kms, KmsKey, LocalKms
from keyjax.keyring.recipients.passphrase import Cost, Passphrase
from keyjax.keyring.recipients.public import (
  PublicKey,
  format_recipient,
  parse_recipient,
)
from keyjax.keyring.recipients.rsa import RsaIdentity, RsaRecipient
from keyjax.keyring.ring import Keyring
from keyjax.keyring.shares import restore, split
from keyjax.keyring.signing import (
  SigningKey,
  VerifyKey,
  format_verify_key,
  parse_verify_key,
)
from keyjax.keyring.sources import read_key, read_source, wipe, write_key
from keyjax.private_files import refuse_checkpoint_folder

__all__ = [
  "Broadcast",
  "CannotOpen",
  "Cost",
  "DeviceKeys",
  "Entry",
  "Expiring",
  "Grant",
  "HpkePrivateKey",
  "HpkePublicKey",
  "Identity",
  "Keyring",
  "KeyringError",
  "Kms",
  "KmsKey",
  "Licensee",
  "LocalKms",
  "Opened",
  "Passphrase",
  "PrivateKey",
  "PublicKey",
  "Recipient",
  "RsaIdentity",
  "RsaRecipient",
  "SigningKey",
  "Stanza",
  "SymmetricKey",
  "VerifyKey",
  "WrongPassphrase",
  "as_identity",
  "cover",
  "export_pem",
  "format_key",
  "format_recipient",
  "format_verify_key",
  "inspect_envelope",
  "kept",
  "leaf_key",
  "new_data_key",
  "open_envelope",
  "parse_key",
  "parse_recipient",
  "parse_verify_key",
  "protect_key",
  "read_key",
  "read_source",
  "refuse_checkpoint_folder",
  "restore",
  "rewrap",
  "seal_envelope",
  "split",
  "trace",
  "wipe",
  "write_key",
]
