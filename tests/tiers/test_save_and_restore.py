"""What goes into tiers, and what each key gets out of them."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from keyjax import checkpoint, keyring, tiers
from keyjax.checkpoint.storage import whole_folders
from keyjax.errors import ArgumentError, CannotOpen
from keyjax.tiers import Tier
from tests import trees
from tests.tiers.conftest import (
  BASE,
  EVE,
  EXPERT,
  SECRET_NAMES,
  SIGNER,
  Saved,
  everything,
  the_tiers,
  tree,
)

ALL = {"expert": True, "base": True}


def same(found: Any, wanted: Any) -> None:
  as_arrays = lambda t: jax.tree.map(np.asarray, t)  # noqa: E731
  trees.assert_same_bits(as_arrays(found), as_arrays(wanted))


def test_each_key_gets_what_it_opens(saved: Saved) -> None:
  whole = tree()
  expected = {"step": 7, "name": "net", "run": "a"}
  signed = {"verify_key": SIGNER.public_key()}
  found = tiers.restore(saved.path, EXPERT, **expected, **signed)
  assert found.present == ALL and isinstance(found.params["block"], list)
  same(found.params, whole)
  base = tiers.restore(saved.path, BASE, **expected, **signed)
  assert base.present == {"expert": False, "base": True}
  for block in whole["block"]:
    del block["hush"]
  del whole["router"]
  same(base.params, whole)
  both = tiers.restore(saved.path, [BASE, EXPERT])
  assert both.present == ALL
  with pytest.raises(CannotOpen):
    tiers.restore(saved.path, keyring.HpkePrivateKey.generate("x25519"))


def test_a_known_structure_has_no_leaf_where_one_is_missing(
  saved: Saved,
) -> None:
  like = tree()
  sharding = NamedSharding(jax.make_mesh((3,), ("a",)), PartitionSpec("a"))
  w = like["block"][0]["w"]
  like["block"][0]["w"] = jax.ShapeDtypeStruct(
    w.shape, w.dtype, sharding=sharding
  )
  found = tiers.restore(saved.path, BASE, like)
  missing = found.params["block"][0]["hush"]
  assert missing == optax.MaskedNode() and jax.tree.leaves(missing) == []
  with pytest.raises(TypeError):
    jnp.sin(missing)
  assert found.params["block"][0]["w"].sharding == sharding
  present = [False, True] * 2 + [False, True]  # hush, w; router, step
  assert jax.tree.leaves(found.mask) == present
  assert len(jax.tree.leaves(found.params)) == 3
  same(tiers.restore(saved.path, EXPERT, tree()).params, tree())


def test_a_known_structure_must_fit(saved: Saved) -> None:
  with pytest.raises(checkpoint.CheckpointContentError, match="leaf step is"):
    tiers.restore(saved.path, BASE, {"block": tree()["block"]})
  extra = tree() | {"other": np.ones(1)}
  with pytest.raises(checkpoint.CheckpointContentError, match="other is in no"):
    tiers.restore(saved.path, EXPERT, extra)


def test_named_tiers_are_opened_alone_and_must_open(saved: Saved) -> None:
  # A sub-key of the expert opens the base, and the expert is not returned.
  found = tiers.restore(saved.path, EXPERT, tiers=["base"])
  assert found.present == {"expert": False, "base": True}
  assert "router" not in found.params
  with pytest.raises(CannotOpen):
    tiers.restore(saved.path, BASE, tiers=["base", "expert"])
  with pytest.raises(ArgumentError, match="no tier 'lower' in .*: it has expe"):
    tiers.restore(saved.path, BASE, tiers=["lower"])
  with pytest.raises(ArgumentError, match="tiers is empty"):
    tiers.restore(saved.path, BASE, tiers=[])
  with pytest.raises(TypeError, match="a list of names"):
    tiers.restore(saved.path, BASE, tiers="base")
  with pytest.raises(keyring.KeyringError, match="no identity was given"):
    tiers.restore(saved.path, [])


@pytest.mark.parametrize(
  "wrong", [{"step": 8}, {"name": "other"}, {"run": "b"}]
)
def test_an_unexpected_step_name_or_run_is_refused(
  saved: Saved, wrong: dict[str, Any]
) -> None:
  with pytest.raises(checkpoint.CheckpointContentError, match="is of"):
    tiers.restore(saved.path, BASE, **wrong)


def test_another_signer_is_refused(saved: Saved) -> None:
  stranger = keyring.SigningKey.generate().public
  with pytest.raises(checkpoint.CheckpointSignatureError):
    tiers.restore(saved.path, BASE, verify_key=stranger)


def test_a_stranger_learns_names_ids_and_sizes(saved: Saved) -> None:
  told = tiers.inspect(saved.path)
  assert list(told["tiers"]) == ["expert", "base"]
  ids = told["tiers"]["base"]["envelope"]["recipients"]
  assert ids[:2] == [BASE.id, EVE.id] and len(ids) == 3  # And a sub-key.
  for name, data in everything(saved.path).items():
    assert not [x for x in SECRET_NAMES if x in data], name
    assert bytes(saved.path.parent) not in data and b"keyjax.tiers" not in data
  opened = tiers.inspect(saved.path, BASE)["tiers"]
  assert [one["present"] for one in opened.values()] == [False, True]


def test_a_recipient_learns_nothing_of_another_tier(saved: Saved) -> None:
  told = checkpoint.inspect(tiers.folder(saved.path, "base"), BASE)
  assert "hush" not in repr(told | {"metadata": ""})
  assert "router" not in repr(told)
  # Nor how many there are: a tree of its own leaves is sealed.
  assert [leaf["path"] for leaf in told["leaves"]] == [
    "block/0/w",
    "block/1/w",
    "step",
  ]


def test_a_tier_alone_is_an_ordinary_checkpoint(saved: Saved) -> None:
  place = tiers.folder(saved.path, "base")
  assert checkpoint.verify(place, BASE, verify_key=SIGNER.public_key()) == []
  assert checkpoint.restore(place, BASE, leaves="step") == {"step": 7}
  assert checkpoint.read_metadata(place, BASE)["note"] == "hush"
  with pytest.raises(checkpoint.CheckpointContentError, match="see keyjax.ti"):
    checkpoint.restore(saved.path, BASE)
  assert tiers.is_tiered(saved.path) and not tiers.is_tiered(place)
  with pytest.raises(checkpoint.CheckpointContentError, match="with tiers"):
    tiers.restore(place, BASE)
  with pytest.raises(ArgumentError, match="no tier"):
    tiers.folder(saved.path, "../base")


class State(NamedTuple):
  """A node that only its class can rebuild."""

  params: Any
  opt_state: Any


def test_a_training_state_is_restored_into_its_own_classes(
  tmp_path: pathlib.Path,
) -> None:
  params = {"expert": jnp.ones(2), "base": jnp.zeros(3)}
  state = State(params, optax.adam(0.1).init(params))
  path = tmp_path / "state"
  parts = [Tier("expert", ".*/expert", EXPERT.public), Tier("base", ".*", BASE)]
  tiers.save(path, state, parts)
  same(tiers.restore(path, [EXPERT, BASE], state).params, state)
  found = tiers.restore(path, BASE, state)
  assert found.params.opt_state[0].mu["expert"] == optax.MaskedNode()
  # What is there can be trained: a masked node has no leaf.
  doubled = jax.tree.map(lambda x: 2 * x, found.params.params)
  assert len(jax.tree.leaves(doubled)) == 1


WRONG: dict[str, tuple[Any, str]] = {
  "no leaf": (
    lambda: [Tier("x", "experts", BASE), Tier("base", ".*", BASE)],
    "tier x has no leaf: no leaf matches 'experts' with its whole path",
  ),
  "all taken": (
    lambda: [Tier("x", ".*", BASE), Tier("base", ".*w", BASE)],
    "tier base has no leaf: earlier tiers have all leaves that match",
  ),
  "left plain": (
    lambda: the_tiers(opens=())[:1],
    "block/0/w is in no tier: end with one of the rest, whose pattern",
  ),
  "twice": (lambda: the_tiers() * 2, "two tiers are called expert"),
  "name": (lambda: the_tiers(name="../x"), "a tier is named by 1 to 64"),
  "upper case": (lambda: the_tiers(name="Base"), "a tier is named by 1 to 64"),
  "opens itself": (
    lambda: the_tiers(opens=["expert"]),
    "tier expert opens 'expert', which is no tier after it",
  ),
  "opens upwards": (
    lambda: list(reversed(the_tiers())),
    "tier expert opens 'base', which is no tier after it: list higher",
  ),
  "empty": (lambda: [], "tiers is empty"),
  "pattern": (lambda: the_tiers(leaves="("), "is not a regular expression"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tiers_are_refused_before_anything_is_written(
  case: str, tmp_path: pathlib.Path
) -> None:
  make, message = WRONG[case]
  with pytest.raises(ValueError, match=message):
    tiers.save(tmp_path / "x", tree(), make())
  assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_named(tmp_path: pathlib.Path) -> None:
  with pytest.raises(TypeError, match="tiers is a list of Tier"):
    tiers.save(tmp_path / "x", tree(), [("base", ".*", BASE)])  # type: ignore[list-item]
  with pytest.raises(ArgumentError, match="is the record of the tiers"):
    tiers.save(
      tmp_path / "x", tree(), the_tiers(), metadata={"keyjax.tiers": 1}
    )
  with pytest.raises(TypeError, match="is not a recipient"):
    tiers.save(tmp_path / "x", tree(), the_tiers(recipients="alice"))
  with pytest.raises(ValueError, match="two leaves have the path a/b"):
    tiers.save(
      tmp_path / "x",
      {"a": {"b": 1}, "a/b": 2},
      [Tier("base", ".*", BASE)],
    )
  assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_overwritten(saved: Saved) -> None:
  with pytest.raises(FileExistsError, match="is never overwritten"):
    tiers.save(saved.path, tree(), the_tiers())


@pytest.mark.faults
def test_a_save_that_fails_or_is_killed_leaves_nothing(
  saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = saved.path.with_name("new")

  def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(whole_folders.commit_mark, "write", full)
    with pytest.raises(checkpoint.CheckpointStorageError, match="No space"):
      tiers.save(path, tree(), the_tiers())
  names = {x.name for x in path.parent.iterdir()}
  assert names == {"model", "other"}
  # What a kill leaves is no checkpoint, and blocks none.
  left = path.with_name("new.orbax-checkpoint-tmp") / "tiers" / "base"
  left.mkdir(parents=True)
  with pytest.raises(FileNotFoundError):
    tiers.restore(path, BASE)
  tiers.save(path, tree(), the_tiers())
  assert tiers.verify(path, EXPERT) == []
  assert not left.exists()
