"""The folder of a run, and the folder of its keys, which is another one.

    WORKDIR/run.json            the config, to refuse another run's folder
    WORKDIR/<scheme>/locked     what may be shipped
    WORKDIR/<scheme>/...        metrics, rows, and training checkpoints: those
                                hold plain weights and stay with their owner
    KEYDIR/<run id>/secret      32 bytes, mode 600
    KEYDIR/<run id>/<scheme>.key

A run goes on where it stopped; each run has an id, so that keys of an earlier
run in the same place are never taken for this one's. A secret that the caller
brings is not written: `run.json` keeps its fingerprint alone. Of several
processes, the first writes; all of them see the same WORKDIR.

WORKDIR may be in a bucket (`gs://...`). Keys never are: KEYDIR must be named
then, and is a local folder.
"""

import hashlib
import json
import os
import pathlib
import secrets
import weakref
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.run import files, results
from experiments.run.config import meaning
from keyjax import Secret, parallel, private_files
from keyjax.checkpoint import is_remote


class WorkdirError(ValueError):
  """A folder that this run cannot use; the message says what to do."""


class _Held:
  """A locked folder, until nothing in this process works in it any more."""

  def __init__(self, path: pathlib.Path) -> None:
    """Locks the folder."""
    found = private_files.lock_folder(path)
    if found is None:
      raise WorkdirError(
        f"another process works in {path}; wait for it, or choose another "
        "--workdir"
      )
    self.fd = found

  def __del__(self) -> None:
    """Unlocks it, if it was locked."""
    if hasattr(self, "fd"):
      os.close(self.fd)


# By device and inode: a folder may be deleted, and made again.
_HELD = weakref.WeakValueDictionary[tuple[int, int], _Held]()


def _hold(path: files.AnyPath) -> _Held | None:
  """Keeps other processes out; a bucket has no locks."""
  if is_remote(path):
    return None
  found = path.stat()
  place = found.st_dev, found.st_ino
  held = _HELD.get(place)
  if held is None:
    held = _HELD[place] = _Held(path)
  return held


class Workdir:
  """The folders of one run."""

  def __init__(
    self,
    config: ConfigDict,
    folder: str,
    key_folder: str = "",
    secret: Secret | None = None,
  ) -> None:
    """Opens the folders, or makes them.

    Args:
      config: the run's config.
      folder: for results and checkpoints; no key ever lies in it.
      key_folder: for keys; by default `folder` with `.keys` at its end.
      secret: what keys are derived from; by default one that is made and kept
        in `key_folder`. Several processes must bring it.

    Raises:
      WorkdirError: the folder holds another run, its keys are gone, the keys
        would lie inside it, it cannot be written, another process works in
        it, or the secret is missing or not the one that this run, or another
        process, has.
    """
    self.path = files.path(folder)
    home = _key_home(self.path, key_folder)
    if home == self.path or self.path in home.parents:
      raise WorkdirError(
        f"keys must not lie in the workdir: --keydir={home} is inside "
        f"{self.path}; choose a folder beside it"
      )
    mark = secret.fingerprint() if secret else ""
    _check_processes(config, mark)
    claimed = (self.path / "run.json").exists()
    if key_folder and parallel.is_first() and not claimed:
      _check_writable(home)
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      if secret and not parallel.is_first():
        self.key_path, self.secret = home, secret
        return
      kept = meaning(config)
      kept.pop("encrypt", None)  # Who may open a run can change.
      self._held = _hold(self.path)  # Before another can claim it as well.
      run_id = self._claim(kept, mark)
    except OSError as error:
      raise WorkdirError(
        f"cannot use --workdir={folder}: {error.strerror or error}"
      ) from None
    self.key_path = home / run_id
    try:
      self.secret = secret or self._secret()
    except OSError as error:
      raise WorkdirError(
        f"cannot use --keydir={home}: {error.strerror or error}"
      ) from None

  def _claim(self, config: dict[str, Any], mark: str) -> str:
    """Returns this run's id; refuses a folder that another run has."""
    file = self.path / "run.json"
    if not file.exists():
      found = [x for x in files.names(self.path) if not x.startswith(".")]
      if found:
        raise WorkdirError(
          f"{self.path} holds other files ({', '.join(found[:3])}); "
          "choose another --workdir"
        )
      run = {"id": secrets.token_hex(8), "config": config, "secret": mark}
      results.write_json(file, run)
    try:
      run = json.loads(file.read_text())
      run_id, old, begun_with = str(run["id"]), run["config"], run["secret"]
    except (ValueError, KeyError, TypeError):
      raise WorkdirError(
        f"{file} is not of a run; choose another --workdir"
      ) from None
    if old != config:
      raise WorkdirError(
        f"{self.path} holds another run: its config differs at "
        f"{difference(old, config)}; choose another --workdir, or "
        "delete that folder"
      )
    if begun_with != mark:
      raise WorkdirError(
        f"{self.path} holds a run that began with {_secret_name(begun_with)}, "
        f"not with {_secret_name(mark)}"
      )
    return run_id

  def _secret(self) -> Secret:
    file = self.key_path / "secret"
    if file.exists():
      return Secret.load(file)
    started = [p.name for p in self.path.iterdir() if p.is_dir()]
    if started:
      raise WorkdirError(
        f"{self.path} holds a run whose secret is not at {file}; give its "
        "--keydir, or delete the folder and start again"
      )
    secret = Secret.generate()
    secret.save(file)
    return secret

  def folder(self, name: str) -> files.AnyPath:
    """Returns the folder of a scheme, made when absent."""
    path = self.path / name
    path.mkdir(exist_ok=True)
    return path

  def key_file(self, name: str) -> pathlib.Path:
    """Returns where a scheme's key lies."""
    return self.key_path / f"{name}.key"


def _key_home(path: files.AnyPath, key_folder: str) -> pathlib.Path:
  """Returns the folder of keys, which is on a disk."""
  if is_remote(key_folder):
    raise WorkdirError(
      f"keys must not lie in a bucket: --keydir={key_folder}; choose a local "
      "folder"
    )
  if is_remote(path) and not key_folder:
    raise WorkdirError(
      f"--workdir={path} is in a bucket, where no key may lie: choose a local "
      "folder for keys with --keydir"
    )
  return pathlib.Path(key_folder or f"{path}.keys").resolve()


def _check_writable(home: pathlib.Path) -> None:
  """Refuses a folder for keys before anything is made that needs it."""
  there = next(p for p in (home, *home.parents) if os.path.exists(p))
  if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
    raise WorkdirError(
      f"cannot use --keydir={home}: {there} is not a folder that can be written"
    )


def _secret_name(mark: str) -> str:
  return f"the secret {mark}" if mark else "a secret of its own"


def _check_processes(config: ConfigDict, mark: str) -> None:
  """Refuses processes without a secret, or that differ in it or the config."""
  if jax.process_count() == 1:
    return
  if not parallel.all_equal(bool(mark)) or not mark:
    raise WorkdirError(
      "this is one of several processes, and not all of them were given the "
      "secret: start each with --secret=file:PATH, env:NAME or fd:N"
    )
  for what, text in (
    ("secret", mark),
    ("config", config.to_json_best_effort()),
  ):
    digest = hashlib.sha256(text.encode()).digest()
    if not parallel.all_equal(int.from_bytes(digest[:4], "big")):
      raise WorkdirError(f"not all processes were given the same {what}")


def difference(old: Any, new: Any, path: str = "") -> str:
  """Names the first field in which two configs differ."""
  if not isinstance(old, dict) or not isinstance(new, dict):
    return path or "config"
  for name in sorted(set(old) | set(new)):
    if old.get(name) != new.get(name):
      inner = f"{path}.{name}" if path else name
      return difference(old.get(name), new.get(name), inner)
  return os.fspath(path)
