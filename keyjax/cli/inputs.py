"""Inputs that arguments refer to: sources, passphrases, public keys, JSON.

Passphrases come from a source or from the terminal. What is not a source is
never repeated in a message: it might be a key or a passphrase.
"""

import getpass
import json
import os
import pathlib
from typing import Any

import keyjax
from keyjax import private_files
from keyjax.cli.exit_codes import (
  FILES,
  REFUSED,
  USAGE,
  Failure,
  keyring_errors_as,
)
from keyjax.leaks import looks_secret

SOURCES = ("file", "env", "fd")
_MAX_TEXT = 1 << 20
_MIN_PASSPHRASE = 8


def check_source(source: str, what: str = "key") -> None:
  """Raise a `Failure` unless this is a source, and its file exists."""
  kind, rest = parse_source(source, what)
  if kind == "file" and not pathlib.Path(rest).expanduser().exists():
    raise Failure(FILES, f"the {what} file {rest} does not exist")


def parse_source(source: str, what: str = "key") -> tuple[str, str]:
  """Return the kind of a source and what follows the colon.

  Raises:
    Failure: If this is not a source.
  """
  kind, _, rest = source.partition(":")
  if kind in SOURCES and rest:
    return kind, rest
  message = f"a {what} comes from file:PATH, env:NAME or fd:NUMBER"
  if what == "key" and os.path.isfile(source):
    message += f": did you mean file:{source}?"
  raise Failure(USAGE, message)


def read_passphrase(source: str) -> str:
  """Read a passphrase from `file:PATH`, `env:NAME` or `fd:N`.

  The end of the line is not part of it.

  Raises:
    Failure: If the source cannot be used, its file is missing, or it contains
      no text.
  """
  check_source(source, "passphrase")
  with (
    keyring_errors_as(USAGE),
    keyjax.keyring.read_source(source, "passphrase") as data,
  ):
    text = keyjax.keyring.encoding.decode_secret(data, "passphrase")
  text = text.rstrip("\r\n")
  if not text:
    raise Failure(USAGE, "the passphrase is empty")
  return text


def ask_passphrase(
  prompt: str = "Passphrase: ", instead: str = "--passphrase SOURCE"
) -> str:
  """Prompt for a passphrase on the terminal, without echo.

  Args:
    prompt: Text before the answer.
    instead: What to give where there is no terminal.

  Raises:
    Failure: If there is no terminal.
  """
  try:
    os.close(os.open("/dev/tty", os.O_RDWR))
  except OSError:
    raise Failure(
      USAGE,
      "a passphrase is needed and there is no terminal to ask on: give "
      f"{instead}",
    ) from None
  return getpass.getpass(prompt)


def ask_new_passphrase() -> str:
  """Prompt for a new passphrase, twice.

  Raises:
    Failure: If it is too short, or the two differ.
  """
  text = ask_passphrase("New passphrase: ")
  if len(text) < _MIN_PASSPHRASE:
    raise Failure(
      USAGE,
      f"a passphrase has at least {_MIN_PASSPHRASE} characters; six random "
      "words are good",
    )
  if ask_passphrase("Again: ") != text:
    raise Failure(USAGE, "the two passphrases differ")
  return text


def is_public(name: str) -> bool:
  """Return whether an argument has the form of a public key or of `@FILE`."""
  return name.startswith(("@", "keyjax-"))


def public_lines(name: str) -> list[str]:
  """Return a public key, or those in `@FILE`: one per line, `#` for comments.

  Raises:
    Failure: If the file contains none, or the `@` before a file is missing.
  """
  if not name.startswith("@"):
    refuse_file(name)
    return [name]
  path = name[1:]
  with open(path, "rb") as file:
    text = private_files.as_utf8(file.read(_MAX_TEXT)).decode(errors="replace")
  lines = [line.strip() for line in text.splitlines()]
  found = [line for line in lines if line and not line.startswith("#")]
  if any(looks_secret(line) and "PUBLIC KEY" not in line for line in found):
    raise Failure(
      USAGE,
      f"{path} looks like a private key: give its public key, which `keyjax "
      "public` shows",
    )
  if not found:
    raise Failure(USAGE, f"{path} holds no public key")
  return found


def refuse_file(name: str) -> None:
  """Raise a `Failure` if this is a file, not a public key or an id."""
  if os.path.isfile(name):
    public = f"{name}.pub"
    hint = public if os.path.isfile(public) else name
    raise Failure(USAGE, f"{name} is a file: did you mean @{hint}?")


def read_json_object(path: str | None) -> dict[str, Any]:
  """Read a file that contains one JSON object; empty for None.

  Raises:
    Failure: If it contains something else.
    OSError: If it cannot be read.
  """
  if path is None:
    return {}
  try:
    found = json.loads(private_files.as_utf8(pathlib.Path(path).read_bytes()))
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict):
    raise Failure(REFUSED, f"{path} does not hold a JSON object")
  return found


def refuse_existing(path: str) -> None:
  """Raise a FileExistsError if something is at a path on a disk."""
  if os.path.lexists(path):
    raise FileExistsError(f"{path} exists; it is not overwritten")
