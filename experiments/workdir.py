"""The folder of a run, and the folder of its keys, which is another one.

    WORKDIR/run.json            the config, to refuse another run's folder
    WORKDIR/<scheme>/locked     what may be shipped
    WORKDIR/<scheme>/...        metrics, rows, and training checkpoints: those
                                hold plain weights and stay with their owner
    KEYDIR/<run id>/secret      32 bytes, mode 600
    KEYDIR/<run id>/<scheme>.key

A run goes on where it stopped; each run has an id, so that keys of an earlier
run in the same place are never taken for this one's.
"""

import json
import os
import pathlib
import secrets
from typing import Any

from ml_collections import ConfigDict

from experiments import results
from keyjax import keys


class WorkdirError(ValueError):
  """A folder that this run cannot use; the message says what to do."""


class Workdir:
  """The folders of one run."""

  def __init__(
    self, config: ConfigDict, folder: str, key_folder: str = ""
  ) -> None:
    """Opens the folders, or makes them.

    Args:
      config: the run's config.
      folder: for results and checkpoints; no key ever lies in it.
      key_folder: for keys; by default `folder` with `.keys` at its end.

    Raises:
      WorkdirError: the folder holds another run, its keys are gone, the keys
        would lie inside it, or it cannot be written.
    """
    self.path = pathlib.Path(folder).resolve()
    home = pathlib.Path(key_folder or f"{self.path}.keys").resolve()
    if home == self.path or self.path in home.parents:
      raise WorkdirError(
        f"keys must not lie in the workdir: --keydir={home} is inside "
        f"{self.path}; choose a folder beside it"
      )
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      run_id = self._claim(json.loads(config.to_json_best_effort()))
      self.key_path = home / run_id
      self.secret = self._secret()
    except OSError as error:
      raise WorkdirError(
        f"cannot use --workdir={folder}: {error.strerror or error}"
      ) from None

  def _claim(self, config: dict[str, Any]) -> str:
    """Returns this run's id; refuses a folder that another run has."""
    file = self.path / "run.json"
    if not file.exists():
      found = [
        p.name for p in self.path.iterdir() if not p.name.startswith(".")
      ]
      if found:
        raise WorkdirError(
          f"{self.path} holds other files ({', '.join(sorted(found)[:3])}); "
          "choose another --workdir"
        )
      run = {"id": secrets.token_hex(8), "config": config}
      results.write_json(file, run)
    try:
      run = json.loads(file.read_text())
      run_id, old = str(run["id"]), run["config"]
    except (ValueError, KeyError, TypeError):
      raise WorkdirError(
        f"{file} is not of a run; choose another --workdir"
      ) from None
    if old != config:
      raise WorkdirError(
        f"{self.path} holds another run: its config differs at "
        f"{_difference(old, config)}; choose another --workdir, or "
        "delete that folder"
      )
    return run_id

  def _secret(self) -> keys.Secret:
    file = self.key_path / "secret"
    if file.exists():
      return keys.Secret.load(file)
    started = [p.name for p in self.path.iterdir() if p.is_dir()]
    if started:
      raise WorkdirError(
        f"{self.path} holds a run whose secret is not at {file}; give its "
        "--keydir, or delete the folder and start again"
      )
    secret = keys.Secret.generate()
    secret.save(file)
    return secret

  def folder(self, name: str) -> pathlib.Path:
    """Returns the folder of a scheme, made when absent."""
    path = self.path / name
    path.mkdir(exist_ok=True)
    return path

  def key_file(self, name: str) -> pathlib.Path:
    """Returns where a scheme's key lies."""
    return self.key_path / f"{name}.key"


def _difference(old: Any, new: Any, path: str = "") -> str:
  """Names the first field in which two configs differ."""
  if not isinstance(old, dict) or not isinstance(new, dict):
    return path or "config"
  for name in sorted(set(old) | set(new)):
    if old.get(name) != new.get(name):
      inner = f"{path}.{name}" if path else name
      return _difference(old.get(name), new.get(name), inner)
  return os.fspath(path)
