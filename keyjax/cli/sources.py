"""Where keys, passphrases and public keys are, as arguments say it."""

import os
import pathlib

from keyjax.cli.failures import FILES, USAGE, Failure
from keyjax.leaks import looks_secret

SOURCES = ("file", "env", "fd")
_MAX_TEXT = 1 << 20


def check_source(source: str, what: str = "key") -> None:
  """Raises a failure unless this is a source, and its file is there."""
  kind, rest = check_grammar(source, what)
  if kind == "file" and not pathlib.Path(rest).expanduser().exists():
    raise Failure(FILES, f"the {what} file {rest} does not exist")


def check_grammar(source: str, what: str = "key") -> tuple[str, str]:
  """Returns the kind and the rest of a source.

  Raises:
    Failure: it is none.
  """
  kind, _, rest = source.partition(":")
  if kind in SOURCES and rest:
    return kind, rest
  sentence = f"a {what} comes from file:PATH, env:NAME or fd:NUMBER"
  # What is no source is not repeated: it might be a key or a passphrase.
  if what == "key" and os.path.isfile(source):
    sentence += f": did you mean file:{source}?"
  raise Failure(USAGE, sentence)


def public_lines(name: str) -> list[str]:
  """Returns a public key, or those of `@FILE`: one a line, `#` for comments.

  Raises:
    Failure: the file holds none, or this is a file without its `@`.
  """
  if not name.startswith("@"):
    refuse_file(name)
    return [name]
  path = name[1:]
  with open(path, encoding="utf-8", errors="replace") as file:
    text = file.read(_MAX_TEXT)
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
  """Raises a failure if this is a file, and no public key or id."""
  if os.path.isfile(name):
    public = f"{name}.pub"
    hint = public if os.path.isfile(public) else name
    raise Failure(USAGE, f"{name} is a file: did you mean @{hint}?")
