"""The files of a model: what a signature covers, and how a copy differs."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from keyjax.errors import ArgumentError
from keyjax.regular_files import given_path
from keyjax.signatures.errors import Difference, ModelSignatureError

FILE = "."  # The name of a model that is one file, in a statement.


def names(model: str | os.PathLike[str]) -> list[str]:
  """Return the names of a model's files, relative to it.

  Args:
    model: File or folder.

  Raises:
    ModelSignatureError: If there is a link, what is no file, or no file at all.
    ArgumentError: If it is not on a disk.
    OSError: If it is missing, or a folder cannot be read.

  Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   _ = pathlib.Path(folder, "weights").write_bytes(b"")
    ...   names(folder), names(f"{folder}/weights")
    (['weights'], ['.'])
  """
  if "://" in os.fspath(model):
    raise ArgumentError(f"{model} is not on a disk: sign or verify a copy")
  path = given_path(model)
  if not os.path.lexists(path):
    raise FileNotFoundError(f"there is no model {model}")
  if path.is_symlink():
    raise _refused(path, "")
  found = sorted(_walk(path)) if path.is_dir() else [FILE]
  if not found:
    raise ModelSignatureError(f"{model} holds no file")
  if found == [FILE] and not path.is_file():
    raise _refused(path, "")
  return found


def _walk(folder: pathlib.Path) -> Iterator[str]:
  def stop(error: OSError) -> None:
    raise error

  for root, folders, files in os.walk(folder, onerror=stop):
    here = pathlib.Path(root)
    for name in (*folders, *files):
      path = here / name
      relative = path.relative_to(folder).as_posix()
      if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise _refused(path, relative)
      if name in files:
        yield relative


def _refused(path: pathlib.Path, relative: str) -> ModelSignatureError:
  what = "a symbolic link" if path.is_symlink() else "not a regular file"
  where = relative or str(path)
  return ModelSignatureError(
    f"{where} is {what}: a signature covers files alone",
    [Difference(where, what)],
  )


def inside(
  model: str | os.PathLike[str], path: str | os.PathLike[str]
) -> str | None:
  """Return the name of a path relative to a model; None if it is not in it.

  Example:
    >>> inside("model", "model/model.sig"), inside("model", "model.sig")
    ('model.sig', None)
  """
  home = pathlib.Path(model).resolve()
  here = pathlib.Path(path)
  full = here.parent.resolve() / here.name
  if full == home or not full.is_relative_to(home):
    return None
  return full.relative_to(home).as_posix()


def uncovered(
  files: Iterable[str], ignored: Iterable[str], signature: str | None
) -> list[str]:
  """Return the ignored paths that hold files, without the signature itself.

  Args:
    files: Names of a model's files.
    ignored: Paths that its statement ignores, with all below them.
    signature: Name of the signature in the model; None if it is elsewhere.

  Example:
    >>> uncovered([".git/a", ".git/b", "w.sig"], [".git", "w.sig"], "w.sig")
    ['.git']
  """
  parents = [pathlib.PurePosixPath(path) for path in ignored]
  found = {
    str(parent)
    for name in files
    for parent in parents
    if name != signature and pathlib.PurePosixPath(name).is_relative_to(parent)
  }
  return sorted(found)


def differences(
  signed: Mapping[str, str], here: Mapping[str, str], *, shards: bool
) -> list[Difference]:
  """Return how the files that are here differ from those that were signed.

  Args:
    signed: Digests in a statement.
    here: Digests of what is here.
    shards: Whether they are of pieces, NAME:START:END, of files.

  Example:
    >>> differences({"a": "1", "b": "2"}, {"a": "3", "c": "2"}, shards=False)
    ... # doctest: +NORMALIZE_WHITESPACE
    [Difference(where='a', what='changed'),
     Difference(where='b', what='renamed to c')]
  """
  old, new = by_file(signed, shards), by_file(here, shards)
  added = {name: pieces for name, pieces in new.items() if name not in old}
  found = []
  for name, pieces in old.items():
    if name in new:
      if new[name] != pieces:
        found.append(Difference(name, "changed"))
      continue
    same = [other for other, those in added.items() if those == pieces]
    if same:
      del added[same[0]]
    renamed = f"renamed to {same[0]}" if same else "missing"
    found.append(Difference(name, renamed))
  found += [Difference(name, "not signed") for name in added]
  return sorted(found)


def by_file(
  resources: Mapping[str, str], shards: bool
) -> dict[str, list[tuple[str, str]]]:
  """Return the pieces of each file, and their digests."""
  found: dict[str, list[tuple[str, str]]] = {}
  for name, digest in sorted(resources.items()):
    parts = name.rsplit(":", 2) if shards else [name]
    found.setdefault(parts[0], []).append((":".join(parts[1:]), digest))
  return found
