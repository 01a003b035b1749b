"""The manifest's parser: for any input a manifest or an error."""

import json
import tracemalloc
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keyjax.checkpoint.format import layout, manifest_json, tree_structure
from keyjax.checkpoint.format.manifest import Manifest
from keyjax.checkpoint.saving import describe_tree
from keyjax.errors import CheckpointError

TREE = {"a": [np.zeros((3, 4), np.float32), 5], "b": (np.int8(1), None)}
BYTES = manifest_json.to_bytes(describe_tree(TREE, 7, {"x": 1}, True)[1])
FIELDS = json.loads(BYTES)


def read(data: bytes) -> Manifest | None:
  """Parse within a bound of memory; only one error is allowed."""
  tracemalloc.start()
  try:
    found = manifest_json.from_bytes(data)
  except CheckpointError as error:
    assert "\n" not in str(error) and len(str(error)) < 300
    return None
  finally:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22 + 200 * len(data)
  assert manifest_json.to_bytes(found).rstrip() == data.rstrip(b" ")
  return found


def dump(fields: Any) -> bytes:
  text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
  return text.encode("ascii", "replace")


def test_a_written_manifest_is_read() -> None:
  found = read(BYTES)
  assert found is not None and found.step == 7 and found.metadata == {"x": 1}
  assert len(BYTES) == 4096, "padded"


VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-(2**70), 2**70)
  | st.floats(allow_nan=False)
  | st.text(max_size=8)
  | st.sampled_from([2**31, 2**62, 2**63, -1, 0, 1, "float32", "jax"]),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(
      st.text(max_size=3) | st.sampled_from(["dict", "list", "tuple"]),
      inner,
      max_size=3,
    )
  ),
  max_leaves=12,
)


def paths(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
  inner: Any = ()
  if isinstance(node, dict):
    inner = node.items()
  elif isinstance(node, list):
    inner = enumerate(node)
  return [at, *(p for k, x in inner for p in paths(x, (*at, k)))]


PLACES = paths(FIELDS)[1:]


def put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
  if not path:
    return value
  out = dict(node) if isinstance(node, dict) else list(node)
  out[path[0]] = put(node[path[0]], path[1:], value)
  return out


def fuzz(examples: int) -> None:
  settings = hypothesis.settings(
    max_examples=examples,
    deadline=5_000,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )

  @settings
  @hypothesis.given(
    st.lists(st.tuples(st.sampled_from(PLACES), VALUES), max_size=3)
  )
  def edited(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    fields = FIELDS
    for path, value in changes:
      try:
        fields = put(fields, path, value)
      except (KeyError, IndexError, TypeError):
        continue  # An earlier change removed this field.
    read(dump(fields))

  @settings
  @hypothesis.given(
    st.integers(0, len(BYTES.rstrip()) - 1), st.binary(max_size=6)
  )
  def spliced(place: int, new: bytes) -> None:
    read(BYTES[:place] + new + BYTES[place + len(new) :])
    read(BYTES[:place])

  @settings
  @hypothesis.given(st.binary(max_size=400))
  def noise(data: bytes) -> None:
    assert read(data) is None

  edited()
  spliced()
  noise()


def test_fuzz_the_reader() -> None:
  fuzz(150)


@pytest.mark.slow
def test_fuzz_the_reader_for_minutes() -> None:
  fuzz(20_000)


BAD: list[tuple[tuple[Any, ...], Any]] = [
  (("version",), 2),
  (("version",), True),
  (("id",), "0" * 31),
  (("step",), -1),
  (("metadata",), []),
  (("streams", 2), 2**40),
  (("leaves",), []),
  (("leaves", 0, 0), "a/1"),
  (("leaves", 0, 1), "object"),
  (("leaves", 0, 2), [3, 5]),
  (("leaves", 0, 2), [2**40, 2**40]),
  (("leaves", 0, 3), "pickle"),
  (("leaves", 0, 4), []),
  (("leaves", 0, 4, 0, 2), 1),
  (("leaves", 0, 4, 0, 1), [3, 3]),
  (("leaves", 0, 4, 0, 0), [1, 0]),
  (("digests",), []),
  (("digests", 0), "0" * 63),
  (("tree",), 0),
  (("tree",), {"list": [0, 1]}),
  (("tree",), {"list": [0, 0, 1]}),
  (("tree",), {"exec": [0, 1, 2]}),
]


@pytest.mark.parametrize(("path", "value"), BAD)
def test_inconsistent_manifests_are_refused(
  path: tuple[Any, ...], value: Any
) -> None:
  assert read(dump(put(FIELDS, path, value))) is None


def test_hostile_sizes_are_refused_before_they_are_parsed() -> None:
  assert read(b"[" * 200_000) is None
  assert read(b'{"a":' + b"1" * 100_000 + b"}") is None
  assert read(b" " * (manifest_json.MAX_SIZE + 1)) is None
  deep: Any = 0
  for _ in range(200):
    deep = {"list": [deep]}
  assert read(dump(FIELDS | {"tree": deep})) is None


def test_overlapping_parts_are_refused() -> None:
  leaf = ["w", "int8", [4], "jax", []]
  for parts in (
    [[[0], [3], 0], [[2], [4], 0]],
    [[[0], [2], 0], [[0], [2], 0]],
    [[[0], [2], 0]],
    [[[0], [2], 0], [[2], [3], 0]],
  ):
    leaf[4] = parts
    with pytest.raises(CheckpointError):
      manifest_json.check_leaf(leaf, 1)
  leaf[4] = [[[2], [4], 0], [[0], [2], 0]]
  manifest_json.check_leaf(leaf, 1)


@pytest.mark.parametrize("used", [72, 1000, 16_400, 65_536, 5_000_000, 10**9])
def test_streams_are_filled_exactly(used: int) -> None:
  for extra in range(0, 400, 7):
    made = layout.choose_streams([used + extra, 72])
    assert (
      made.size % made.read_size == 0
      and made.segment_size % made.read_size == 0
    )
    assert made.size <= 1.15 * (used + extra) + 8192
    for row in (used + extra, 72):
      messages = list(layout.padding_messages(row, made.size))
      assert messages[0][0] == row
      assert sum(size for _, size in messages) == made.size - row


def test_structure_of_some_leaves() -> None:
  found = tree_structure.describe({"a": [1, 2], "b": {"c": 3}, "d": None})
  tree_structure.check(found, 3)
  assert tree_structure.rebuild(found, {2: "x"}, 3) == {"b": {"c": "x"}}
  with pytest.raises(ValueError, match="at most 64 levels"):
    deep: Any = 1
    for _ in range(70):
      deep = [deep]
    tree_structure.describe(deep)
