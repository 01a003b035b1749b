"""What the commands of `keyjax data` share."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import keyjax
from keyjax.cli.output import progress_bar
from keyjax.cli.parsers import add_path


def add_set(parser: Any, what: str = "a sealed data set") -> None:
  """Add the set that a command works on."""
  add_path(parser, "path", complete="directory", metavar="PATH", help=what)


def add_source(parser: Any) -> None:
  """Add what a command reads."""
  add_path(parser, "source", metavar="IN", help="folder or file to read")


def add_expected_name(parser: Any) -> None:
  """Add `--name`, which the set must have."""
  parser.add_argument("--name", help="expected name of the set")


def progress(title: str, args: argparse.Namespace, path: str) -> Any:
  """Show a progress bar over the bytes of a folder or a file."""
  total = keyjax.data.stored_size(path) if pathlib.Path(path).exists() else 0
  return progress_bar(title, args.json, total, "read")


def records(count: int) -> str:
  """Return a number of records in words."""
  return "1 record" if count == 1 else f"{count} records"


def files(count: int) -> str:
  """Return a number of files in words."""
  return "1 file" if count == 1 else f"{count} files"
