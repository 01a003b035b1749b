"""Backup: a secret as n shares of words, any k of which restore it.

SLIP-39 by `shamir-mnemonic`, the reference implementation: Shamir's scheme over
GF(256), 33 words for each share of a 256-bit secret, with a checksum that
detects misread words. Hardware wallets read the same words.

**Guarantees.** Fewer than k shares contain no information about the secret.

**Known breaks.** A wrong passphrase restores *another* secret, and SLIP-39
cannot detect it: pass the fingerprint, which every `Secret` shows. The restored
secret is complete on one machine.

References:
  SatoshiLabs, SLIP-0039, "Shamir's Secret-Sharing for Mnemonic Codes", 2017.
  A. Shamir, "How to share a secret", CACM 22(11), 1979.
"""

from collections.abc import Iterable

import shamir_mnemonic
from shamir_mnemonic.share import Share

from keyjax.errors import KeyringError
from keyjax.secrets import Secret

_MAX_SHARES = 16


def split_secret(
  secret: Secret, needed: int, shares: int, passphrase: str = ""
) -> list[str]:
  """Split a secret into shares.

  Args:
    secret: Secret to back up.
    needed: Number of shares that restore it (k), 2 or more.
    shares: Number of shares (n), at most 16.
    passphrase: Printable ASCII that is needed too, or nothing.

  Returns:
    33 words for each share. Any k of them are as confidential as the secret.

  Raises:
    KeyringError: If the numbers or the passphrase cannot be used.

  Example:
    >>> secret = Secret.generate()
    >>> a, b, c = split_secret(secret, 2, 3)
    >>> combine_shares([a, c]) == secret, len(a.split())
    (True, 33)
  """
  if needed < 2:
    raise KeyringError(
      f"{needed} of {shares} shares: at least 2 restore a secret"
    )
  if needed > shares:
    raise KeyringError(
      f"{needed} of {shares} shares: more are needed than there are"
    )
  if shares > _MAX_SHARES:
    raise KeyringError(f"{shares} shares: there are at most {_MAX_SHARES}")
  groups = shamir_mnemonic.generate_mnemonics(
    1, [(needed, shares)], secret._bytes, _ascii(passphrase)
  )
  return groups[0]


def combine_shares(
  shares: Iterable[str],
  passphrase: str = "",
  *,
  fingerprint: str | None = None,
) -> Secret:
  """Restore a secret from shares.

  Args:
    shares: Any k of them, in any order; additional ones are allowed.
    passphrase: Passphrase that was given to `split_secret`.
    fingerprint: Expected `Secret.fingerprint()` of the result.

  Raises:
    KeyringError: If there are too few shares, they are of different secrets or
      misread, or the result has another fingerprint. The message contains none
      of their words.

  Example:
    >>> a, b, c = split_secret(Secret.generate(), 3, 3)
    >>> combine_shares([a, b])
    Traceback (most recent call last):
    keyjax.errors.KeyringError: 2 different shares, and 3 are needed
  """
  # Two copies of a share count once.
  lines = list(dict.fromkeys(" ".join(s.lower().split()) for s in shares))
  parsed = [_read(line, number) for number, line in enumerate(lines, 1)]
  needed = parsed[0].member_threshold if parsed else 2
  if len(lines) < needed:
    raise KeyringError(
      f"{len(lines)} different shares, and {needed} are needed"
    )
  try:
    data = shamir_mnemonic.combine_mnemonics(lines[:needed], _ascii(passphrase))
    secret = Secret(data)
  except (shamir_mnemonic.MnemonicError, ValueError):
    raise KeyringError("these shares are of different secrets") from None
  if fingerprint not in (None, secret.fingerprint()):
    raise KeyringError(
      "the shares or the passphrase give a key with a different fingerprint"
    )
  return secret


def _read(line: str, number: int) -> Share:
  try:
    return Share.from_mnemonic(line)
  except (shamir_mnemonic.MnemonicError, ValueError):
    raise KeyringError(
      f"share {number} of those given is misread: it has a wrong, missing or "
      "unlisted word"
    ) from None


def _ascii(passphrase: str) -> bytes:
  if not (passphrase.isascii() and (passphrase + "x").isprintable()):
    raise KeyringError("a passphrase of shares is made of printable ASCII")
  return passphrase.encode("ascii")
