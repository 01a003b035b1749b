"""The `--out` flag of the commands that take no config."""

import pathlib

from absl import flags

_OUT = flags.DEFINE_string(
  "out", "", "Folder for what the command writes; it names its own by default."
)


def folder(default: str) -> pathlib.Path:
  """Returns the folder that `--out` names, or the command's own."""
  return pathlib.Path(_OUT.value or default)
