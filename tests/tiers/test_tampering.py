"""Tiers that were not saved together are refused."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from keyjax import checkpoint, tiers
from keyjax.errors import CannotOpen, KeyringError
from keyjax.tiers.merging import merge
from tests.checkpoint import damage
from tests.tiers.conftest import BASE, EXPERT, SIGNER, Saved, tree

Change = Callable[[Saved], None]


def edit(path: pathlib.Path, **changed: Any) -> None:
  file = path / "header/metadata"
  file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def swap(saved: Saved, tier: str, source: str = "") -> None:
  place = saved.path / "tiers" / tier
  shutil.rmtree(place)
  shutil.copytree(saved.other / "tiers" / (source or tier), place)


def swap_with_the_index(saved: Saved) -> None:
  shutil.copy(saved.other / "header/metadata", saved.path / "header/metadata")
  shutil.rmtree(saved.path / "tiers/expert")
  shutil.copytree(saved.other / "tiers/expert", saved.path / "tiers/expert")


PAIR = [["expert", "expert"], ["base", "base"]]
REFUSED: dict[str, tuple[Change, str]] = {
  "another save": (
    lambda s: swap(s, "expert"),
    "tier expert of .* is of another checkpoint",
  ),
  "another save and its index": (
    swap_with_the_index,
    "tier base of .* is of another checkpoint",
  ),
  "another id": (
    lambda s: edit(s.path, id="0" * 32),
    "is of another checkpoint",
  ),
  "under another name": (
    lambda s: (
      edit(s.path, tiers=[["expert", "expert"], ["low", "low"]])
      or (s.path / "tiers/base").rename(s.path / "tiers/low")
    ),
    "was saved under another name|has other tiers than were saved",
  ),
  "removed": (
    lambda s: edit(s.path, tiers=[["expert", "expert"]]),
    "has other tiers than were saved: one was added, removed",
  ),
  "added": (
    lambda s: (
      edit(s.path, tiers=[*PAIR, ["third", "third"]])
      or shutil.copytree(s.path / "tiers/base", s.path / "tiers/third")
    ),
    "has other tiers than were saved|was saved under another name",
  ),
  "another order": (
    lambda s: edit(s.path, tiers=PAIR[::-1]),
    "has other tiers than were saved",
  ),
  "outside": (
    lambda s: edit(s.path, tiers=[PAIR[0], ["base", "../../other/base"]]),
    "its index is malformed",
  ),
  "named twice": (
    lambda s: edit(s.path, tiers=PAIR * 2),
    "its index is malformed",
  ),
  "of no tiers": (lambda s: edit(s.path, tiers=[]), "its index is malformed"),
  "of other types": (
    lambda s: edit(s.path, tiers=[["base", 1]]),
    "its index is malformed",
  ),
  "more fields": (lambda s: edit(s.path, more=1), "its index is malformed"),
  "a later version": (
    lambda s: edit(s.path, version=2),
    "has an index of version 2: this release of KeyJAX reads version 1",
  ),
  "saved without tiers": (
    lambda s: (
      shutil.rmtree(s.path / "tiers/expert")
      or checkpoint.save(
        s.path / "tiers/expert", {"router": 1}, [EXPERT.public], step=7
      )
    ),
    "was saved without tiers",
  ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_was_not_saved_together_is_refused(
  saved: Saved, case: str
) -> None:
  change, message = REFUSED[case]
  change(saved)
  with pytest.raises(checkpoint.CheckpointContentError, match=message) as found:
    tiers.restore(saved.path, [EXPERT, BASE])
  assert "\n" not in str(found.value)
  with pytest.raises(checkpoint.CheckpointContentError):
    tiers.verify(saved.path, [EXPERT, BASE])


@pytest.mark.parametrize("key", [BASE, EXPERT], ids=["base", "expert"])
@pytest.mark.parametrize("case", ["removed", "added"])
def test_whoever_opens_one_tier_notices_another_count(
  saved: Saved, case: str, key: Any
) -> None:
  if case == "removed" and key is BASE:
    edit(saved.path, tiers=[["base", "base"]])
  else:
    REFUSED[case][0](saved)
  with pytest.raises(checkpoint.CheckpointContentError, match="other tiers"):
    tiers.restore(saved.path, key)


def test_a_tier_that_is_gone_is_missed(saved: Saved) -> None:
  shutil.rmtree(saved.path / "tiers/expert")
  with pytest.raises(FileNotFoundError, match="tiers/expert"):
    tiers.restore(saved.path, BASE)
  # A copy that is shipped without it is read by name.
  found = tiers.restore(saved.path, BASE, tiers=["base"])
  assert found.present == {"expert": False, "base": True}


def test_a_damaged_tier_is_an_error_and_not_an_absent_one(
  saved: Saved,
) -> None:
  place = saved.path / "tiers/expert"
  message = damage.message(place, EXPERT, "router/w")
  damage.replace(place, message, message[:-1] + bytes([message[-1] ^ 1]))
  with pytest.raises(checkpoint.CheckpointContentError, match="router/w"):
    tiers.restore(saved.path, EXPERT)
  (problem,) = tiers.verify(saved.path, EXPERT)
  assert problem.where == "expert: router/w"
  assert tiers.verify(saved.path, BASE) == []
  tiers.restore(saved.path, BASE)


def test_known_break_a_replaced_envelope_keeps_a_tier_from_opening(
  saved: Saved,
) -> None:
  """It shows in `present`, or is an error where the tier must open."""
  checkpoint.rewrap(saved.path / "tiers/expert", EXPERT, BASE)
  checkpoint.rewrap(saved.path / "tiers/base", BASE, [EXPERT.public])
  found = tiers.restore(saved.path, EXPERT)
  assert found.present == {"expert": False, "base": True}
  with pytest.raises(CannotOpen):
    tiers.restore(saved.path, EXPERT, tiers=["expert", "base"])
  # A stanza of a recipient that does not open is never an absent tier.
  file = saved.path / "tiers/base/header/metadata"
  text = json.loads(file.read_text())
  envelope = json.loads(text["envelope"])
  envelope["revoked"] = ["gone"]
  sealed = json.dumps(envelope, sort_keys=True, separators=(",", ":"))
  file.write_text(json.dumps(text | {"envelope": sealed}))
  with pytest.raises(KeyringError):
    tiers.restore(saved.path, EXPERT)


def test_known_break_a_recipient_replaces_weights_of_their_tier(
  saved: Saved,
) -> None:
  """Only a signature detects it."""
  place = saved.path / "tiers/base"
  metadata = checkpoint.read_metadata(place, BASE)
  shutil.rmtree(place)
  forged = {"block": [{"w": 0}, {"w": 0}], "step": 9}
  options = {"step": 7, "name": "net", "run": "a", "metadata": metadata}
  checkpoint.save(place, forged, BASE, **options)
  assert tiers.restore(saved.path, BASE).params["step"] == 9
  with pytest.raises(checkpoint.CheckpointSignatureError):
    tiers.restore(saved.path, BASE, verify_key=SIGNER.public_key())
  # They cannot claim a leaf of another tier, or another step.
  shutil.rmtree(place)
  checkpoint.save(place, {"router": {"w": 0}}, [BASE], **options)
  for like in (None, tree()):
    with pytest.raises(checkpoint.CheckpointContentError, match="two tiers"):
      tiers.restore(saved.path, [BASE, EXPERT], like)
  shutil.rmtree(place)
  checkpoint.save(place, forged, [BASE], **options | {"step": 8})
  with pytest.raises(checkpoint.CheckpointContentError, match="saved together"):
    tiers.restore(saved.path, [BASE, EXPERT])


@pytest.mark.parametrize(
  ("a", "b"),
  [(1, 2), ({"x": 1}, 2), ({"x": 1}, {"x": 2}), ([1, 2], {2: 1, 4: 1})],
)
def test_parts_of_different_trees_are_not_merged(a: Any, b: Any) -> None:
  with pytest.raises(checkpoint.CheckpointContentError, match="two tiers hold"):
    merge(a, b)


def test_parts_of_lists_are_merged() -> None:
  assert merge({0: 1}, {1: 2}) == {0: 1, 1: 2}
  assert merge(({"a": 1}, {"a": 2}), {0: {"b": 3}}) == (
    {"a": 1, "b": 3},
    {"a": 2},
  )
