"""Public keys as one line of text: what a recipient sends to an owner."""

from keyjax.keyring.recipients.hpke import KINDS, HpkePublicKey
from keyjax.keyring.recipients.rsa import RSA, RsaRecipient
from keyjax.keyring.tagged import read_tagged, write_tagged

PublicKey = HpkePublicKey | RsaRecipient


def format_recipient(recipient: PublicKey) -> str:
  """Returns `keyjax-KIND:BASE64`, with a checksum of four bytes.

  Example:
    >>> from keyjax.keyring import HpkePrivateKey
    >>> public = HpkePrivateKey.generate("x25519").public
    >>> text = format_recipient(public)
    >>> text[:14], parse_recipient(text) == public
    ('keyjax-x25519:', True)
  """
  return write_tagged(recipient.kind, recipient.data)


def parse_recipient(text: str) -> PublicKey:
  """Reads what `format_recipient` returned.

  Raises:
    KeyringError: it is not one, of an unknown kind, or misread.
  """
  kind, data = read_tagged(text, (*KINDS, RSA), "a recipient")
  return RsaRecipient(data) if kind == RSA else HpkePublicKey(kind, data)
