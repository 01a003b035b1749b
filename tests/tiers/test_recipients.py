"""Granting, rotating and revoking one tier leaves the others alone."""

import os
import pathlib
from typing import Any

import pytest

from keyjax import Secret, checkpoint, keyring, tiers
from keyjax.checkpoint.storage import folders, header
from keyjax.errors import ArgumentError, CannotOpen, KeyringError
from keyjax.tiers import Tier
from tests.tiers.conftest import (
  BASE,
  EVE,
  EXPERT,
  SIGNER,
  Saved,
  everything,
  tree,
)

FRIEND = keyring.SymmetricKey(Secret(b"f" * 32))
ALL = {"expert": True, "base": True}


def test_a_grant_changes_one_file_of_one_tier(saved: Saved) -> None:
  before = everything(saved.path)
  place = tiers.folder(saved.path, "expert")
  envelope = checkpoint.read_envelope(place)
  existing = keyring.existing_recipients(envelope, [EXPERT])
  checkpoint.rewrap(place, EXPERT, [*existing, FRIEND])
  after = everything(saved.path)
  changed = [name for name in before if before[name] != after[name]]
  assert changed == ["tiers/expert/header/metadata"]
  # The new recipient opens the lower tier by the sub-key.
  assert tiers.restore(saved.path, FRIEND).present == ALL


def test_a_sub_key_grants_a_lower_tier(saved: Saved) -> None:
  place = tiers.folder(saved.path, "base")
  with pytest.raises(CannotOpen):
    checkpoint.rewrap(place, EXPERT, [FRIEND])
  keys = tiers.with_sub_keys(saved.path, EXPERT)
  assert [x.id for x in keys[:-1]] == [EXPERT.id] and "aes" in repr(keys[-1])
  checkpoint.rewrap(place, keys, [FRIEND])
  assert tiers.restore(saved.path, FRIEND).present == ALL | {"expert": False}
  # Without the sub-key among its recipients, the higher tier is alone.
  assert tiers.restore(saved.path, EXPERT).present == ALL | {"base": False}


def test_a_lower_tier_never_opens_a_higher_one(saved: Saved) -> None:
  keys = tiers.with_sub_keys(saved.path, BASE)
  assert keys == [BASE]
  with pytest.raises(CannotOpen):
    checkpoint.restore(tiers.folder(saved.path, "expert"), keys)


def test_a_chain_of_tiers(tmp_path: pathlib.Path) -> None:
  three = [
    Tier("top", "a", BASE, ["middle"]),
    Tier("middle", "b", EVE, ["low"]),
    Tier("low", "c", FRIEND),
  ]
  tiers.save(tmp_path / "x", {"a": 1, "b": 2, "c": 3}, three)
  found = [tiers.restore(tmp_path / "x", x) for x in (BASE, EVE, FRIEND)]
  assert [len(x.params) for x in found] == [3, 2, 1]


def test_revoking_a_lower_tier_leaves_the_higher_one(saved: Saved) -> None:
  place = saved.path / "tiers"
  higher = everything(place / "expert")
  copy = everything(place / "base")
  tiers.reencrypt(
    saved.path, [BASE, EXPERT], {"base": BASE}, revoked=[EVE.id], signer=SIGNER
  )
  assert everything(place / "expert") == higher
  assert sorted(os.listdir(place))[1] == "expert"
  new = everything(pathlib.Path(tiers.folder(saved.path, "base")))
  assert not {x for x in copy.values() if len(x) > 999} & {*new.values()}
  with pytest.raises(KeyringError, match="was revoked"):
    tiers.restore(saved.path, EVE)
  # The higher tier still opens it, by a new sub-key.
  found = tiers.restore(saved.path, EXPERT, verify_key=SIGNER.public_key())
  assert found.present == ALL and found.params["step"] == 7
  assert tiers.verify(saved.path, EXPERT) == []


def test_known_break_old_bytes_open_forever(saved: Saved) -> None:
  old = everything(saved.path)
  tiers.reencrypt(saved.path, EXPERT, {"base": BASE}, revoked=[EVE.id])
  for name, data in old.items():
    file = saved.path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
  assert tiers.restore(saved.path, EVE).present == ALL | {"expert": False}


def test_a_higher_tier_is_revoked_with_the_lower_ones(saved: Saved) -> None:
  options: dict[str, Any] = {"revoked": [EXPERT.id]}
  with pytest.raises(ArgumentError, match="expert opens base: whoever loses"):
    tiers.reencrypt(saved.path, EXPERT, {"expert": FRIEND}, **options)
  with pytest.raises(ArgumentError, match="recipient of tier expert, which op"):
    tiers.reencrypt(saved.path, EXPERT, {"base": FRIEND}, **options)
  both = {"expert": FRIEND, "base": BASE}
  tiers.reencrypt(saved.path, EXPERT, both, **options)
  with pytest.raises(KeyringError, match="was revoked"):
    tiers.restore(saved.path, EXPERT)
  assert tiers.restore(saved.path, FRIEND).present == ALL
  assert tiers.restore(saved.path, BASE).present == ALL | {"expert": False}
  with pytest.raises(KeyringError, match="only `reinstate` gives access again"):
    tiers.reencrypt(saved.path, FRIEND, {"expert": EXPERT.public, "base": BASE})


def test_what_cannot_be_revoked_is_refused(saved: Saved) -> None:
  before = everything(saved.path)
  with pytest.raises(CannotOpen):  # Its sub-key is not known.
    tiers.reencrypt(saved.path, BASE, {"base": BASE})
  with pytest.raises(ArgumentError, match="no tier 'x'"):
    tiers.reencrypt(saved.path, BASE, {"x": BASE})
  with pytest.raises(ArgumentError, match="recipients is empty"):
    tiers.reencrypt(saved.path, BASE, {})
  stranger = keyring.SigningKey.generate().private
  with pytest.raises(checkpoint.CheckpointSignatureError):
    tiers.reencrypt(saved.path, EXPERT, {"base": BASE}, signer=stranger)
  assert everything(saved.path) == before


@pytest.mark.faults
def test_a_revocation_that_fails_changes_nothing(
  saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
  before = everything(saved.path)

  def full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(header.private_files, "replace", full)
  with pytest.raises(checkpoint.CheckpointStorageError, match="No space"):
    tiers.reencrypt(saved.path, EXPERT, {"base": BASE})
  assert everything(saved.path) == before


@pytest.mark.faults
def test_an_interruption_after_the_index_was_replaced_loses_nothing(
  saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
  replace = header.replace_json

  def interrupted(*args: Any, **options: Any) -> None:
    replace(*args, **options)
    raise KeyboardInterrupt

  monkeypatch.setattr(header, "replace_json", interrupted)
  with pytest.raises(KeyboardInterrupt):
    tiers.reencrypt(saved.path, EXPERT, {"base": BASE}, revoked=[EVE.id])
  assert tiers.restore(saved.path, EXPERT).present == ALL
  (problem,) = tiers.verify(saved.path, EXPERT)
  assert problem.where == "tiers/base"


@pytest.mark.faults
def test_what_a_killed_revocation_leaves_is_reported(
  saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(folders, "remove", lambda path: None)
  tiers.reencrypt(saved.path, EXPERT, {"base": BASE})
  assert tiers.restore(saved.path, EXPERT).present == ALL
  (problem,) = tiers.verify(saved.path, EXPERT)
  assert problem == ("tiers/base", "the index lists no such folder")


def test_a_tier_may_have_a_passphrase(tmp_path: pathlib.Path) -> None:
  cheap = keyring.Cost(19456, 1, 1)
  words = keyring.Passphrase("six random words", cost=cheap)
  parts = [Tier("expert", "a", words), Tier("base", ".*", BASE)]
  tiers.save(tmp_path / "x", {"a": 1, "b": 2}, parts)
  assert tiers.restore(tmp_path / "x", words).params == {"a": 1}
  wrong = keyring.Passphrase("seven random words")
  with pytest.raises(CannotOpen):
    tiers.restore(tmp_path / "x", [wrong, BASE])


def test_a_tier_whose_recipient_expired_is_an_error(
  tmp_path: pathlib.Path,
) -> None:
  late = keyring.Expiring(EVE, "2020-01-01T00:00:00Z")
  parts = [Tier("expert", "a", late), Tier("base", ".*", EVE)]
  tiers.save(tmp_path / "x", {"a": 1, "b": tree()}, parts)
  with pytest.raises(KeyringError, match="expired at 2020"):
    tiers.restore(tmp_path / "x", EVE)
  found = tiers.restore(tmp_path / "x", EVE, tiers=["base"])
  assert found.present == ALL | {"expert": False}
