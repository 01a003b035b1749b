"""Kinds of keys and recipients, known without importing them.

The files of the keyring register their kinds (see `keyjax.keyring.recipients`)
and import JAX. For help, completion and argument errors, their source text is
searched for what the command line shows: calls with `name=` and `summary=` for
kinds that `keygen` creates, and calls with `form=` and `help=` for arguments of
`--to` and `-i`. Once the keyring is imported, its registry is used instead.
"""

import ast
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import keyjax

_FOLDER = pathlib.Path(__file__).parent.parent / "keyring"
Texts = dict[str, str]


def keygen_kinds() -> Texts:
  """Return the kinds that `keyjax keygen` creates, with their summaries.

  Example:
    >>> keygen_kinds()["x25519"]
    'to receive'
  """
  if not _is_imported():
    return _declared("name", "summary")
  kinds = keyjax.keyring.kinds().values()
  return {kind.name: kind.summary for kind in kinds if kind.summary}


def argument_forms() -> Texts:
  """Return the forms of `--to` and `-i` that kinds define, with their help.

  Example:
    >>> argument_forms()["passphrase[:SOURCE]"]
    'a passphrase, asked for or read from a SOURCE'
  """
  if not _is_imported():
    return _declared("form", "help")
  kinds = keyjax.keyring.kinds().values()
  arguments = [kind.argument for kind in kinds if kind.argument]
  return {argument.form: argument.help for argument in arguments}


def _is_imported() -> bool:
  # Without source files, as in a zip archive, there is only the registry.
  return "keyjax.keyring" in sys.modules or not _FOLDER.is_dir()


@functools.cache
def _calls() -> list[dict[str, Any]]:
  """Return the literal keyword arguments of all calls that may register."""
  files = [*sorted((_FOLDER / "recipients").glob("*.py")), *_FOLDER.glob("*.py")]
  texts = [file.read_text("utf-8") for file in files]
  return [
    call for text in texts if "register(" in text for call in _parse(text)
  ]


def _parse(text: str) -> Iterator[dict[str, Any]]:
  module = ast.parse(text)
  constants = {
    target.id: node.value.value
    for node in module.body
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    for target in node.targets
    if isinstance(target, ast.Name)
  }
  for node in ast.walk(module):
    if isinstance(node, ast.Call):
      yield {
        str(keyword.arg): keyword.value.value
        if isinstance(keyword.value, ast.Constant)
        else constants[keyword.value.id]
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Constant)
        or isinstance(keyword.value, ast.Name)
        and keyword.value.id in constants
      }


def _declared(name: str, text: str) -> Texts:
  return {c[name]: c[text] for c in _calls() if name in c and text in c}
