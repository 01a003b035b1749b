"""Batches by step, streamed and prefetched; images on the device."""

from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import data
from experiments.data import crops, folders


@pytest.fixture
def numbered():
  """Return 100 examples whose first pixel and label are their index."""
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


# -------------------------------------------------------------------- batches


def test_batches_are_a_grain_data_set_with_random_access(numbered):
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
  try:
    folders.find(name, None)
  except data.MissingDataError as error:
    pytest.skip(str(error))
  channels = {"mnist": 1, "gtsrb": 3}[name]
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


def test_augment_mirrors_about_half_of_the_images():
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


def test_an_error_is_raised_when_its_batch_is_due() -> None:
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
