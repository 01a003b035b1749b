"""Kinds of keys and recipients, known without importing them.

The files of the keyring register their kinds (see `keyjax.keyring.recipients`)
and import JAX. For help, completion and argument errors, the source text of
these files is searched instead, for what the command line shows: calls with
`name=` and `summary=` for kinds that `keygen` creates, and calls with `form=`
and `help=` for arguments of `--to` and `-i`. Once the keyring is imported, its
registry is used.
"""

import ast
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import keyjax

Role = Literal["recipient", "identity", "create"]
_FOLDER = pathlib.Path(__file__).parent.parent / "keyring"


class _Call(NamedTuple):
  """A function call: names of its keyword arguments, and constant values."""

  keywords: set[str]
  values: dict[str, Any]


def keygen_kinds() -> dict[str, str]:
  """Return the kinds that `keyjax keygen` creates, with their summaries.

  Example:
    >>> keygen_kinds()["x25519"]
    'to receive'
  """
  if _use_registry():
    kinds = keyjax.keyring.kinds().values()
    return {kind.name: kind.summary for kind in kinds if kind.summary}
  return {
    values["name"]: values["summary"]
    for _, values in _calls()
    if {"name", "summary"} <= set(values)
  }


def argument_forms(role: Role) -> dict[str, str]:
  """Return the forms of arguments that kinds define, with their help.

  Args:
    role: "recipient" for `--to`, "identity" for `-i`, "create" for keys that
      `keyjax hardware create` makes.

  Example:
    >>> argument_forms("identity")["passphrase[:SOURCE]"]
    'a passphrase, asked for or read from a SOURCE'
  """
  if _use_registry():
    kinds = keyjax.keyring.kinds().values()
    arguments = [kind.argument for kind in kinds if kind.argument]
    return {x.form: x.help for x in arguments if getattr(x, role) is not None}
  return {
    values["form"]: values["help"]
    for keywords, values in _calls()
    if {"form", "help"} <= set(values) and role in keywords
  }


def _use_registry() -> bool:
  # Without source files, as in a zip archive, there is only the registry.
  return "keyjax.keyring" in sys.modules or not _FOLDER.is_dir()


@functools.cache
def _calls() -> list[_Call]:
  """Return the function calls in files of the keyring that register kinds."""
  files = [*(_FOLDER / "recipients").glob("*.py"), *_FOLDER.glob("*.py")]
  texts = [file.read_text("utf-8") for file in sorted(files)]
  return [x for text in texts if "register(" in text for x in _parse(text)]


def _parse(text: str) -> Iterator[_Call]:
  module = ast.parse(text)
  constants = {
    target.id: node.value
    for node in module.body
    if isinstance(node, ast.Assign)
    for target in node.targets
    if isinstance(target, ast.Name)
  }
  for node in ast.walk(module):
    if not isinstance(node, ast.Call):
      continue
    values = {}
    for keyword in node.keywords:
      value = keyword.value
      if isinstance(value, ast.Name):
        value = constants.get(value.id, value)
      if isinstance(value, ast.Constant):
        values[str(keyword.arg)] = value.value
    yield _Call({str(keyword.arg) for keyword in node.keywords}, values)
