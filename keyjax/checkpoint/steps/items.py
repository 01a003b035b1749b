"""Items of a step: trees of arrays, JSON, and states of input pipelines.

Items are named as in Orbax, by its own arguments:

    ocp.args.Composite(
      params=ocp.args.StandardSave(params),
      config=ocp.args.JsonSave(config),
      data=grain.checkpoint.CheckpointSave(iterator),
    )

`freeze` takes what it saves when it is called, so that an iterator or a dict
that changes while Orbax writes changes nothing.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from keyjax import arguments
from keyjax.checkpoint.check_tree import check_tree
from keyjax.checkpoint.steps.texts import get_state, process_name, to_json
from keyjax.checkpoint.storage import processes
from keyjax.errors import ArgumentError

STATE = "state"  # Of a step with one tree, which has no names.
TREE = "tree"
JSON = "json"
ITERATOR = "iterator"
KINDS = (TREE, JSON, ITERATOR)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# What else is in the folder of a step, or of a tree in it.
_RESERVED = ("array_metadatas", "d", "header", "metrics", "sealed", "tiers")
_TREES = (
  ocp.args.StandardSave,
  ocp.args.StandardRestore,
  ocp.args.PyTreeSave,
  ocp.args.PyTreeRestore,
)
_JSONS = (ocp.args.JsonSave, ocp.args.JsonRestore)


class Item(NamedTuple):
  """What is saved under a name.

  Attributes:
    kind: One of `KINDS`.
    value: A tree; JSON as text; or the state of an iterator as text, which
      differs between processes.
    args: Class of Orbax's arguments that it was given in.
  """

  kind: str
  value: Any
  args: Any


def is_item_name(name: Any) -> bool:
  """Return whether an item can have this name.

  Example:
    >>> is_item_name("opt_state"), is_item_name("a/b"), is_item_name("metrics")
    (True, False, False)
  """
  is_name = isinstance(name, str) and bool(_NAME.fullmatch(name))
  return is_name and name not in _RESERVED


def as_composite(state: Any, args: Any, wrap: Any) -> dict[str, Any]:
  """Return the arguments of each item.

  Args:
    state: Tree of a step without names.
    args: Orbax's arguments instead: of one tree, or `Composite`.
    wrap: Class of the arguments of a tree.

  Raises:
    ArgumentError: If there are both, or an item cannot have its name.
  """
  if args is None:
    return {STATE: wrap(state)}
  if state is not None:
    raise ArgumentError("give a state or args, not both")
  if not isinstance(args, ocp.args.CheckpointArgs):
    raise ArgumentError(
      f"args={arguments.describe(args)}: orbax.checkpoint.args.Composite, with "
      "arguments for each item"
    )
  found = {STATE: args}
  if isinstance(args, ocp.args.Composite):
    found = dict(args.items())
  if not found:
    raise ArgumentError("args names no item")
  if bad := [name for name in found if not is_item_name(name)]:
    raise ArgumentError(
      f"an item {arguments.show(bad[0])}: its name is 1 to 64 letters, digits, "
      f"_ or -, begins with a letter or a digit, and is none of "
      f"{', '.join(_RESERVED)}"
    )
  return found


def kind_of(name: str, args: Any) -> str:
  """Return the kind of an item, by its arguments.

  Raises:
    ArgumentError: If Orbax would do something else with them.
  """
  if isinstance(args, _TREES):
    _check_only_item(name, args)
    return TREE
  if isinstance(args, _JSONS):
    return JSON
  if hasattr(getattr(args, "item", None), "set_state"):
    return ITERATOR
  raise ArgumentError(
    f"item {name}: {arguments.describe(args)} is not supported; give "
    "StandardSave, PyTreeSave or JsonSave (to restore: StandardRestore, "
    "PyTreeRestore or JsonRestore), or those of grain.checkpoint"
  )


def _check_only_item(name: str, args: Any) -> None:
  """Refuse what would be ignored: the item is all that is used."""
  for field in dataclasses.fields(args):
    if field.name == "item":
      continue
    if getattr(args, field.name) != field.default:
      raise ArgumentError(
        f"item {name}: {field.name} is not supported; give the item alone"
      )


def freeze(args: Mapping[str, Any]) -> dict[str, Item]:
  """Return what is saved of each item, as it is now.

  Raises:
    ValueError: If something is not JSON, or a tree has something other than
      arrays.
  """
  items = {}
  for name, one in args.items():
    kind = kind_of(name, one)
    value = one.item
    if kind == JSON:
      value = to_json(value, f"item {name}")
    elif kind == ITERATOR:
      value = get_state(value)
    items[name] = Item(kind, value, type(one))
  _check_trees({n: x.value for n, x in items.items() if x.kind == TREE}, items)
  return items


def _check_trees(trees: dict[str, Any], items: dict[str, Item]) -> None:
  if len(items) == 1 and trees:
    check_tree(next(iter(trees.values())))
  elif jax.tree.leaves(trees) or len(trees) == len(items):
    check_tree(trees)  # Beside other items, all trees may be empty.


def read_items(step: Any, args: Mapping[str, Any] | None) -> dict[str, Any]:
  """Return items of a step that was opened.

  Args:
    step: `SealedStep` or `PlainStep`.
    args: Arguments of the wanted items; None for all.

  Raises:
    FileNotFoundError: If it has no such item.
    ArgumentError: If an item is of another kind than its arguments.
  """
  if args is None:
    args = dict.fromkeys(step.items)
  for name, one in args.items():
    _check_wanted(step, name, one)
  # An iterator moves: only if all else was read.
  in_order = sorted(args, key=lambda name: step.items[name] == ITERATOR)
  return {
    name: step.read(name, getattr(args[name], "item", None))
    for name in in_order
  }


def _check_wanted(step: Any, name: str, args: Any) -> None:
  if name not in step.items:
    have = ", ".join(step.items) or "nothing that can be read"
    hint = ": give args" if name == STATE else ""
    raise FileNotFoundError(
      f"{step.path} has no item {name}; it has {have}{hint}"
    )
  kind = step.items[name]
  if kind == ITERATOR and args is None:
    raise ArgumentError(
      f"item {name} is the state of an iterator: give args with "
      "grain.checkpoint.CheckpointRestore of one"
    )
  if args is not None and kind_of(name, args) != kind:
    raise ArgumentError(
      f"item {name} is of kind {kind}, and its arguments are of kind "
      f"{kind_of(name, args)}"
    )


def to_tree(items: Mapping[str, Item]) -> Any:
  """Return one tree of all items, with text as uint8[bytes].

  With several processes all of them call it: each has the states of its own
  iterators.
  """
  if is_single({name: item.kind for name, item in items.items()}):
    return items[STATE].value
  return {name: _leaves(items[name]) for name in sorted(items)}


def is_single(kinds: Mapping[str, str]) -> bool:
  """Return whether a step has one tree, and no names."""
  return kinds == {STATE: TREE}


def _leaves(item: Item) -> Any:
  if item.kind == TREE:
    return item.value
  data = item.value.encode("utf-8")
  if item.kind == JSON:
    return np.frombuffer(data, np.uint8)
  every = processes.gather_bytes(data)
  return {
    process_name(i, len(every)): np.frombuffer(one, np.uint8)
    for i, one in enumerate(every)
  }
