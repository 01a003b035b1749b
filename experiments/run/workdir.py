"""The folder of a run, and a separate folder for its keys.

    WORKDIR/run.json            the config, to refuse another run's folder
    WORKDIR/<scheme>/locked     what may be shipped
    WORKDIR/<scheme>/...        metrics, rows and training checkpoints, which
                                hold plain weights and stay with the owner
    KEYDIR/<run id>/secret      32 bytes, mode 600
    KEYDIR/<run id>/<scheme>.key

A run resumes where it stopped. Each run has an id, so that keys of an earlier
run in the same place are never mistaken for its own. A secret that the caller
brings is not written: `run.json` records only its fingerprint. Of several
processes, only the first writes; all of them see the same WORKDIR.

WORKDIR may be in a bucket (`gs://...`). Keys never are: KEYDIR must then be
named, and is a local folder.
"""

import hashlib
import json
import os
import pathlib
import secrets
import weakref
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.run import files, results
from experiments.run.config import meaning
from keyjax import Secret, private_files, processes
from keyjax.checkpoint import is_remote


class WorkdirError(ValueError):
  """A folder that this run cannot use; the message says what to do."""


class _FolderLock:
  """The lock of a folder, held until nothing in this process refers to it."""

  def __init__(self, path: pathlib.Path) -> None:
    """Lock the folder."""
    descriptor = private_files.lock_folder(path)
    if descriptor is None:
      raise WorkdirError(
        f"another process works in {path}; wait for it, or choose another "
        "--workdir"
      )
    self.descriptor = descriptor

  def __del__(self) -> None:
    """Unlock the folder, if it was locked."""
    if hasattr(self, "descriptor"):
      os.close(self.descriptor)


# By device and inode: a folder may be deleted and created again.
_LOCKS = weakref.WeakValueDictionary[tuple[int, int], _FolderLock]()


def _lock_folder(path: files.AnyPath) -> _FolderLock | None:
  """Keep other processes out; a bucket has no locks."""
  if is_remote(path):
    return None
  status = path.stat()
  inode = status.st_dev, status.st_ino
  lock = _LOCKS.get(inode)
  if lock is None:
    lock = _LOCKS[inode] = _FolderLock(path)
  return lock


class Workdir:
  """The folders of one run.

  Attributes:
    path: Folder of results and checkpoints.
    key_path: Folder of this run's keys.
    secret: Secret that keys are derived from.
  """

  def __init__(
    self,
    config: ConfigDict,
    folder: str,
    key_folder: str = "",
    secret: Secret | None = None,
    contents: Mapping[str, str] | None = None,
  ) -> None:
    """Open the folders, or create them.

    Args:
      config: The run's config.
      folder: Folder for results and checkpoints; no key is ever stored in it.
      key_folder: Folder for keys; by default `folder` with the suffix `.keys`.
      secret: Secret that keys are derived from; by default one is generated
        and stored in `key_folder`. Several processes must bring the same one.
      contents: Digests of files that the config names, by its fields; the run
        is another one if they differ.

    Raises:
      WorkdirError: If the folder holds another run, its keys are missing, the
        keys would be inside it, it cannot be written, another process works
        in it, or the secret is missing or differs from that of this run or of
        another process.
    """
    self.path = files.path(folder)
    key_home = _key_home(self.path, key_folder)
    if key_home == self.path or self.path in key_home.parents:
      raise WorkdirError(
        f"keys must not be in the workdir: --keydir={key_home} is inside "
        f"{self.path}; choose a folder outside it"
      )
    fingerprint = secret.fingerprint() if secret else ""
    recorded = meaning(config)
    recorded.pop("encrypt", None)  # May change between resumptions.
    if contents:
      recorded["contents"] = dict(contents)
    _check_processes(config, fingerprint, contents)
    error: WorkdirError | None = None
    try:
      self._open(recorded, folder, key_folder, secret)
    except WorkdirError as failure:
      error = failure
    # No process may write here before the first one has claimed the folder.
    together = processes.all_equal(error is None)
    if error:
      raise error
    if not together:
      raise WorkdirError(
        f"another process of this run could not open {self.path}; see its error"
      )

  def _open(
    self,
    recorded: dict[str, Any],
    folder: str,
    key_folder: str,
    secret: Secret | None,
  ) -> None:
    """Create or claim the folders; only the first process claims."""
    key_home = _key_home(self.path, key_folder)
    exists = (self.path / "run.json").exists()
    if key_folder and processes.is_first() and not exists:
      _check_writable(key_home)
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      if secret and not processes.is_first():
        self.key_path = key_home
        self.secret = secret
        return
      # Before another process can claim the folder as well.
      self._lock = _lock_folder(self.path)
      run_id = self._claim(recorded, secret.fingerprint() if secret else "")
    except OSError as error:
      raise WorkdirError(
        f"cannot use --workdir={folder}: {error.strerror or error}"
      ) from None
    self.key_path = key_home / run_id
    try:
      self.secret = secret or self._own_secret()
    except OSError as error:
      raise WorkdirError(
        f"cannot use --keydir={key_home}: {error.strerror or error}"
      ) from None

  def _claim(self, config: dict[str, Any], fingerprint: str) -> str:
    """Return this run's id; refuse a folder of another run."""
    file = self.path / "run.json"
    if not file.exists():
      others = [x for x in files.names(self.path) if not x.startswith(".")]
      if others:
        raise WorkdirError(
          f"{self.path} holds other files ({', '.join(others[:3])}); "
          "choose another --workdir"
        )
      new = {
        "id": secrets.token_hex(8),
        "config": config,
        "secret": fingerprint,
      }
      results.write_json(file, new)
    try:
      run = json.loads(file.read_text())
      run_id = str(run["id"])
      run_config = run["config"]
      run_fingerprint = run["secret"]
    except (ValueError, KeyError, TypeError):
      raise WorkdirError(
        f"{file} was not written by a run; choose another --workdir"
      ) from None
    if run_config != config:
      raise WorkdirError(
        f"{self.path} holds another run: its config differs at "
        f"{difference(run_config, config)}; choose another --workdir, or "
        "delete that folder"
      )
    if run_fingerprint != fingerprint:
      raise WorkdirError(
        f"{self.path} holds a run that began with "
        f"{_secret_name(run_fingerprint)}, not with {_secret_name(fingerprint)}"
      )
    return run_id

  def _own_secret(self) -> Secret:
    """Load the run's own secret, or generate it for a new run."""
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

  @property
  def run_id(self) -> str:
    """The id of the run, which another run in this folder would not have."""
    return str(results.read_json(self.path / "run.json")["id"])

  def folder(self, name: str) -> files.AnyPath:
    """Return the folder of a scheme, created if absent."""
    path = self.path / name
    path.mkdir(exist_ok=True)
    return path

  def key_file(self, name: str) -> pathlib.Path:
    """Return the path of a scheme's key."""
    return self.key_path / f"{name}.key"


def _key_home(path: files.AnyPath, key_folder: str) -> pathlib.Path:
  """Return the folder of keys, which is on a disk."""
  if is_remote(key_folder):
    raise WorkdirError(
      f"keys must not be in a bucket: --keydir={key_folder}; choose a local "
      "folder"
    )
  if is_remote(path) and not key_folder:
    raise WorkdirError(
      f"--workdir={path} is in a bucket, where no key may be stored: choose a "
      "local folder for keys with --keydir"
    )
  return pathlib.Path(key_folder or f"{path}.keys").resolve()


def _check_writable(home: pathlib.Path) -> None:
  """Refuse a folder for keys before anything is made that needs it."""
  existing = next(p for p in (home, *home.parents) if os.path.exists(p))
  if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
    raise WorkdirError(
      f"cannot use --keydir={home}: {existing} is not a writable folder"
    )


def _secret_name(fingerprint: str) -> str:
  return f"the secret {fingerprint}" if fingerprint else "its own secret"


def _check_processes(
  config: ConfigDict, fingerprint: str, contents: Mapping[str, str] | None
) -> None:
  """Refuse processes without a secret, or with another one or config."""
  if jax.process_count() == 1:
    return
  if not processes.all_equal(bool(fingerprint)) or not fingerprint:
    raise WorkdirError(
      "this is one of several processes, and not all of them were given the "
      "secret: start each with --secret=file:PATH, env:NAME or fd:N"
    )
  for name, text in (
    ("secret", fingerprint),
    ("config", config.to_json_best_effort()),
    ("files", json.dumps(contents, sort_keys=True)),
  ):
    digest = hashlib.sha256(text.encode()).digest()
    if not processes.all_equal(int.from_bytes(digest[:4], "big")):
      raise WorkdirError(f"not all processes were given the same {name}")


def difference(old: Any, new: Any, path: str = "") -> str:
  """Return the first field in which two configs differ, as `train.seed`."""
  if not isinstance(old, dict) or not isinstance(new, dict):
    return path or "config"
  for name in sorted(set(old) | set(new)):
    if old.get(name) != new.get(name):
      inner = f"{path}.{name}" if path else name
      return difference(old.get(name), new.get(name), inner)
  return path
