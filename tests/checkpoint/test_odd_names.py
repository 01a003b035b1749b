"""Names and keys: those that are kept, and those that are refused at save."""

import collections
import enum
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import checkpoint
from tests.checkpoint.test_odd_trees import (
  WAYS,
  assert_same,
  exported,
  plain,
  sealed,
)


class Label(enum.StrEnum):
  """An enum whose members are shown as their values."""

  A = "x"


class Other(str, enum.Enum):  # noqa: UP042  The other kind.
  """An enum whose members are shown as `Other.A`."""

  A = "x"


ONE, TWO = np.float32([1]), np.float32([2])
SLASHES = {
  "a/": ONE,
  "a": TWO,
  "a//": np.float32([3]),
  "nested": {"": ONE, "/": TWO, "b": [{"c/": ONE, "c": (TWO,)}]},
}


@pytest.mark.parametrize("way", WAYS)
def test_names_that_differ_by_slashes(way: Any, tmp_path: pathlib.Path) -> None:
  read = way(tmp_path / "c", SLASHES)
  assert_same(read(), SLASHES)
  assert_same(read(SLASHES), SLASHES)


@pytest.mark.parametrize("way", [sealed, plain])
def test_keys_that_are_kept(way: Any, tmp_path: pathlib.Path) -> None:
  tree = {
    "numpy": {np.int64(3): ONE, 10: TWO},
    "text": {np.str_("a"): ONE, Label.A: TWO},
  }
  found = way(tmp_path / "c", tree)()
  assert_same(found, {"numpy": {3: ONE, 10: TWO}, "text": {"a": ONE, "x": TWO}})
  keys = [key for part in found.values() for key in part]
  assert [type(key) for key in keys] == [int, int, str, str]


KEYS: dict[str, tuple[Any, str]] = {
  "float": ({"n": {1.5: ONE}}, "leaf n/1.5: a key of a dict is a float: .* wh"),
  "tuple": ({(0, 1): ONE}, r"leaf \(0, 1\): a key of a dict is a tuple"),
  "bool": ({True: ONE, False: TWO}, "leaf False: a key of a dict is a bool"),
  "None": ({None: ONE}, "leaf None: a key of a dict is None"),
  "enum": ({Other.A: ONE}, "leaf Other.A: .* numbers, such as its value"),
  "empty": ({"w": ONE, "n": {1.5: {}}}, "leaf n/1.5: a key of a dict is"),
  "surrogate": ({"\ud800": ONE}, r"leaf \\ud800: .* that has no UTF-8"),
  "no order": ({3: ONE, "a": TWO}, "a dict whose keys have no order"),
  "equal": (
    collections.OrderedDict([(3, ONE), ("3", TWO)]),
    "two leaves have the path 3",
  ),
}


def in_a_manager(path: pathlib.Path, tree: Any) -> None:
  with checkpoint.Manager(path) as manager:
    manager.save(1, tree)


@pytest.mark.parametrize("way", [sealed, plain, in_a_manager])
@pytest.mark.parametrize("name", KEYS)
def test_keys_that_would_change(
  name: str, way: Any, tmp_path: pathlib.Path
) -> None:
  tree, message = KEYS[name]
  with pytest.raises(ValueError, match=message) as caught:
    way(tmp_path / "c", tree)
  str(caught.value).encode()  # A surrogate could not be printed.
  assert not list(tmp_path.glob("c/*")) or way is in_a_manager


MASKED = np.ma.masked_array([1.0, 2.0], [True, False])


def test_masked_arrays_are_refused(tmp_path: pathlib.Path) -> None:
  saves: list[Callable[..., Any]] = [sealed, plain, in_a_manager]
  saves += [checkpoint.write_weights]
  names = ["s", "p", "m", "w.safetensors"]
  for save, name in zip(saves, names, strict=True):
    with pytest.raises(ValueError, match="leaf x/m is a masked array"):
      save(tmp_path / name, {"x": {"m": MASKED}})


def test_limits_of_sealed_trees(tmp_path: pathlib.Path) -> None:
  for tree, message in (
    ({"k" * 5000: ONE}, r"path of leaf k{24}\.\.\. has 5000 .* at most 4096"),
    ({"w": np.ones((1,) * 33)}, "leaf w has 33 axes: .* at most 32"),
  ):
    with pytest.raises(ValueError, match=message):
      sealed(tmp_path / "c", tree)


@pytest.mark.parametrize("way", [*WAYS, "manager"])
@pytest.mark.parametrize("tree", [5, jnp.float32(3), np.bool_(True), ONE])
def test_a_tree_that_is_one_leaf(
  way: Any, tree: Any, tmp_path: pathlib.Path
) -> None:
  if way == "manager":
    with checkpoint.Manager(tmp_path / "m") as manager:
      manager.save(1, tree)
      manager.wait_until_finished()
      assert_same(manager.restore(), tree)
    return
  read = way(tmp_path / "c", tree)
  assert_same(read(), tree)
  if way is not exported:
    assert_same(read(tree), tree)


def test_bools_that_are_views_of_other_bytes(tmp_path: pathlib.Path) -> None:
  odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
  tree = {"host": odd, "device": jnp.asarray(odd), "one": odd[2]}
  found = plain(tmp_path / "c", tree)()
  for name, x in found.items():
    want = [True] if name == "one" else [False, True, True, True]
    np.testing.assert_array_equal(np.atleast_1d(x), want)


@pytest.mark.parametrize("way", [sealed, plain])
def test_numbers_that_are_requested(way: Any, tmp_path: pathlib.Path) -> None:
  tree = {
    "w": np.float32([[3]]),
    "n": np.float32(4),
    "rng": jax.random.key(0),
  }
  read = way(tmp_path / "c", tree)
  assert read(tree | {"n": 0.0})["n"] == 4.0
  for change, message in (
    ({"w": 0.0}, r"leaf w is float32\[1, 1\] there, float was expected"),
    ({"rng": 0}, r"leaf rng is key<fry>\[\] there, int was expected"),
    ({"z": 0.0}, "leaf z is absent there, float.* was expected"),
    ({"z": ONE}, r"leaf z is absent there, float32\[1\] was expected"),
  ):
    with pytest.raises(checkpoint.CheckpointError, match=message):
      read(tree | change)
  smaller = {k: v for k, v in tree.items() if k != "n"}
  with pytest.raises(checkpoint.CheckpointError, match=r"n is .* absent was"):
    read(smaller)
