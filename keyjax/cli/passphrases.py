"""Passphrases: from a source, or asked for on the terminal."""

import getpass
import os

from keyjax.cli.failures import USAGE, Failure, blame
from keyjax.cli.sources import check_source
from keyjax.keyring import read_source

_LEAST = 8


def read_passphrase(source: str) -> str:
  """Reads a passphrase from `file:PATH`, `env:NAME` or `fd:N`.

  The end of its line does not belong to it.

  Raises:
    Failure: the source cannot be used, its file is not there, or it holds no
      text.
  """
  check_source(source, "passphrase")
  with blame(USAGE), read_source(source, "passphrase") as data:
    try:
      text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
      raise Failure(USAGE, "the passphrase is not UTF-8 text") from None
  if not text:
    raise Failure(USAGE, "the passphrase is empty")
  return text


def ask(prompt: str) -> str:
  """Asks on the terminal, without an echo.

  Raises:
    Failure: there is no terminal.
  """
  try:
    os.close(os.open("/dev/tty", os.O_RDWR))
  except OSError:
    raise Failure(
      USAGE,
      "a passphrase is needed and there is no terminal to ask on: give "
      "--passphrase SOURCE",
    ) from None
  return getpass.getpass(prompt)


def ask_twice() -> str:
  """Asks for a new passphrase.

  Raises:
    Failure: it is short, or the second time it is another.
  """
  text = ask("New passphrase: ")
  if len(text) < _LEAST:
    raise Failure(
      USAGE,
      f"a passphrase has at least {_LEAST} characters; six random "
      "words are good",
    )
  if ask("Again: ") != text:
    raise Failure(USAGE, "the two passphrases differ")
  return text
