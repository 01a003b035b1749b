"""Loading, splitting and caching; nothing here downloads."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

from experiments import data
from experiments.data import cache, folders
from experiments.data.dataset import subset

REAL = {
  # name: (train, test, shape, classes)
  "mnist": (60_000, 10_000, (28, 28, 1), 10),
  "cifar10": (50_000, 10_000, (32, 32, 3), 10),
  "gtsrb": (31_920, 7_289, (32, 32, 3), 43),
}


def folder_or_skip(name):
  try:
    return folders.find(name, None)
  except data.MissingDataError as error:
    pytest.skip(str(error))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits():
  return data.load("digits")


# -------------------------------------------------------------------- loading


def test_digits_shapes_dtypes_and_range(digits):
  assert digits.train_images.shape == (1437, 8, 8, 1)
  assert digits.test_images.shape == (360, 8, 8, 1)
  for images in (digits.train_images, digits.test_images):
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
  assert digits.train_labels.dtype == digits.test_labels.dtype == np.int32
  assert digits.num_classes == 10


def test_digits_split_is_a_stratified_partition(digits):
  from sklearn import datasets

  def rows(images):
    return sorted(map(bytes, images.reshape(len(images), -1)))

  every = np.round(datasets.load_digits().images * 255 / 16).astype(np.uint8)
  both = np.concatenate([digits.train_images, digits.test_images])
  assert rows(both) == rows(every)
  train = np.bincount(digits.train_labels) / 1437
  test = np.bincount(digits.test_labels) / 360
  np.testing.assert_allclose(train, test, atol=0.002)


def test_digits_split_is_the_same_every_time(digits):
  again = data.load("digits")
  np.testing.assert_array_equal(digits.train_images, again.train_images)
  np.testing.assert_array_equal(digits.test_labels, again.test_labels)


def test_dataset_is_frozen(digits):
  with pytest.raises(dataclasses.FrozenInstanceError):
    digits.name = "other"


def test_subsets_are_nested_and_in_the_whole():
  small = data.load("digits", num_train=10, num_test=5)
  middle = data.load("digits", num_train=100, num_test=50)
  whole = data.load("digits")
  for inner, outer in ((small, middle), (middle, whole)):
    for field in ("train_images", "test_images"):
      kept = set(map(bytes, getattr(outer, field)))
      assert all(bytes(x) in kept for x in getattr(inner, field))
  assert len(small.train_labels) == 10 and len(small.test_labels) == 5


@pytest.mark.parametrize("size", [0, -1, 1438])
def test_subset_out_of_range_is_an_error(size):
  with pytest.raises(ValueError, match=rf"1 <= num_train={size} <= 1437"):
    data.load("digits", num_train=size)


def test_statistics_are_those_of_float_pixels(digits):
  pixels = digits.train_images.astype(np.float64) / 255
  np.testing.assert_allclose(digits.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(digits.std, pixels.std((0, 1, 2)), rtol=1e-12)


def test_statistics_by_channel_and_of_a_constant_channel():
  images = np.zeros((2, 3, 3, 2), np.uint8)
  images[0, ..., 1] = 255
  mean, std = data.pixel_statistics(images)
  assert mean == (0.0, 0.5)
  assert std == (1 / 255, 0.5)


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match="'mnit'.*digits.*imagenet2012, mnist"):
    data.load("mnit")
  with pytest.raises(ValueError, match="Unknown data set 'mnit'"):
    data.stream("mnit", "train", batch_size=8, seed=0, image_size=32)


def test_missing_data_says_what_to_type(tmp_path):
  with pytest.raises(FileNotFoundError) as caught:
    data.load("cifar10", tmp_path)
  message = str(caught.value)
  command = f"python -m experiments.prepare cifar10 --data_dir={tmp_path}"
  assert command in message and "\n" not in message


@pytest.mark.parametrize("name", ["digits", "text", "fake"])
def test_what_is_in_memory_cannot_be_streamed(name):
  with pytest.raises(ValueError, match=rf"{name} is in memory: use load"):
    data.stream(name, "train", batch_size=8, seed=0, image_size=32)


def test_data_dir_argument_then_environment_then_tfds(monkeypatch, tmp_path):
  monkeypatch.setenv("KEYJAX_DATA_DIR", str(tmp_path / "env"))
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  monkeypatch.setattr(folders, "ROOT", tmp_path / "checkout")
  assert data.find_data_dir(tmp_path / "arg") == tmp_path / "arg"
  assert data.find_data_dir() == tmp_path / "env"
  monkeypatch.delenv("KEYJAX_DATA_DIR")
  assert data.find_data_dir() == tmp_path / "tfds"
  (tmp_path / "shared" / "data" / "tfds").mkdir(parents=True)
  assert data.find_data_dir() == tmp_path / "shared" / "data" / "tfds"
  monkeypatch.setattr(folders, "ROOT", tmp_path / "elsewhere" / "checkout")
  monkeypatch.delenv("TFDS_DATA_DIR")
  home = pathlib.Path.home() / "tensorflow_datasets"
  assert data.find_data_dir() == home


# ------------------------------------------------------------ real TFDS data


@pytest.mark.parametrize("name", REAL)
def test_real_data(name):
  folder_or_skip(name)
  train, test, shape, classes = REAL[name]
  dataset = data.load(name, num_train=300, num_test=200)
  assert dataset.train_images.shape == (300, *shape)
  assert dataset.test_images.shape == (200, *shape)
  assert dataset.train_images.dtype == np.uint8
  assert dataset.train_labels.dtype == np.int32
  assert dataset.num_classes == classes
  labels = np.concatenate([dataset.train_labels, dataset.test_labels])
  assert labels.min() >= 0 and labels.max() < classes
  # A subset of sorted examples would hold a few classes only.
  assert len(np.unique(dataset.train_labels)) > 0.6 * classes
  builder = folders.open_folder(folders.find(name, None))
  splits = builder.info.splits
  assert (splits["train"].num_examples, splits["test"].num_examples) == (
    train,
    test,
  )


def test_cifar10_has_published_statistics_names_and_a_caveat():
  folder = folder_or_skip("cifar10")
  dataset = data.load("cifar10", num_train=10, num_test=10)
  assert dataset.mean == (0.4914, 0.4822, 0.4465)
  assert dataset.std == (0.2471, 0.2435, 0.2616)
  if dataset.class_names is not None:
    assert dataset.class_names[:2] == ("airplane", "automobile")
  features = json.loads((folder / "features.json").read_text())
  image = features["featuresDict"]["features"]["image"]["image"]
  jpeg = image.get("encodingFormat") == "jpeg"
  assert ("JPEG re-encodings" in dataset.source) == jpeg
  assert str(folder) not in dataset.source


def test_gtsrb_source_says_how_its_folder_was_made():
  folder = folder_or_skip("gtsrb")
  description = json.loads((folder / "dataset_info.json").read_text())[
    "description"
  ]
  source = data.load("gtsrb", num_train=10, num_test=10).source
  assert " ".join(description.split()) in source


def test_mnist_is_decoded_as_tfds_decodes_it():
  folder = folder_or_skip("mnist")
  import tensorflow_datasets as tfds

  theirs = tfds.data_source(
    "mnist", split="test", data_dir=folder.parent.parent, download=False
  )
  picked = subset(10_000, 20, "num_test")
  ours = data.load("mnist", num_train=10, num_test=20)
  for i, at in enumerate(picked):
    np.testing.assert_array_equal(ours.test_images[i], theirs[int(at)]["image"])
    assert ours.test_labels[i] == theirs[int(at)]["label"]


def test_newest_version_is_used_and_other_folders_ignored(tmp_path):
  for name in ("1.0.0", "1.10.0", "1.9.0", "1.x.0", "2.0.0.incomplete"):
    (tmp_path / "gtsrb" / name).mkdir(parents=True)
    (tmp_path / "gtsrb" / name / "dataset_info.json").write_text("{}")
  (tmp_path / "gtsrb" / "3.0.0").mkdir()  # interrupted: no description
  assert folders.find("gtsrb", tmp_path).name == "1.10.0"


def test_tfrecord_folder_is_a_clear_error(tmp_path):
  folder = folder_or_skip("mnist")
  copy = tmp_path / "mnist" / folder.name
  copy.mkdir(parents=True)
  info = json.loads((folder / "dataset_info.json").read_text())
  info["fileFormat"] = "tfrecord"
  (copy / "dataset_info.json").write_text(json.dumps(info))
  shutil.copy(folder / "features.json", copy)
  with pytest.raises(data.MissingDataError, match="only TensorFlow reads"):
    data.load("mnist", tmp_path)


# ---------------------------------------------------------------------- cache


@pytest.fixture
def counted(monkeypatch):
  """Count the records that are decoded."""
  folder_or_skip("mnist")
  import tensorflow_datasets as tfds

  count = []
  real = tfds.core.features.Image.decode_example_np
  monkeypatch.setattr(
    tfds.core.features.Image,
    "decode_example_np",
    lambda self, example: count.append(1) or real(self, example),
  )
  return count


def cached_files(tmp_path):
  return sorted((tmp_path / "cache").rglob("*.npz"))


def test_cache_holds_what_was_decoded(counted, tmp_path):
  first = data.load("mnist", num_train=20, num_test=10)
  assert len(counted) == 30
  second = data.load("mnist", num_train=20, num_test=10)
  assert len(counted) == 30
  for field in ("train_images", "train_labels", "test_images", "test_labels"):
    a, b = getattr(first, field), getattr(second, field)
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
  names = [path.name for path in cached_files(tmp_path)]
  assert len(names) == 2 and "mnist" in names[0] and "test-10-" in names[0]
  assert not list((tmp_path / "cache").rglob("tmp*"))


def test_another_size_has_its_own_entry(counted, tmp_path):
  data.load("mnist", num_train=20, num_test=10)
  assert len(data.load("mnist", num_train=21, num_test=10).train_labels) == 21
  assert len(cached_files(tmp_path)) == 3


def test_damaged_cache_is_decoded_again(counted, tmp_path):
  whole = data.load("mnist", num_train=20, num_test=10)
  for path, keep in zip(cached_files(tmp_path), (0, 500), strict=True):
    path.write_bytes(path.read_bytes()[:keep])
  again = data.load("mnist", num_train=20, num_test=10)
  assert len(counted) == 60
  np.testing.assert_array_equal(whole.train_images, again.train_images)
  data.load("mnist", num_train=20, num_test=10)
  assert len(counted) == 60  # The cache is good again.


def test_flipped_bit_in_the_cache_is_noticed(counted, tmp_path):
  whole = data.load("mnist", num_train=20, num_test=10)
  for path in cached_files(tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  again = data.load("mnist", num_train=20, num_test=10)
  np.testing.assert_array_equal(whole.test_images, again.test_images)


def test_unwritable_cache_costs_only_time(counted, tmp_path, monkeypatch):
  (tmp_path / "file").write_text("not a folder")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  assert len(data.load("mnist", num_train=3, num_test=3).train_labels) == 3


def test_full_disk_leaves_nothing_behind(counted, tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "savez", full)
  assert len(data.load("mnist", num_train=3, num_test=3).train_labels) == 3
  assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_other_records_of_one_name_and_version_have_their_own_entry(tmp_path):
  paths = []
  for content in (b"a", b"ab"):
    folder = tmp_path / str(len(content)) / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "cifar10-train.array_record").write_bytes(content)
    paths.append(cache.path_of(epath.Path(folder), "train", 5))
  assert paths[0] != paths[1]
