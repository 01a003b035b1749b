"""Several items in one step: trees, JSON, the state of an input pipeline."""

import pathlib
from typing import Any

import grain
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from keyjax import Secret, checkpoint
from keyjax.errors import ArgumentError, KeyjaxError
from tests import trees
from tests.checkpoint.items import (
  BOTH,
  CONFIG,
  METRICS,
  OPT_STATE,
  PARAMS,
  Restore,
  Save,
  items,
  pipeline,
)


def save(folder: pathlib.Path, step: int, args: Any, **people: Any) -> None:
  with checkpoint.Manager(folder, **people) as manager:
    assert manager.save(step, args=args)


@BOTH
def test_items_together_or_alone(people: Any, tmp_path: pathlib.Path) -> None:
  data = pipeline()
  seen = [next(data) for _ in range(5)]
  with checkpoint.Manager(tmp_path, **people) as manager:
    saved = items(1, data=grain.checkpoint.CheckpointSave(data))
    manager.save(7, args=saved)
    following = [next(data) for _ in range(5)]  # While it is being saved.
    saved.config.item["value"] = "later"
  with checkpoint.Manager(tmp_path, **people) as manager:
    again = pipeline()
    found = manager.restore(
      args=ocp.args.Composite(
        data=grain.checkpoint.CheckpointRestore(again),
        params=Restore(PARAMS),
        opt_state=ocp.args.PyTreeRestore(OPT_STATE),
        config=ocp.args.JsonRestore(),
      )
    )
    assert isinstance(found, ocp.args.Composite) and found.data is again
    trees.assert_same_bits(found.params, jax.tree.map(lambda x: x + 1, PARAMS))
    trees.assert_same_bits(found.opt_state, OPT_STATE)
    assert found.config == CONFIG | {"value": 1}
    assert [next(again) for _ in range(5)] == following != seen
    alone = manager.restore(args=ocp.args.Composite(params=None), step=7)
    assert set(alone.keys()) == {"params"}
    trees.assert_same_bits(alone.params, found.params)
    alone = manager.restore(args=ocp.args.Composite(opt_state=None))
    assert len(jax.tree.leaves(alone.opt_state)) == len(
      jax.tree.leaves(OPT_STATE)
    )
    assert manager.metadata().items == {
      "config": "json",
      "data": "iterator",
      "opt_state": "tree",
      "params": "tree",
    }


@BOTH
def test_all_items_as_they_were_saved(
  people: Any, tmp_path: pathlib.Path
) -> None:
  save(tmp_path, 1, items(2), **people)
  with checkpoint.Manager(tmp_path, **people) as manager:
    found = manager.restore()
    assert set(found.keys()) == {"params", "opt_state", "config"}
    assert found.params["dense"]["kernel"][0, 0] == 2
    with pytest.raises(FileNotFoundError, match="no item state; it has config"):
      manager.restore(PARAMS)
  # A step with one tree is the same with and without arguments.
  save(tmp_path, 2, Save(PARAMS), **people)
  save(tmp_path, 3, ocp.args.Composite(state=Save(PARAMS)), **people)
  with checkpoint.Manager(tmp_path, **people) as manager:
    for step in (2, 3):
      for found in (
        manager.restore(step=step),
        manager.restore(PARAMS, step),
        manager.restore(args=Restore(PARAMS), step=step),
        manager.restore(args=ocp.args.Composite(state=None), step=step).state,
      ):
        trees.assert_same_bits(found, PARAMS)
      assert manager.metadata(step).items == {"state": "tree"}


@BOTH
def test_items_without_arrays(people: Any, tmp_path: pathlib.Path) -> None:
  """The state of plain SGD has none."""
  empty = optax.sgd(0.1).init(PARAMS)
  assert not jax.tree.leaves(empty)
  args = ocp.args.Composite(
    params=Save(PARAMS), opt=Save(empty), note=ocp.args.JsonSave("text")
  )
  save(tmp_path, 1, args, **people)
  save(tmp_path, 2, ocp.args.Composite(n=ocp.args.JsonSave(None)), **people)
  with checkpoint.Manager(tmp_path, **people) as manager:
    want = ocp.args.Composite(opt=Restore(empty), note=None)
    found = manager.restore(args=want, step=1)
    assert jax.tree.structure(found.opt) == jax.tree.structure(empty)
    assert found.note == "text"
    assert manager.restore().n is None
    with pytest.raises(ValueError, match="holds at least one array"):
      manager.save(3, args=ocp.args.Composite(a=Save({}), b=Save(())))
    with pytest.raises(checkpoint.CheckpointError, match="leaf .*absent"):
      want = ocp.args.Composite(opt=Restore(PARAMS))
      manager.restore(args=want, step=1)


class NotData:
  """Neither JSON nor a tree."""


class Iterator:
  """An iterator whose state is bytes, as that of Grain's DataLoader is."""

  def __init__(self) -> None:
    self.state = b'{"at": 0}'

  def get_state(self) -> bytes:
    return self.state

  def set_state(self, state: bytes) -> None:
    if b"at" not in state:
      raise ValueError("no place")
    self.state = state


@BOTH
def test_states_as_bytes_and_of_another_pipeline(
  people: Any, tmp_path: pathlib.Path
) -> None:
  data = Iterator()
  data.state = b'{"at": 5}'
  kept = grain.checkpoint.CheckpointSave
  args = ocp.args.Composite(
    a=kept(data), b=kept(pipeline()), c=ocp.args.JsonSave([1])
  )
  save(tmp_path, 1, args, **people)
  wanted = grain.checkpoint.CheckpointRestore
  with checkpoint.Manager(tmp_path, **people) as manager:
    new = Iterator()
    manager.restore(args=ocp.args.Composite(a=wanted(new)))
    assert new.state == data.state
    new = Iterator()
    for name, message in (
      ("b", "does not fit this"),
      ("c", "of kind json, an"),
    ):
      with pytest.raises(KeyjaxError, match=message):
        manager.restore(args=ocp.args.Composite(**{name: wanted(new)}))
    assert new.state == b'{"at": 0}'
    with pytest.raises(ArgumentError, match="item a is the state of an itera"):
      manager.restore()
    # What is read after a missing item would be in another place.
    with pytest.raises(
      FileNotFoundError, match="has no item x; it has a, b, c"
    ):
      manager.restore(args=ocp.args.Composite(a=wanted(new), x=None))
    assert new.state == b'{"at": 0}'


def refused() -> dict[str, tuple[Any, str]]:
  """Return arguments of items, and the message of the error."""
  one = {"w": np.ones(2)}
  nan, keys = float("nan"), {1: "a", "1": "b"}
  named = {
    name: (ocp.args.Composite(**{name: Save(one)}), "an item .*: its name is")
    for name in (
      "a/b",
      "../a",
      "",
      ".a",
      "a.b",
      "_METADATA",
      "metrics",
      "é",
      "sealed",
      "x" * 65,
      "a b",
    )
  }
  json = ocp.args.JsonSave
  return named | {
    "nan": (ocp.args.Composite(a=json({"x": nan})), "item a does not fit into"),
    "object": (ocp.args.Composite(a=json(NotData())), "item a does not fit"),
    "keys": (ocp.args.Composite(a=json([keys])), "is text, not of int"),
    "secret": (ocp.args.Composite(a=Save(Secret(b"s" * 32))), "holds no keys"),
    "text": (ocp.args.Composite(a=Save({"b": "c"})), "leaf b is of type str"),
    "both": (
      ocp.args.Composite(a=Save({"b": "c"}), b=Save(one)),
      "leaf a/b is",
    ),
    "kind": (
      ocp.args.Composite(a=ocp.args.ArraySave(np.ones(2))),
      "item a: an ArraySaveArgs is not supported",
    ),
    "option": (
      ocp.args.Composite(a=Save(one, custom_metadata={"a": 1})),
      "item a: custom_metadata is not supported",
    ),
    "none": (ocp.args.Composite(), "args names no item"),
    "dict": ({"a": one}, "args=a dict of a: orbax.checkpoint.args.Composite"),
  }


@BOTH
def test_items_that_are_refused(people: Any, tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(tmp_path, **people) as manager:
    for args, message in refused().values():
      with pytest.raises(ValueError, match=message) as caught:
        manager.save(1, args=args)
      assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="a state or args, not both"):
      manager.save(1, PARAMS, args=Save(PARAMS))
    assert manager.all_steps() == []


# ------------------------------------------------------------------ metadata


@BOTH
def test_metadata_of_the_run_and_of_a_step(
  people: Any, tmp_path: pathlib.Path
) -> None:
  run = {"commit": "abc", "seed": 1}
  with checkpoint.Manager(tmp_path, metadata=run, **people) as manager:
    manager.save(1, PARAMS)
    custom: dict[str, Any] = {"seed": 2, "x": [1.5]}
    manager.save(2, PARAMS, custom_metadata=custom)
    custom["x"].append("later")
    bad: Any = {"a": float("inf")}
    with pytest.raises(ArgumentError, match="custom_metadata does not fit"):
      manager.save(3, PARAMS, custom_metadata=bad)
    with pytest.raises(ArgumentError, match="has more than 1048576 bytes"):
      manager.save(3, PARAMS, custom_metadata={"a": "x" * (1 << 20)})
  with checkpoint.Manager(tmp_path, **people) as manager:
    assert manager.metadata(1).custom_metadata == run
    found = manager.metadata()
    assert found.custom_metadata == {"commit": "abc", "seed": 2, "x": [1.5]}
    assert found.metrics is None
    with pytest.raises(FileNotFoundError, match="no step 3"):
      manager.metadata(3)


def test_plain_steps_are_those_of_orbax(tmp_path: pathlib.Path) -> None:
  data = pipeline()
  next(data)
  args = items(0, data=grain.checkpoint.CheckpointSave(data))
  with checkpoint.Manager(tmp_path, metadata={"a": 1}) as manager:
    manager.save(1, args=args, metrics=METRICS)
  options = ocp.CheckpointManagerOptions(best_fn=lambda x: x["needle_metric"])
  with ocp.CheckpointManager(tmp_path, options=options) as orbax:
    again = pipeline()
    found = orbax.restore(
      1,
      args=ocp.args.Composite(
        params=Restore(PARAMS),
        config=ocp.args.JsonRestore(),
        data=grain.checkpoint.CheckpointRestore(again),
      ),
    )
    assert orbax.best_step() == 1 and orbax.metrics(1) == METRICS
    assert orbax.metadata(1).custom_metadata == {"a": 1}
  trees.assert_same_bits(found.params, PARAMS)
  assert found.config == CONFIG | {"value": 0} and next(again) == next(data)
