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

import contextlib
from collections.abc import Iterable

import shamir_mnemonic
from shamir_mnemonic.shamir import (
  EncryptedMasterSecret,
  ShareGroup,
  recover_ems,
)
from shamir_mnemonic.share import Share

from keyjax.errors import KeyringError
from keyjax.keyring.recipients.passphrase import (
  MAX_COST,
  Cost,
  check_iterations,
)
from keyjax.secrets import SECRET_BYTES, Secret, require_secret

_APART = "these shares are of different secrets"
_MAX_SHARES = 16
_ITERATIONS = 10_000  # SLIP-39: of PBKDF2, in all rounds, for exponent 0.


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
  require_secret(secret, "split_secret")
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
  max_cost: Cost = MAX_COST,
) -> Secret:
  """Restore a secret from shares.

  Args:
    shares: Any k of them, in any order; additional ones are allowed. Shares in
      several groups, which other implementations make, are read too.
    passphrase: Passphrase that was given to `split_secret`.
    fingerprint: Expected `Secret.fingerprint()` of the result.
    max_cost: Largest cost to spend on the passphrase. Shares state a number of
      iterations of PBKDF2; one counts as one KiB and pass of Argon2id.

  Raises:
    KeyringError: If there are too few shares, one of them is of another secret
      or misread, the secret does not have 32 bytes, the cost is refused, or the
      result has another fingerprint. The message contains none of their words.

  Example:
    >>> a, b, c = split_secret(Secret.generate(), 3, 3)
    >>> combine_shares([a, b])
    Traceback (most recent call last):
    keyjax.errors.KeyringError: 2 different shares, and 3 are needed
  """
  # Two copies of a share count once.
  lines = list(dict.fromkeys(" ".join(s.lower().split()) for s in shares))
  parsed = [_read(line, number) for number, line in enumerate(lines, 1)]
  groups = _complete_groups(parsed)
  encrypted = _recover(groups)
  size = len(encrypted.ciphertext)
  if size != SECRET_BYTES:
    raise KeyringError(
      f"these shares are of a secret of {size} bytes, not {SECRET_BYTES}"
    )
  check_iterations(_ITERATIONS << encrypted.iteration_exponent, max_cost)
  data = encrypted.decrypt(_ascii(passphrase))
  secret = Secret(data)
  if fingerprint not in (None, secret.fingerprint()):
    raise KeyringError(
      "the shares or the passphrase give a key with a different fingerprint"
    )
  return secret


def _complete_groups(shares: list[Share]) -> list[list[Share]]:
  """Return the groups that have enough shares, if these are enough groups."""
  if not shares:
    raise KeyringError("0 different shares, and 2 are needed")
  if len({share.common_parameters() for share in shares}) > 1:
    raise KeyringError(_APART)
  groups: dict[int, list[Share]] = {}
  for share in shares:
    groups.setdefault(share.group_index, []).append(share)
  for group in groups.values():
    # Not one number of two shares, nor two numbers of shares that are needed.
    if len({share.index for share in group}) != len(group) or (
      len({share.member_threshold for share in group}) > 1
    ):
      raise KeyringError(_APART)
  complete = [g for g in groups.values() if len(g) >= g[0].member_threshold]
  needed = shares[0].group_threshold
  if len(complete) >= needed:
    return complete
  if shares[0].group_count == 1:
    raise KeyringError(
      f"{len(shares)} different shares, and {shares[0].member_threshold} are "
      "needed"
    )
  counts = ", ".join(
    f"{len(g)} of {g[0].member_threshold} shares of group {number + 1}"
    for number, g in sorted(groups.items())
  )
  raise KeyringError(
    f"{len(complete)} complete groups of shares, and {needed} are needed; "
    f"given are {counts}"
  )


def _recover(groups: list[list[Share]]) -> EncryptedMasterSecret:
  """Return the encrypted secret, on which all shares must agree."""
  found = set()
  with contextlib.suppress(shamir_mnemonic.MnemonicError):
    for group in groups:
      for share in group:
        others = [g for g in groups if g is not group]
        chosen = [_first(group, share), *(_first(g, g[0]) for g in others)]
        enough = chosen[: share.group_threshold]
        found.add(recover_ems(dict(enough)))
    if len(found) == 1:
      return found.pop()
  # Not in `except`: errors of the other library quote words of the shares.
  raise KeyringError(_APART)


def _first(group: list[Share], share: Share) -> tuple[int, ShareGroup]:
  """Return a group's number, and as many shares as are needed, one given."""
  others = [other for other in group if other is not share]
  out = ShareGroup()
  for one in [share, *others][: share.member_threshold]:
    out.add(one)
  return share.group_index, out


def _read(line: str, number: int) -> Share:
  with contextlib.suppress(shamir_mnemonic.MnemonicError, ValueError):
    return Share.from_mnemonic(line)
  raise KeyringError(
    f"share {number} of those given is misread: it has a wrong, missing or "
    "unlisted word"
  )


def _ascii(passphrase: str) -> bytes:
  if not (passphrase.isascii() and (passphrase + "x").isprintable()):
    raise KeyringError("a passphrase of shares is made of printable ASCII")
  return passphrase.encode("ascii")
