"""The guide to a model of one's own: both sides, as the page says."""

import contextlib
import pathlib
import re
import runpy
import shutil
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from keyjax import cli
from keyjax.attacks import measure
from tests.conftest import ROOT

PAGE = (ROOT / "docs/guides/own_model.md").read_text()


@contextlib.contextmanager
def side(folder: pathlib.Path) -> Iterator[None]:
  """Work in a folder, as in a terminal of its own."""
  with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(folder)
    yield
    sys.modules.pop("digits", None)


def run(command: str, code: int = 0) -> None:
  """Run a command that the page has, without passphrases."""
  assert command in PAGE
  words = command.split()
  if words[0] == "python":
    with jax.numpy_dtype_promotion("standard"):  # A reader's.
      runpy.run_path(words[1], run_name="__main__")
    return
  plain = ["--plain"] * (words[1] == "keygen" and "--plain" not in words)
  assert cli.main([*words[1:], *plain]) == code


@pytest.fixture
def sides(tmp_path) -> tuple[pathlib.Path, pathlib.Path]:
  """Return the folders of the owner and of the colleague, with the files."""
  blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.S)
  assert [name for name, _ in blocks] == [
    "digits.py",
    "seal.py",
    "open.py",
    "worth.py",
  ]
  folders = tmp_path / "owner", tmp_path / "colleague"
  for folder in folders:
    folder.mkdir()
    for name, text in blocks:
      (folder / name).write_text(text)
  return folders


def test_a_model_reaches_a_colleague(sides, monkeypatch, capsys) -> None:
  owner, colleague = sides
  played = measure._attacks
  # The others take seconds each, and have tests of their own.
  few = ("scratch", "hpnn_relax", "hpnn_base")
  monkeypatch.setattr(
    measure, "_attacks", lambda name: [a for a in played(name) if a.name in few]
  )
  with side(colleague):
    run("keyjax keygen mlkem768x25519 colleague.key --pub")
  shutil.copy(colleague / "colleague.key.pub", owner)
  with side(owner):
    run("keyjax keygen mlkem768x25519 me.key --pub")
    run("keyjax keygen ed25519 owner.key --pub")
    run("python seal.py")
    run("keyjax inspect model-1")
  shutil.copytree(owner / "model-1", colleague / "model-1")
  shutil.copy(owner / "owner.key.pub", colleague)
  with side(colleague):
    run("python open.py")
    run(
      "keyjax verify model-1 -i file:colleague.key --verify-key @owner.key.pub"
    )
    run("keyjax keygen mlkem768x25519 stranger.key --plain")
    run("keyjax verify model-1 -i file:stranger.key", code=3)
  logits = [np.load(folder / "logits.npy") for folder in sides]
  np.testing.assert_array_equal(*logits, strict=True)
  with side(owner):
    run("python worth.py")
    assert "; broken by: " in capsys.readouterr().out
    run(
      "keyjax card make --rows rows.json --sign file:owner.key --out card.json"
    )
  shutil.copy(owner / "card.json", colleague)
  with side(colleague):
    run("keyjax card check card.json --verify-key @owner.key.pub")
    run("keyjax card show card.json")
    assert "broken by" in capsys.readouterr().out
