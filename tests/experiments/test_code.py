"""When figures are out of date: what counts as a change of code."""

import pathlib
import subprocess

import pytest

from experiments.tables import code

TEXT = '''
register("mark", known_break="a line search")  # Why.
def f(x):
  """Add one."""
  return x + 1
'''


@pytest.mark.parametrize(
  "edit, same",
  [
    (("Add one.", "Add 1."), True),
    (("# Why.", ""), True),
    (("a line search", "images"), True),
    (("x + 1", "x + 2"), False),
    (("mark", "sign"), False),
  ],
)
def test_prose_does_not_count_as_code(
  edit: tuple[str, str], same: bool
) -> None:
  assert edit[0] in TEXT
  made = code._program(TEXT.replace(*edit))
  assert (made == code._program(TEXT)) == same


def test_code_of_an_unknown_commit_has_moved() -> None:
  assert not code.same("0000000-dirty", ["keyjax"])


@pytest.fixture
def checkout(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Return a function that commits a version of a file, in a new checkout."""
  monkeypatch.setattr(code, "ROOT", tmp_path)

  def git(*argv: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
      ["git", "-C", str(tmp_path), *name, *argv],
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  def commit(text: str, message: str) -> str:
    (tmp_path / "f.py").write_text(text)
    git("add", "f.py")
    git("commit", "-m", message)
    return git("rev-parse", "--short", "HEAD")

  git("init")
  return commit


def test_a_commit_may_say_why_it_changes_no_figure(checkout) -> None:
  first = checkout("x = 1\n", "f: one")
  assert code.same(first, ["f.py"])
  checkout("x = 1  # One.\n", "f: a comment")
  said = "f: check\n\nFigures-unchanged: refuses what was wrong"
  second = checkout("x = 1\nassert x\n", said)
  assert code.same(first, ["f.py"])  # Prose, and a commit with a reason.
  (code.ROOT / "f.py").write_text("x = 1\nassert x > 0\n")
  assert not code.same(first, ["f.py"])  # Nobody has said anything yet.
  checkout("x = 2\nassert x\n", "f: two\n\nFigures-unchanged:")
  assert not code.same(first, ["f.py"])
  assert not code.same(second, ["f.py"])


def test_a_file_that_is_new_or_gone_has_moved(checkout) -> None:
  first = checkout("x = 1\n", "f: one")
  (code.ROOT / "f.py").unlink()
  assert not code.same(first, ["f.py"])
