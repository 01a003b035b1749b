"""What the commands share: flags, and errors of one line."""

import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

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
flags.mark_flags_as_required(["config", "workdir"])


def check(argv: list[str]) -> None:
  """Ends the program unless the command line names a config and no more."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  if not pathlib.Path(file.split(":")[0]).is_file():
    sys.exit(f"error: no config file {file}; those here are in configs/")


def serve(argv: list[str], run: Callable[..., Any]) -> None:
  """Calls `run(config, workdir, keydir)`; user errors are one line."""
  check(argv)
  logging.set_verbosity(logging.ERROR)  # JAX's and Orbax's notes.
  try:
    run(CONFIG.value, str(WORKDIR.value), KEYDIR.value)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; a misspelt field of a config ends the program."""
  try:
    return app.parse_flags_with_usage(argv)
  except (AttributeError, KeyError) as error:
    words = re.findall(r"\w+", str(error))
    hint = re.search(r'mean "(\w+)', str(error))
    sys.exit(
      f"error: the config has no field {words[0]!r}"
      + (f" (did you mean {hint[1]!r}?)" if hint else "")
      + "; experiments/config.py lists them, with their defaults"
    )
  except OSError as error:
    sys.exit(f"error: no config: {str(error).splitlines()[-1].strip()}")
