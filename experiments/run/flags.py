"""The flags of the commands that take a config."""

import getpass
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

import keyjax
from experiments.run import ending
from experiments.run.config import ConfigArgumentError
from keyjax import keyring

CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder for results, local or gs://; made when absent, resumed when not.",
)
KEYDIR = flags.DEFINE_string(
  "keydir",
  "",
  "Local folder for keys, outside the workdir; WORKDIR.keys by default.",
)
_SECRET = flags.DEFINE_string(
  "secret",
  "",
  "Where the secret is: file:PATH, env:NAME or fd:N; by default one is made.",
)
flags.mark_flags_as_required(["config", "workdir"])


def check(argv: list[str]) -> None:
  """Ends the program unless the command line names a config and no more."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  if not pathlib.Path(file.split(":")[0]).is_file():
    sys.exit(f"error: no config file {file}; those here are in configs/")


def secret() -> keyjax.Secret | None:
  """Reads the run's secret, if the command line says where it is.

  It asks for a passphrase at a terminal.

  Raises:
    ValueError: it is another private key, and not a secret.
    KeyringError: it cannot be read.
  """
  if not _SECRET.value:
    return None
  ask = lambda: getpass.getpass("Passphrase: ")  # noqa: E731
  found = keyring.read_key(_SECRET.value, ask)
  if not isinstance(found, keyjax.Secret):
    raise ValueError("--secret names another private key, not a secret")
  return found


def serve(argv: list[str], run: Callable[..., Any]) -> None:
  """Calls `run(config, workdir, keydir, secret)`; user errors are one line."""
  check(argv)
  logging.set_verbosity(logging.ERROR)  # JAX's and Orbax's notes.
  with ending.one_line():
    run(CONFIG.value, str(WORKDIR.value), KEYDIR.value, secret())


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a misspelt field of a config ends the program."""
  for flag in flags.FLAGS.get_flags_for_module(__name__):  # For --help.
    flags.FLAGS.register_key_flag_for_module(argv[0], flag)
  try:
    return app.parse_flags_with_usage(argv)
  except (AttributeError, KeyError) as error:
    words = re.findall(r"\w+", str(error))
    hint = re.search(r'mean "(\w+)', str(error))
    sys.exit(
      f"error: the config has no field {words[0]!r}"
      + (f" (did you mean {hint[1]!r}?)" if hint else "")
      + "; experiments/run/config.py lists them, with their defaults"
    )
  except ConfigArgumentError as error:
    sys.exit(f"error: {error}")
  except OSError as error:
    sys.exit(f"error: no config: {str(error).splitlines()[-1].strip()}")
