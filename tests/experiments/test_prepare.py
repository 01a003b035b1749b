"""Preparing without TensorFlow, from a server on this machine.

The files served have the published formats and a few made-up images; what TFDS
writes is read back by `experiments.data` and compared pixel for pixel.
"""

import functools
import gzip
import http.server
import io
import sys
import tarfile
import threading
import zipfile

import numpy as np
import PIL.Image
import pytest

from experiments import data, prepare
from experiments.data import folders
from experiments.data.sets import cifar10
from experiments.run.config import base

TRAIN, TEST = 7, 5
CLASSES = [f"class_{i}" for i in range(10)]


@pytest.fixture
def served(tmp_path):
  """Serve a folder; yield it and its address."""
  folder = tmp_path / "served"
  folder.mkdir()

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
      del args  # Unused; this silences the log.

  handler = functools.partial(Handler, directory=folder)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.delenv("KEYJAX_DATA_DIR", raising=False)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
  monkeypatch.setattr(folders, "ROOT", tmp_path / "nowhere" / "checkout")


def made_up(count, shape, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 256, (count, *shape), np.uint8)
  return images, np.arange(count, dtype=np.uint8) % 10


def check(dataset, train, test):
  """Compare as sets of (pixels, label), because TFDS shuffles."""
  for images, labels, (want_images, want_labels) in (
    (dataset.train_images, dataset.train_labels, train),
    (dataset.test_images, dataset.test_labels, test),
  ):
    got = {(bytes(x), int(y)) for x, y in zip(images, labels, strict=True)}
    want = zip(want_images, want_labels, strict=True)
    assert got == {(bytes(x), int(y)) for x, y in want}


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_formats(name, served, monkeypatch, tmp_path):
  from tensorflow_datasets.image_classification import mnist

  folder, url = served
  splits = made_up(TRAIN, (28, 28, 1)), made_up(TEST, (28, 28, 1), 1)
  for prefix, (images, labels) in zip(("train", "t10k"), splits, strict=True):
    for kind, header, content in (
      ("images-idx3", 16, images),
      ("labels-idx1", 8, labels),
    ):
      packed = gzip.compress(bytes(header) + content.tobytes())
      (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(packed)
  monkeypatch.setattr(mnist.MNIST, "URL", url)
  monkeypatch.setattr(mnist.FashionMNIST, "URL", url)
  monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", TRAIN)
  monkeypatch.setattr(mnist, "_TEST_EXAMPLES", TEST)
  prepare.prepare(name, str(tmp_path / "data"))
  dataset = data.load(name, tmp_path / "data")
  check(dataset, *splits)
  assert "JPEG" not in dataset.source


def test_cifar10_format(served, monkeypatch):
  from tensorflow_datasets.image_classification import cifar

  folder, url = served
  splits = made_up(TRAIN, (32, 32, 3)), made_up(TEST, (32, 32, 3), 1)
  files = {"batches.meta.txt": "\n".join(CLASSES).encode()}
  for name, (images, labels) in zip(("train", "test"), splits, strict=True):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    files[f"{name}.bin"] = np.hstack([labels[:, None], planes]).tobytes()
  with tarfile.open(folder / "cifar.tar.gz", "w:gz") as tar:
    for name, content in files.items():
      info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  info = cifar.CifarInfo(
    name="cifar10",
    url=f"{url}cifar.tar.gz",
    prefix="cifar-10-batches-bin/",
    train_files=["train.bin"],
    test_files=["test.bin"],
    label_files=["batches.meta.txt"],
    label_keys=["label"],
  )
  monkeypatch.setattr(cifar.Cifar10, "_cifar_info", info)
  # The folder that `load` reads is the default of `prepare` too.
  prepare.prepare("cifar10")
  dataset = data.load("cifar10")
  check(dataset, *splits)
  assert dataset.class_names == tuple(CLASSES)
  assert dataset.mean == cifar10.MEAN
  assert "tensorflow" not in sys.modules


def test_svhn_format(served, monkeypatch, tmp_path):
  import scipy.io
  from tensorflow_datasets.datasets.svhn_cropped import (
    svhn_cropped_dataset_builder as svhn,
  )

  folder, url = served
  splits = made_up(TRAIN, (32, 32, 3)), made_up(TEST, (32, 32, 3), 1)
  for name, (images, labels) in zip(
    ("train", "test", "extra"), (*splits, splits[0]), strict=True
  ):
    y = np.where(labels == 0, 10, labels)[:, None]
    content = {"X": np.moveaxis(images, 0, -1), "y": y}
    scipy.io.savemat(folder / f"{name}_32x32.mat", content)
  monkeypatch.setattr(svhn, "URL", url)
  prepare.prepare("svhn_cropped", str(tmp_path))
  check(data.load("svhn_cropped", tmp_path), *splits)


def test_gtsrb_holds_out_every_fifth_track(served, monkeypatch, tmp_path):
  from experiments.data.sets import gtsrb

  folder, url = served
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 6, 2, 32, 32, 3), np.uint8)
  with zipfile.ZipFile(folder / "images.zip", "w") as archive:
    for label, track, frame in np.ndindex(2, 6, 2):
      buffer = io.BytesIO()
      PIL.Image.fromarray(images[label, track, frame]).save(buffer, "ppm")
      name = f"{label:05d}/{track:05d}_{frame:05d}.ppm"
      archive.writestr(f"GTSRB/Final_Training/Images/{name}", buffer.getvalue())
  monkeypatch.setattr(gtsrb, "URL", f"{url}images.zip")
  prepare.prepare("gtsrb", str(tmp_path))
  dataset = data.load("gtsrb", tmp_path)
  assert dataset.num_classes == 43 and dataset.class_names is None
  assert "every fifth track" in dataset.source
  kept = np.delete(images, 4, axis=1)
  check(
    dataset,
    (kept.reshape(-1, 32, 32, 3), np.repeat([0, 1], 10)),
    (images[:, 4].reshape(-1, 32, 32, 3), np.repeat([0, 1], 2)),
  )


def test_imagenet_archives(monkeypatch, tmp_path):
  """The archives are in downloads/manual; one image is a CMYK JPEG."""
  from tensorflow_datasets.datasets.imagenet2012 import (
    imagenet2012_dataset_builder as imagenet,
  )

  manual = tmp_path / "downloads" / "manual"
  manual.mkdir(parents=True)

  def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))

  def jpeg(mode):
    buffer = io.BytesIO()
    PIL.Image.new(mode, (40, 30), "red" if mode == "RGB" else 0).save(
      buffer, "jpeg"
    )
    return buffer.getvalue()

  odd = "n01440764_1.JPEG"
  monkeypatch.setattr(imagenet, "CMYK_IMAGES", [odd])
  with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as tar:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as images:
      for i in range(6):
        mode = "CMYK" if i == 1 else "RGB"
        add(images, f"n01440764_{i}.JPEG", jpeg(mode))
    add(tar, "n01440764.tar", inner.getvalue())
  with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as tar:
    for i in range(1, 4):
      add(tar, f"ILSVRC2012_val_{i:08d}.JPEG", jpeg("RGB"))
  prepare.prepare("imagenet2012", str(tmp_path))
  crops = {"seed": 0, "image_size": 24, "data_dir": tmp_path}
  batch = data.stream("imagenet2012", "train", batch_size=6, **crops)[0]
  assert batch["image"].shape == (6, 24, 24, 3)
  assert batch["label"].tolist() == [0] * 6
  white = [image for image in batch["image"] if image.min() > 250]
  assert len(white) == 1  # no ink at all
  batch = data.stream("imagenet2012", "validation", batch_size=3, **crops)[0]
  red = batch["image"].reshape(-1, 3).mean(0)
  assert red[0] > 240 and red[1:].max() < 15
  # A run reads it batch by batch, with threads and without.
  config = base()
  config.update(dataset="imagenet2012", data_dir=str(tmp_path), image_size=24)
  dataset = data.from_config(config)
  assert dataset.num_examples == 6 and dataset.num_classes == 1000
  assert dataset.train_images.shape == (6, 24, 24, 3)
  assert dataset.test_images.shape == (3, 24, 24, 3)
  for threads in (0, 2):
    source = data.batches(dataset, 2, seed=1)
    ahead = data.iterate(source, 4, threads)
    for step in range(4, 8):
      found = next(ahead)
      np.testing.assert_array_equal(found["image"], source[step]["image"])
  config.num_train = 3
  with pytest.raises(ValueError, match="num_train=3: .* read whole"):
    data.from_config(config)


def test_names_are_data_sets_of_tfds():
  assert prepare.names() == [
    "cifar10",
    "fashion_mnist",
    "gtsrb",
    "imagenet2012",
    "mnist",
    "svhn_cropped",
  ]
  assert {*prepare.names()} < {*data.names()}


def test_bad_names_are_errors():
  with pytest.raises(ValueError, match="nothing to prepare"):
    prepare.prepare("digits")
  with pytest.raises(ValueError, match="'mnit'.*imagenet2012.*mnist") as error:
    prepare.prepare("mnit")
  assert "digits" not in str(error.value)


def test_a_server_without_the_file_leaves_no_data_set(
  served, monkeypatch, tmp_path
):
  from tensorflow_datasets.image_classification import mnist

  monkeypatch.setattr(mnist.MNIST, "URL", served[1])
  with pytest.raises(ConnectionError, match="mnist could not be downloaded"):
    prepare.prepare("mnist", str(tmp_path / "data"))
  with pytest.raises(data.MissingDataError):
    data.load("mnist", tmp_path / "data")


def test_no_network_is_a_clear_error(monkeypatch, tmp_path, capsys):
  from tensorflow_datasets.image_classification import mnist
  from urllib3.util import retry

  # Nothing listens on port 1 of this machine; between tries it would sleep.
  monkeypatch.setattr(mnist.MNIST, "URL", "http://127.0.0.1:1/")
  monkeypatch.setattr(retry.Retry, "sleep", lambda *_: None)
  with pytest.raises(
    ConnectionError, match=f"copy its folder mnist into {tmp_path}"
  ):
    prepare.prepare("mnist", str(tmp_path))


def test_without_its_archives_imagenet_says_where_to_put_them(tmp_path):
  with pytest.raises(data.MissingDataError) as caught:
    prepare.prepare("imagenet2012", str(tmp_path))
  for part in ("img_train.tar", "img_val.tar", str(tmp_path)):
    assert part in str(caught.value)
