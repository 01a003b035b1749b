"""Texts and made-up data, and from a config to them."""

import itertools
import pathlib
import re
from typing import Any

import numpy as np
import pytest

from experiments import data
from experiments.data import fake, text
from experiments.run.config import base

SENTENCE = "the cat sat on the mat; the dog did not. "


def write(folder: pathlib.Path, content: str = SENTENCE * 40) -> str:
  file = folder / "a.txt"
  file.write_text(content)
  return str(file)


def config(**fields: Any) -> Any:
  made = base()
  made.update(fields)
  return made


# ----------------------------------------------------------------------- text


def test_a_label_is_the_next_character(tmp_path: pathlib.Path) -> None:
  path = write(tmp_path)
  found = data.from_config(config(dataset="text", text=path, context=7))
  symbols = sorted(set(SENTENCE))
  assert found.num_classes == len(symbols)
  assert found.class_names == tuple(map(repr, symbols))
  read = "".join(symbols[i] for i in found.train_images.ravel())
  assert (SENTENCE * 40).startswith(read)
  assert len(read) > 0.88 * len(SENTENCE * 40), "the end is for the test"
  images, labels = found.train_images, found.train_labels
  np.testing.assert_array_equal(images[:, 1:], labels[:, :-1])
  np.testing.assert_array_equal(images[1:, 0], labels[:-1, -1])
  assert images.dtype == np.uint8 and labels.dtype == np.int32
  tested = "".join(symbols[i] for i in found.test_images.ravel())
  assert tested in SENTENCE * 40
  assert found.is_text and found.unit == "characters"
  assert found.labels_per_example == 7
  assert str(tmp_path) not in found.source


def test_shakespeare_lies_beside_the_folder_of_data_sets(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  (tmp_path / "tfds").mkdir()
  monkeypatch.setenv("KEYJAX_DATA_DIR", str(tmp_path / "tfds"))
  made = config(dataset="tinyshakespeare", num_train=3, num_test=1)
  with pytest.raises(data.MissingDataError, match="tinyshakespeare.txt.*text"):
    data.from_config(made)
  (tmp_path / "tinyshakespeare.txt").write_text(SENTENCE * 40)
  found = data.from_config(made)
  assert found.train_images.shape == (3, 64)
  assert found.test_images.shape == (1, 64)


def test_text_that_does_not_fit_is_an_error(tmp_path: pathlib.Path) -> None:
  path = write(tmp_path, "too short")
  with pytest.raises(ValueError, match="too few for one example of 64"):
    text.load("text", path)
  path = write(tmp_path)
  with pytest.raises(ValueError, match="num_train=99 <="):
    text.load("text", path, num_train=99)
  with pytest.raises(ValueError, match="context=0"):
    text.load("text", path, context=0)
  with pytest.raises(ValueError, match="'poem'.*tinyshakespeare"):
    text.load("poem")
  with pytest.raises(data.MissingDataError, match="--config.text=FILE"):
    text.load("text")


# ----------------------------------------------------------------------- fake


@pytest.mark.parametrize("shape, labels", [((6, 5, 3), (9,)), ((12,), (9, 12))])
def test_fake_data_have_the_shapes_asked_for(
  shape: tuple[int, ...], labels: tuple[int, ...]
) -> None:
  made = config(dataset="fake", num_train=9, num_test=2)
  made.fake.shape, made.fake.classes = shape, 5
  found = data.from_config(made)
  assert found.train_images.shape == (9, *shape)
  assert found.train_labels.shape == labels
  assert found.test_labels.shape[0] == 2 and found.num_classes == 5
  assert set(np.unique(found.train_labels)) <= set(range(5))
  assert found.is_text == (len(shape) == 1)
  assert found.train_images.max() < (5 if found.is_text else 256)
  assert "random" in found.source


def test_fake_shapes_that_do_not_fit() -> None:
  with pytest.raises(ValueError, match=re.escape("(h, w, c) or (t,)")):
    fake.load((3, 3), 5)
  with pytest.raises(ValueError, match="classes=300.*at most 256"):
    fake.load((8,), 300)


# ------------------------------------------------------------------- in order


@pytest.mark.parametrize("threads", [0, 3])
def test_batches_come_in_order_from_a_step_on(threads: int) -> None:
  source = data.batches(fake.load((2, 2, 1), 3, num_train=10), 4, seed=0)
  found = [*itertools.islice(data.iterate(source, 5, threads), 4)]
  for step, batch in enumerate(found, 5):
    np.testing.assert_array_equal(batch["image"], source[step]["image"])


def test_unknown_data_list_the_known_ones() -> None:
  with pytest.raises(ValueError, match="'mnit'.*digits, mnist.*text, fake"):
    data.from_config(config(dataset="mnit"))
