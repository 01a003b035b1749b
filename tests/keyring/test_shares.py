"""Shares: any k restore, fewer do not, and no error contains their words."""

import collections
import dataclasses
import itertools
import random

import pytest
import shamir_mnemonic
from shamir_mnemonic.shamir import EncryptedMasterSecret
from shamir_mnemonic.share import Share

from keyjax import Secret, keyring
from tests import wycheproof


@pytest.mark.parametrize("needed, shares", [(2, 2), (2, 3), (3, 5), (16, 16)])
def test_any_k_restore(needed, shares):
  secret = Secret.generate()
  made = keyring.split_secret(secret, needed, shares)
  assert len(made) == shares and {len(s.split()) for s in made} == {33}
  for chosen in itertools.islice(itertools.combinations(made, needed), 12):
    shuffled = random.Random(0).sample(chosen, needed)
    assert keyring.combine_shares(shuffled) == secret
  assert keyring.combine_shares(made) == secret  # More than k are allowed.
  assert keyring.combine_shares(f"  {s.upper()}\n" for s in made) == secret


@pytest.mark.parametrize("few", [0, 1, 2])
def test_fewer_do_not(few):
  made = keyring.split_secret(Secret.generate(), 3, 5)[:few]
  message = f"^{few} different shares, and [23] are needed$"
  with pytest.raises(keyring.KeyringError, match=message):
    keyring.combine_shares(made)
  with pytest.raises(keyring.KeyringError, match=message):
    keyring.combine_shares(made * 3)  # Copies count once.


def test_shares_are_fresh_each_time():
  secret = Secret.generate()
  first, again = (keyring.split_secret(secret, 3, 3) for _ in range(2))
  assert not set(first) & set(again)
  with pytest.raises(keyring.KeyringError, match="different secrets"):
    keyring.combine_shares([*first[:2], again[2]])


def test_misread_shares_are_refused():
  made = keyring.split_secret(Secret.generate(), 2, 3)
  other = keyring.split_secret(Secret.generate(), 2, 3)
  words = made[0].split()
  # Two neighbours that differ, so that exchanging them changes the share.
  at = next(i for i in range(32) if words[i] != words[i + 1])
  swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
  for wrong in (
    "",
    "seven blue whales",
    " ".join(words[:-1]),
    " ".join(swapped),
    "caf\u00e9 " * 33,
  ):
    with pytest.raises(keyring.KeyringError, match=MISREAD) as error:
      keyring.combine_shares([wrong, made[1]])
    assert error.value.__cause__ is None and error.value.__context__ is None
  with pytest.raises(keyring.KeyringError, match=APART) as error:
    keyring.combine_shares([made[0], other[1]])
  assert error.value.__cause__ is None and error.value.__context__ is None


# Complete messages: errors of the other library quote words of the shares.
APART = "^these shares are of different secrets$"
MISREAD = (
  "^share 1 of those given is misread: it has a wrong, missing or "
  "unlisted word$"
)


def test_passphrases():
  secret = Secret.generate()
  made = keyring.split_secret(secret, 2, 3, "extra words")
  assert keyring.combine_shares(made[:2], "extra words") == secret
  wrong = keyring.combine_shares(
    made[:2], "extra word"
  )  # SLIP-39 cannot detect it.
  assert wrong != secret
  with pytest.raises(keyring.KeyringError, match="a different fingerprint"):
    keyring.combine_shares(made[:2], "", fingerprint=secret.fingerprint())
  right = keyring.combine_shares(
    made[1:], "extra words", fingerprint=secret.fingerprint()
  )
  assert right == secret
  for text in ("caf\u00e9", "a\nb"):
    with pytest.raises(keyring.KeyringError, match="printable ASCII"):
      keyring.split_secret(secret, 2, 3, text)


def test_impossible_numbers_are_refused():
  few, many = "at least 2 restore", "more are needed than there are"
  for needed, shares, message in (
    (1, 1, few),
    (1, 3, few),
    (0, 0, few),
    (-1, 3, few),
    (3, 2, many),
    (2, 17, "17 shares: there are at most 16"),
  ):
    with pytest.raises(keyring.KeyringError, match=message):
      keyring.split_secret(Secret.generate(), needed, shares)


def test_shares_of_other_implementations():
  data = bytes(range(32))
  made = shamir_mnemonic.generate_mnemonics(1, [(2, 2)], data)[0]
  assert keyring.combine_shares(made) == Secret(data)
  short = shamir_mnemonic.generate_mnemonics(1, [(2, 2)], bytes(16))[0]
  message = "^these shares are of a secret of 16 bytes, not 32$"
  with pytest.raises(keyring.KeyringError, match=message):
    keyring.combine_shares(short)


def groups():
  """Return shares in three groups, 1 of 1, 2 of 3 and 2 of 2; two restore."""
  data, sizes = bytes(range(32)), [(1, 1), (2, 3), (2, 2)]
  return shamir_mnemonic.generate_mnemonics(
    2, sizes, data, iteration_exponent=0
  )


def test_shares_in_groups():
  (alone,), (a, b, c), (d, e) = groups()
  for enough in (
    [alone, a, c],
    [e, b, d, a],
    [alone, a, b, c, d],
    [a, alone, b, c, d, e],
  ):
    assert keyring.combine_shares(enough) == Secret(bytes(range(32)))
  few = "^1 complete groups of shares, and 2 are needed; given are "
  for shares, counts in (
    ([alone, a], "1 of 1 shares of group 1, 1 of 2 shares of group 2$"),
    ([a, b, c], "3 of 2 shares of group 2$"),
  ):
    with pytest.raises(keyring.KeyringError, match=few + counts):
      keyring.combine_shares(shares)


def test_an_additional_share_of_another_secret_is_refused():
  made = keyring.split_secret(Secret.generate(), 2, 3)
  other = keyring.split_secret(Secret.generate(), 2, 3)
  for shares in ([*made[:2], other[2]], [other[0], *made]):
    with pytest.raises(keyring.KeyringError, match=APART):
      keyring.combine_shares(shares)
  # A share that differs in its value alone, as another split might make it.
  forged = dataclasses.replace(Share.from_mnemonic(made[2]), value=bytes(32))
  for shares in ([*made[:2], forged.mnemonic()], [forged.mnemonic(), made[0]]):
    with pytest.raises(keyring.KeyringError, match=APART):
      keyring.combine_shares(shares)
  (alone,), (a, b, _), _ = groups()
  _, _, foreign = groups()
  with pytest.raises(keyring.KeyringError, match=APART):
    keyring.combine_shares([alone, a, b, *foreign])


@pytest.mark.vectors
def test_the_vectors_of_slip39():
  done = collections.Counter()
  for name, shares, secret, *_ in wycheproof.read("slip39.json"):
    if len(secret) == 64:
      found = keyring.combine_shares(shares, "TREZOR")
      assert found == Secret(bytes.fromhex(secret)), name
    else:
      with pytest.raises(keyring.KeyringError) as error:
        keyring.combine_shares(shares, "TREZOR")
      # A secret of 128 bits is read, and is not a Secret.
      assert bool(secret) == ("secret of 16 bytes" in str(error.value)), name
      assert error.value.__context__ is None
    done[len(secret)] += 1
  assert done == {64: 7, 32: 8, 0: 30}


def test_the_iterations_that_shares_state_are_accepted_up_to_a_limit(
  monkeypatch,
):
  made = []

  def decrypt(self, passphrase):
    made.append(self.iteration_exponent)
    return bytes(32)

  monkeypatch.setattr(
    "shamir_mnemonic.shamir.EncryptedMasterSecret.decrypt", decrypt
  )
  for exponent, most in ((7, keyring.MAX_COST), (15, keyring.Cost(2**20, 4))):
    encrypted = EncryptedMasterSecret(1, True, exponent, bytes(range(32)))
    (group,) = shamir_mnemonic.split_ems(1, [(2, 2)], encrypted)
    shares = [share.mnemonic() for share in group]
    with pytest.raises(keyring.KeyringError, match="raise max_cost"):
      keyring.combine_shares(shares, max_cost=most)
    assert made == []
  keyring.combine_shares(shares, max_cost=keyring.Cost(2**20, 400))
  assert made == [15]
