"""Keys of a team: recipients, envelopes, hierarchy, rotation and backup.

A *root secret* opens a keyring; the *key encryption keys* of the keyring, one
of them primary, wrap *data keys*, one for each checkpoint; from a data key, one
key is derived for each leaf and purpose. An *envelope* contains a data key
wrapped for any number of *recipients*, each of whom can open it alone.

    root = Secret.generate()
    ring = Keyring.create("team-a.keyring", root, "team-a")
    colleague = parse_recipient("keyjax-mlkem768x25519:...")
    envelope = seal_envelope(
      new_data_key(), [ring.recipient(), colleague], checkpoint="model-a/1000")

**Rotate or revoke.** `rewrap_envelope` writes a new envelope for the same data
key: the right operation to add a recipient, or to rotate a key encryption key
on schedule. It takes milliseconds, whatever the size of the checkpoint. It is
not enough to revoke access: a former recipient may have kept the old envelope
or the data key, and either opens the old ciphertext for ever. Revocation
therefore encrypts the data again under a new data key, and even that protects
only against recipients who kept no copy of the old data. For very many
licensees and frequent checkpoints, `Broadcast` excludes the revoked from the
next data key instead. To disable a key for good after wrong attempts, keep it
in a device that counts them: `TpmKey`, `Pkcs11Key` (see `hardware`).

What an attacker can and cannot do:

- *With an envelope or a keyring file, and no key*: read the id of the
  checkpoint, the ids of recipients and of the revoked, and sizes; for
  `Broadcast` the numbers of the revoked. Destroy or hide the file. Guess a
  passphrase at the cost of Argon2id for each guess. They cannot read a key;
  change, add or remove a recipient unnoticed; make the reader use much memory;
  or learn from its errors which key or passphrase was nearly right.
- *With write access to the storage*: replace an envelope or keyring with a
  complete older version, which restores its statuses and recipients. Write an
  envelope of their own for anyone whose public key they know. Neither is
  detected here. A checkpoint of theirs is, by `verify_key`; an older one, or
  one of another run, by the expected step, name and run.
- *With a recipient's private key*: open everything wrapped for it, including
  what was recorded earlier: envelopes have no forward secrecy. Write envelopes
  as this recipient could.
- *With an old key encryption key*: open every envelope that was wrapped under
  it and still exists. Disabling a key stops KeyJAX from using it, not the
  attacker.
- *With the root secret*: open every version of every keyring file they get.
- *With a future quantum computer*: open stanzas of X25519, P-256 and RSA, not
  those of the hybrid, of symmetric keys, passphrases and `Broadcast`.
- *With control of the host during decryption*: see everything it handles.
  Nothing here protects memory; `key_sources` says what is cleared.

Each module adds its own *Guarantees* and *Known breaks*.
"""

from keyjax.errors import (
  ApprovalNeeded,
  CannotOpen,
  KeyringError,
  ReleaseRefused,
  ReleaseUnavailable,
  WrongPassphrase,
)
from keyjax.keyring.data_keys import leaf_key, new_data_key
from keyjax.keyring.entries import Entry, Grant
from keyjax.keyring.envelope import (
  Opened,
  inspect_envelope,
  open_envelope,
  seal_envelope,
)
from keyjax.keyring.hardware import HardwareKey
from keyjax.keyring.key_sources import read_key, read_source, wipe, write_key
from keyjax.keyring.keyfile import (
  PrivateKey,
  as_identity,
  export_pem,
  format_key,
  parse_key,
  protect_key,
)
from keyjax.keyring.licensees import Licensee, trace_licensee
from keyjax.keyring.recipients import (
  Argument,
  Expiring,
  Identity,
  KeyReader,
  Kind,
  Private,
  PublicKey,
  Recipient,
  Stanza,
  format_recipient,
  kind_of,
  kinds,
  parse_recipient,
  register,
)
from keyjax.keyring.recipients.broadcast import Broadcast, DeviceKeys, cover
from keyjax.keyring.recipients.hpke import HpkePrivateKey, HpkePublicKey
from keyjax.keyring.recipients.kms import Kms, KmsKey, LocalKms
from keyjax.keyring.recipients.passphrase import MAX_COST, Cost, Passphrase
from keyjax.keyring.recipients.pkcs11 import Pkcs11Key
from keyjax.keyring.recipients.release import ReleaseIdentity
from keyjax.keyring.recipients.rsa import RsaIdentity, RsaRecipient
from keyjax.keyring.recipients.symmetric import SymmetricKey
from keyjax.keyring.recipients.tpm import TpmKey, limit_tries
from keyjax.keyring.rewrap import existing_recipients, rewrap_envelope
from keyjax.keyring.ring import Keyring
from keyjax.keyring.shares import combine_shares, split_secret
from keyjax.keyring.signing import (
  SigningKey,
  VerifyKey,
  format_verify_key,
  parse_verify_key,
)
from keyjax.private_files import refuse_checkpoint_folder

__all__ = [
  "MAX_COST",
  "ApprovalNeeded",
  "Argument",
  "Broadcast",
  "CannotOpen",
  "Cost",
  "DeviceKeys",
  "Entry",
  "Expiring",
  "Grant",
  "HardwareKey",
  "HpkePrivateKey",
  "HpkePublicKey",
  "Identity",
  "KeyReader",
  "Keyring",
  "KeyringError",
  "Kind",
  "Kms",
  "KmsKey",
  "Licensee",
  "LocalKms",
  "Opened",
  "Passphrase",
  "Pkcs11Key",
  "Private",
  "PrivateKey",
  "PublicKey",
  "Recipient",
  "ReleaseIdentity",
  "ReleaseRefused",
  "ReleaseUnavailable",
  "RsaIdentity",
  "RsaRecipient",
  "SigningKey",
  "Stanza",
  "SymmetricKey",
  "TpmKey",
  "VerifyKey",
  "WrongPassphrase",
  "as_identity",
  "combine_shares",
  "cover",
  "existing_recipients",
  "export_pem",
  "format_key",
  "format_recipient",
  "format_verify_key",
  "inspect_envelope",
  "kind_of",
  "kinds",
  "leaf_key",
  "limit_tries",
  "new_data_key",
  "open_envelope",
  "parse_key",
  "parse_recipient",
  "parse_verify_key",
  "protect_key",
  "read_key",
  "read_source",
  "refuse_checkpoint_folder",
  "register",
  "rewrap_envelope",
  "seal_envelope",
  "split_secret",
  "trace_licensee",
  "wipe",
  "write_key",
]
