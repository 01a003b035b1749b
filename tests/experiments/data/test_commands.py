"""Every command that reads data opens sealed data, or refuses a key."""

import ast
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

import keyjax
from experiments import capability, copies, data, recording
from experiments.capabilities import measure as capabilities
from experiments.copying import plan
from experiments.copying.victims import other_set
from experiments.data import guarded
from experiments.data.guarded import Guard
from experiments.recordings import measure as recordings
from keyjax import keyring
from tests.conftest import ROOT
from tests.experiments import small_job
from tests.experiments.data.conftest import VERIFY_KEY
from tests.experiments.docstrings import load_config

pytestmark = pytest.mark.usefixtures("own_cache")

# Without a config, or of data that come with scikit-learn.
_NO_KEY = ("benchmarks/", "encrypted/training.py")


def loads() -> Iterator[tuple[str, ast.Call]]:
  """Yield each call that reads data outside `experiments.data`."""
  names = ("data.load", "data.stream", "folders.open_folder")
  for path in sorted((ROOT / "experiments").rglob("*.py")):
    place = path.relative_to(ROOT / "experiments").as_posix()
    if place.startswith(("data/", *_NO_KEY)):
      continue
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
      if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
        yield f"{place}:{node.lineno}", node


def test_no_command_reads_data_without_the_guard():
  found = dict(loads())
  assert len(found) >= 3
  for place, call in found.items():
    assert "guard" in {x.arg for x in call.keywords}, place


class Stopped(Exception):
  """The data were loaded."""


def recording_of(folder: pathlib.Path, guard: Guard, monkeypatch):
  """Return the data set that the recording command reads."""
  config = load_config("recording.py")
  config.dataset, config.data_dir = "mnist", str(folder)
  config.data_key, config.data_tags, config.data_verify_key = guard
  read = []

  def tasks(config, dataset):
    read.append(dataset)
    raise Stopped

  monkeypatch.setattr(recordings, "tasks", tasks)
  with pytest.raises(Stopped):
    recording.run(config, str(folder / "none"))
  return read[0]


def test_recording_reads_sealed_and_tagged_data(
  plain, sealed, tags, key, tmp_path, monkeypatch
):
  expected = data.load("mnist", plain).train_images
  for folder, guard in (
    (plain, Guard()),
    (sealed, Guard(key, verify_key=VERIFY_KEY)),
    (plain, Guard(key, tags, VERIFY_KEY)),
  ):
    found = recording_of(folder, guard, monkeypatch).train_images
    np.testing.assert_array_equal(found, expected)
  for folder, guard, match in (
    (plain, Guard(key), "is not sealed"),
    (sealed, Guard(), "is sealed: give --config.data_key"),
  ):
    with pytest.raises(ValueError, match=match):
      recording_of(folder, guard, monkeypatch)
  config = load_config("recording.py")
  config.data_key = key
  with pytest.raises(ValueError, match="digits has no folder"):
    recording.run(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def copies_of(folder: pathlib.Path, guard: Guard):
  config = small_job.config(hidden=8, epochs=1.0)
  plan.configure(config, other="mnist")
  config.data_dir = str(folder)
  config.data_key, config.data_tags, config.data_verify_key = guard
  return config


def test_copies_ask_with_a_sealed_set(plain, sealed, tags, key, tmp_path):
  guard = Guard(key, verify_key=VERIFY_KEY)
  found, expected = (
    other_set(copies_of(folder, guard)).train_images
    for folder, guard in ((sealed, guard), (plain, Guard()))
  )
  np.testing.assert_array_equal(found, expected)
  for folder, wrong, match in (
    (plain, Guard(key), "is not sealed"),
    (sealed, Guard(), "is sealed: give --config.data_key"),
    (plain, Guard(key, tags), "copies.other=mnist: data_tags=.* are those of"),
    # Digits, which the victims are trained on.
    (sealed, guard, "digits has no folder that could be sealed"),
  ):
    with pytest.raises(ValueError, match=match):
      copies.run(copies_of(folder, wrong), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def capability_of(folder: pathlib.Path, source: str, *tasks: str):
  config = load_config("capability.py")
  config.tasks = tasks
  config.data_dir, config.data_key = str(folder / "tfds"), source
  return config


def test_the_public_text_of_capabilities_may_be_sealed(key, tmp_path):
  text = tmp_path / "plain/tinyshakespeare.txt"
  text.parent.mkdir()
  text.write_text("To be, or not to be, that is the question. " * 40)
  owner = keyring.as_identity(keyring.read_key(key))
  sealed = tmp_path / "sealed"
  keyjax.data.seal_data(text, sealed / text.name, owner)
  found, expected = (
    capabilities._public(capability_of(*place, "text")).train_images
    for place in ((sealed, key), (text.parent, ""))
  )
  np.testing.assert_array_equal(found, expected)
  for place, match in (
    ((text.parent, key, "text"), "is not sealed"),
    ((sealed, "", "text"), "is sealed: give --config.data_key"),
    ((sealed, key, "digits"), "the task digits has no folder"),
  ):
    with pytest.raises(ValueError, match=match):
      capability.run(capability_of(*place), str(tmp_path / "run"))


def test_a_key_of_a_descriptor_is_read_once(sealed, key):
  """A command with several jobs opens the data several times."""
  fd = os.open(key.removeprefix("file:"), os.O_RDONLY)
  first, second = (
    data.load("mnist", sealed, guard=Guard(f"fd:{fd}")) for _ in range(2)
  )
  guarded._read_key.cache_clear()  # Another test may have the same number.
  np.testing.assert_array_equal(first.train_images, second.train_images)
