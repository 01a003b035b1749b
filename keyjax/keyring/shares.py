"""Backup: a secret as n shares of words, of which any k restore it.

SLIP-39 by `shamir-mnemonic`, the reference implementation: Shamir's scheme over
GF(256), 33 words for each share of a 256-bit secret, with a checksum that finds
misread words. Hardware wallets read the same words.

**Guarantees.** Fewer than k shares hold no information about the secret.

**Known breaks.** With a passphrase, a wrong passphrase restores *another*
secret and SLIP-39 cannot tell: give the fingerprint, which every `Secret`
shows. Whoever restores sees the secret whole, on one machine.

References:
  SatoshiLabs, SLIP-0039, "Shamir's Secret-Sharing for Mnemonic Codes", 2017.
  A. Shamir, "How to share a secret", CACM 22(11), 1979.
"""

from collections.abc import Iterable

import shamir_mnemonic
from shamir_mnemonic.share import Share

from keyjax.errors import KeyringError
from keyjax.keys import Secret

_MAX_SHARES = 16


def split(
  secret: Secret, needed: int, shares: int, passphrase: str = ""
) -> list[str]:
  """Splits a secret.

  Args:
    secret: what to back up.
    needed: how many shares restore it (k), 2 or more.
    shares: how many there are (n), at most 16.
    passphrase: printable ASCII that is needed too, or nothing.

  Returns:
    One sentence of 33 words for each share: each as secret as its number k.

  Raises:
    KeyringError: the numbers or the passphrase cannot be used.

  Example:
    >>> secret = Secret.generate()
    >>> a, b, c = split(secret, 2, 3)
    >>> restore([a, c]) == secret, len(a.split())
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


def restore(
  shares: Iterable[str],
  passphrase: str = "",
  *,
  fingerprint: str | None = None,
) -> Secret:
  """Restores a secret from shares.

  Args:
    shares: any k of them, in any order; more do no harm.
    passphrase: the one that was given to `split`.
    fingerprint: `Secret.fingerprint()` of what should come out.

  Raises:
    KeyringError: too few shares, of different secrets, misread, or what
      comes out has another fingerprint. The message holds no word of them.

  Example:
    >>> a, b, c = split(Secret.generate(), 3, 3)
    >>> restore([a, b])
    Traceback (most recent call last):
    keyjax.errors.KeyringError: 2 different shares, and 3 are needed
  """
  # Two copies of one share are one share.
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
    raise KeyringError("these shares do not belong together") from None
  if fingerprint not in (None, secret.fingerprint()):
    raise KeyringError(
      "the shares or the passphrase are those of another secret"
    )
  return secret


def _read(line: str, number: int) -> Share:
  try:
    return Share.from_mnemonic(line)
  except (shamir_mnemonic.MnemonicError, ValueError):
    raise KeyringError(
      f"share {number} of those given is misread: it has a wrong, missing or "
      "strange word"
    ) from None


def _ascii(passphrase: str) -> bytes:
  if not (passphrase.isascii() and (passphrase + "x").isprintable()):
    raise KeyringError("a passphrase of shares is made of printable ASCII")
  return passphrase.encode("ascii")
