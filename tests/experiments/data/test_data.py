"""Loading, splitting, caching and batching; nothing here downloads."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from experiments import data
from experiments.data import cache, crops, folders
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


@pytest.fixture
def numbered():
  """100 examples whose first pixel is their label is their index."""
  labels = np.arange(100, dtype=np.int32)
  images = np.zeros((100, 4, 4, 1), np.uint8)
  images[:, 0, 0, 0] = labels
  return data.Dataset(
    name="numbered",
    train_images=images,
    train_labels=labels,
    test_images=images,
    test_labels=labels,
    num_classes=100,
    class_names=None,
    mean=(0.5,),
    std=(0.5,),
    source="made here",
  )


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


def test_cifar10_has_the_papers_statistics_names_and_caveat():
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
  assert str(folder) in dataset.source


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
  """Counts the records that are decoded."""
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


def test_another_size_is_another_entry(counted, tmp_path):
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


def test_other_records_under_one_name_and_version_are_other_entries(tmp_path):
  paths = []
  for content in (b"a", b"ab"):
    folder = tmp_path / str(len(content)) / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "cifar10-train.array_record").write_bytes(content)
    paths.append(cache.path_of(epath.Path(folder), "train", 5))
  assert paths[0] != paths[1]


# -------------------------------------------------------------------- batches


def test_batches_are_grain_and_random_access(numbered):
  batches = data.batches(numbered, 8, seed=0)
  assert isinstance(batches, grain.MapDataset)
  assert sorted(batches[0]) == ["image", "label"]
  assert batches[0]["image"].shape == (8, 4, 4, 1)
  assert batches[0]["image"].dtype == np.uint8
  assert batches[0]["label"].dtype == np.int32
  for step in (0, 11, 12, 13, 5_000_000):
    batch = batches[step]
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])


def test_a_step_is_the_same_batch_whatever_came_before(numbered):
  forward = [b["label"] for b in data.batches(numbered, 8, seed=3)[:60]]
  fresh = data.batches(numbered, 8, seed=3)
  for step in (59, 0, 13, 12, 40, 13):
    np.testing.assert_array_equal(fresh[step]["label"], forward[step])


def test_resuming_by_prefetching_iterator(numbered):
  batches = data.batches(numbered, 8, seed=3)
  options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
  resumed = iter(batches[20:].to_iter_dataset(options))
  for step in range(20, 40):
    np.testing.assert_array_equal(
      next(resumed)["label"], batches[step]["label"]
    )


def test_an_epoch_visits_no_example_twice_and_drops_the_remainder(numbered):
  batches = data.batches(numbered, 8, seed=0)
  per_epoch = data.steps_per_epoch(100, 8)
  assert per_epoch == 12
  for epoch in range(3):
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = np.concatenate([batches[step]["label"] for step in steps])
    assert len(seen) == len(set(seen.tolist())) == 96


def test_epochs_and_seeds_have_their_own_order(numbered):
  batches = data.batches(numbered, 100, seed=0)
  other = data.batches(numbered, 100, seed=1)
  orders = [batches[0], batches[1], other[0], other[1]]
  assert len({bytes(batch["label"]) for batch in orders}) == 4
  for batch in orders:
    assert sorted(batch["label"]) == list(range(100))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_get_disjoint_rows_of_the_one_process_batch(numbered, count):
  alone = data.batches(numbered, 8, seed=0)
  shares = [
    data.batches(numbered, 8, seed=0, process_index=i, process_count=count)
    for i in range(count)
  ]
  for step in (0, 11, 12, 30):
    parts = [share[step]["label"] for share in shares]
    assert all(len(part) == 8 // count for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), alone[step]["label"])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"batch_size": 101}, "1 <= batch_size=101 <= 100"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"seed": -1}, "seed=-1"),
    ({"process_count": 3}, "process_count=3 to divide batch_size=8"),
    (
      {"process_index": 2, "process_count": 2},
      "process_index=2 < process_count=2",
    ),
    ({"process_index": -1, "process_count": 2}, "process_index=-1"),
  ],
)
def test_bad_batches_are_errors(numbered, arguments, message):
  with pytest.raises(ValueError, match=message):
    data.batches(numbered, **({"batch_size": 8, "seed": 0} | arguments))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 100, 128])
def test_eval_batches_drop_nothing_and_share_a_shape(numbered, batch_size):
  images, labels = numbered.test_images, numbered.test_labels
  seen = []
  for batch in data.eval_batches(images, labels, batch_size):
    assert batch["image"].shape == (batch_size, 4, 4, 1)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32
    assert batch["mask"].dtype == bool
    seen.extend(batch["image"][batch["mask"], 0, 0, 0])
    assert not batch["image"][~batch["mask"]].any()
  assert seen == labels.tolist()


def test_bad_eval_batches_are_errors_at_once(numbered):
  with pytest.raises(ValueError, match="batch_size=0"):
    data.eval_batches(numbered.test_images, numbered.test_labels, 0)
  with pytest.raises(ValueError, match="100 images and 3 labels"):
    data.eval_batches(numbered.test_images, numbered.test_labels[:3], 5)


# --------------------------------------------------------------------- stream


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["mnist", "gtsrb"])
def test_stream_is_by_step_and_by_process(name, split):
  folder_or_skip(name)
  channels = REAL[name][2][-1]
  alone = data.stream(name, split, 6, seed=0, image_size=20)
  again = data.stream(name, split, 6, seed=0, image_size=20)
  halves = [
    data.stream(
      name,
      split,
      batch_size=6,
      seed=0,
      image_size=20,
      process_index=i,
      process_count=2,
    )
    for i in range(2)
  ]
  for step in (0, 30_000):
    batch = alone[step]
    assert batch["image"].shape == (6, 20, 20, channels)
    assert batch["image"].dtype == np.uint8
    assert batch["label"].dtype == np.int32
    parts = [half[step] for half in halves]
    for field in ("image", "label"):
      np.testing.assert_array_equal(batch[field], again[step][field])
      joined = np.concatenate([part[field] for part in parts])
      np.testing.assert_array_equal(batch[field], joined)


def test_stream_crops_inside_the_image():
  rng = np.random.default_rng(0)
  areas = []
  for height, width in ((1, 1), (3, 200), (40, 30)):
    for box in (crops.random_box, crops.centre_box):
      for _ in range(100):
        left, top, right, bottom = box(height, width, rng)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        if box is crops.random_box and (height, width) == (40, 30):
          areas.append((right - left) * (bottom - top) / 1200)
  assert min(areas) < 0.2 and max(areas) > 0.8
  assert crops.centre_box(16, 32, rng) == (9, 1, 23, 15)


# ------------------------------------------------------------------ on device


def test_to_float():
  pixels = data.to_float(np.array([0, 51, 255], np.uint8))
  assert pixels.dtype == jnp.float32
  np.testing.assert_allclose(pixels, [0, 0.2, 1], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8])
def test_augment_shifts_by_at_most_pad_and_flips(dtype):
  # One white pixel in the middle: where it lands is the shift.
  images = jnp.zeros((256, 9, 9, 1), dtype).at[:, 4, 4].set(1)
  out = data.augment(jax.random.key(0), images, pad=2, flip=False)
  assert out.shape == images.shape and out.dtype == dtype
  _, y, x, _ = np.nonzero(np.array(out, np.float32))
  assert len(y) == 256  # None left the image.
  assert set(y) == set(x) == set(range(2, 7))


def test_augment_mirrors_about_half():
  images = jnp.tile(jnp.arange(4.0).reshape(1, 1, 4, 1), (400, 4, 1, 3))
  out = np.array(data.augment(jax.random.key(0), images, pad=0))
  mirrored = out[:, 0, 0, 0] == 3
  assert 150 < mirrored.sum() < 250
  np.testing.assert_array_equal(
    out, np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
  )


def test_augment_is_a_function_of_its_rng():
  images = jax.random.uniform(jax.random.key(1), (8, 8, 8, 3))
  out = [data.augment(jax.random.key(i), images) for i in (0, 0, 1)]
  np.testing.assert_array_equal(out[0], out[1])
  assert (np.array(out[0]) != np.array(out[2])).any()
  unchanged = data.augment(jax.random.key(0), images, pad=0, flip=False)
  np.testing.assert_array_equal(unchanged, images)


# ----------------------------------------------------------------- prefetch


@pytest.mark.parametrize("size", [0, 1, 2, 20])
def test_prefetch_draws_ahead_in_order(size: int) -> None:
  drawn: list[int] = []

  def put(x: int) -> int:
    drawn.append(x)
    return 10 * x

  ahead = data.prefetch(iter(range(6)), put, size)
  for i in range(6):
    assert next(ahead) == 10 * i
    assert drawn == list(range(min(i + size + 1, 6)))
  with pytest.raises(StopIteration):
    next(ahead)


def test_an_error_comes_when_its_batch_is_due() -> None:
  def source() -> Iterator[int]:
    yield from range(3)
    raise OSError("the disk is gone")

  def bad(x: int) -> int:
    if x == 2:
      raise ValueError("not a batch")
    return x

  for put, last, error in ((int, 2, OSError), (bad, 1, ValueError)):
    ahead, seen = data.prefetch(source(), put, 2), []
    with pytest.raises(error):
      for x in ahead:
        seen.append(x)
    assert seen == list(range(last + 1))
