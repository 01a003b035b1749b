"""Whether code still is what figures were measured with.

Comments, docstrings and texts of known breaks do not count. Neither do commits
that say, on a last line of their message, why they change no figure, such as a
check that refuses what was wrong before:

    Figures-unchanged: refuses a block size of 1
"""

import ast
import pathlib
import subprocess
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).parents[2]
TRAILER = "Figures-unchanged"


def same(commit: str, paths: Iterable[str]) -> bool:
  """Return whether code is as it was at a commit, which is known.

  Args:
    commit: The commit.
    paths: Files and folders, or other pathspecs of git.
  """
  changed = _git("diff", "--name-only", commit, "--", *paths)
  return changed is not None and all(
    _same_program(_git("show", f"{commit}:{name}"), _read(name))
    or _excused(commit, name)
    for name in changed.splitlines()
  )


def _read(name: str) -> str | None:
  file = ROOT / name
  return file.read_text() if file.suffix == ".py" and file.exists() else None


def _git(*argv: str) -> str | None:
  """Return what git prints; None if it fails."""
  found = subprocess.run(
    ["git", "-C", str(ROOT), *argv], capture_output=True, text=True, check=False
  )
  return found.stdout if found.returncode == 0 else None


def _same_program(before: str | None, after: str | None) -> bool:
  if before is None or after is None:
    return False
  return _program(before) == _program(after)


def _program(text: str) -> str:
  """Return a file's syntax tree, without the prose that it holds for readers.

  Example:
    >>> _program("x = 1  # One.") == _program("x = 1")
    True
    >>> _program("x = 1") == _program("x = 2")
    False
  """
  tree = ast.parse(text)
  documented = ast.Module, ast.ClassDef, ast.FunctionDef
  for node in ast.walk(tree):
    if isinstance(node, documented) and ast.get_docstring(node) is not None:
      del node.body[0]
    if isinstance(node, ast.Call):
      node.keywords = [k for k in node.keywords if k.arg != "known_break"]
  return ast.dump(tree)


def _excused(commit: str, name: str) -> bool:
  """Return whether each commit that changed a file since says why it may."""
  if _git("diff", "--quiet", "HEAD", "--", name) is None:
    return False  # A change that is no commit yet.
  form = f"--format=%x1e%H%x1f%(trailers:key={TRAILER},valueonly)"
  told = _git("log", form, f"{commit}..HEAD", "--", name)
  entries = (told or "").split("\x1e")[1:]
  return bool(entries) and all(_unmoved(x, name) for x in entries)


def _unmoved(entry: str, name: str) -> bool:
  at, _, why = entry.partition("\x1f")
  before, after = (_git("show", f"{x}:{name}") for x in (f"{at}^", at))
  return bool(why.strip()) or _same_program(before, after)
