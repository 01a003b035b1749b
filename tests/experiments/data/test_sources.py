"""Texts and random data, data sets from a config, and new data sets."""

import itertools
import pathlib
import re
import sys
from typing import Any

import jax
import numpy as np
import pytest

from experiments import data, models, prepare
from experiments.data import sets
from experiments.data.registry import DATASETS, Entry
from experiments.protection import check
from experiments.protection.lock import build_all
from experiments.run.config import base, scheme, set_schemes

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
  assert len(read) > 0.88 * len(SENTENCE * 40), "the end is the test set"
  images, labels = found.train_images, found.train_labels
  np.testing.assert_array_equal(images[:, 1:], labels[:, :-1])
  np.testing.assert_array_equal(images[1:, 0], labels[:-1, -1])
  assert images.dtype == np.uint8 and labels.dtype == np.int32
  tested = "".join(symbols[i] for i in found.test_images.ravel())
  assert tested in SENTENCE * 40
  assert found.is_text and found.unit == "characters"
  assert found.labels_per_example == 7
  assert str(tmp_path) not in found.source


def test_shakespeare_is_next_to_the_folder_of_data_sets(
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
    data.load("text", text=path)
  path = write(tmp_path)
  with pytest.raises(ValueError, match="num_train=99 <="):
    data.load("text", text=path, num_train=99)
  with pytest.raises(ValueError, match="context=0"):
    data.load("text", text=path, context=0)
  with pytest.raises(ValueError, match="'poem'.*tinyshakespeare"):
    data.load("poem")
  with pytest.raises(data.MissingDataError, match="--config.text=FILE"):
    data.load("text")


# ----------------------------------------------------------------------- fake


@pytest.mark.parametrize("shape, labels", [((6, 5, 3), (9,)), ((12,), (9, 12))])
def test_fake_data_have_the_requested_shapes(
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
    data.load("fake", shape=(3, 3), classes=5)
  with pytest.raises(ValueError, match="classes=300.*at most 256"):
    data.load("fake", shape=(8,), classes=300)


# ------------------------------------------------------------------- in order


@pytest.mark.parametrize("threads", [0, 3])
def test_batches_come_in_order_from_a_step_on(threads: int) -> None:
  dataset = data.load("fake", shape=(2, 2, 1), classes=3, num_train=10)
  source = data.batches(dataset, 4, seed=0)
  found = [*itertools.islice(data.iterate(source, 5, threads), 4)]
  for step, batch in enumerate(found, 5):
    np.testing.assert_array_equal(batch["image"], source[step]["image"])


def test_unknown_data_list_the_known_ones() -> None:
  with pytest.raises(ValueError, match="'mnit'.*digits, .*fake.*mnist.*text"):
    data.from_config(config(dataset="mnit"))


# ------------------------------------------------------------- a new data set

NEW = """
import numpy as np
from experiments.data.dataset import Dataset
from experiments.data.registry import DATASETS, Entry

def load(options):
  images = np.zeros((options.num_train or 6, 4, 4, 1), np.uint8)
  labels = np.arange(len(images), dtype=np.int32) % 2
  return Dataset(
    name="stripes", train_images=images, train_labels=labels,
    test_images=images, test_labels=labels, num_classes=2, class_names=None,
    mean=(0.5,), std=(0.5,), source="made here",
  )

DATASETS.add("stripes", Entry(load, origin="is made here"))
"""


def test_a_data_set_is_one_new_file(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Load, configure, check and refuse it by name; no other line changes."""
  (tmp_path / "stripes.py").write_text(NEW)
  with DATASETS.temporary():
    monkeypatch.setattr(sets, "__path__", [*sets.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{sets.__name__}.stripes", raising=False)
    assert "stripes" in data.names()
    assert data.load("stripes", num_train=4).train_images.shape == (4, 4, 4, 1)
    made = config(dataset="stripes", model="mlp", num_train=4)
    made.model_args.hidden = (3,)
    made.train.batch_size = 2 * jax.device_count()
    made.num_train = made.train.batch_size
    set_schemes(made, hpnn=scheme("hpnn", units=3))
    dataset = data.from_config(made)
    model = models.from_config(made, dataset)
    locks = build_all(made.schemes, model)
    check.check_config(made, dataset, model, locks)
    with pytest.raises(
      ValueError, match="stripes is made here: .* nothing to pr"
    ):
      prepare.prepare("stripes")
    with pytest.raises(ValueError, match="'stripe'.*, stripes, "):
      data.load("stripe")


def test_two_data_sets_cannot_have_one_name() -> None:
  data.names()
  with pytest.raises(ValueError, match="'digits' is registered already"):
    DATASETS.add("digits", Entry(lambda options: data.load("fake")))
