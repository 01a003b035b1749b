"""Images a second of sealed and of tagged records against plain ones.

Records of 28 x 28 PNG images are read in random order and decoded by two
threads: one by one, as Grain reads a source; a batch at a time, as the trainer
reads images that do not fit in memory; and so while a CNN trains on them.
Nothing is cached between rounds but the files.
"""

import functools
import io
import itertools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import PIL.Image

import keyjax
from experiments import data, models
from experiments.benchmarks.timing import interleaved, ratio, row, summary
from keyjax.data import record_files

_IMAGES = 8_192
_BATCH = 128
_SIDE = 28
_STEPS = 32  # Batches of a round.
_THREADS = 2
_TARGET = ">= 0.9"

Pipeline = Callable[[], Iterator[Any]]  # Of float32[128, 28, 28, 1].


def rows(rounds: int) -> list[dict[str, Any]]:
  """Time plain, tagged and sealed records in turn."""
  with tempfile.TemporaryDirectory() as temporary:
    sources = _sources(pathlib.Path(temporary))
    made = []
    for title, pipeline, consume in (
      ("one by one", _one_by_one, _read),
      ("in batches", _in_batches, _read),
      ("in training", _in_batches, _trainer()),
    ):
      times = interleaved(
        {
          name: functools.partial(consume, pipeline(source))
          for name, source in sources.items()
        },
        rounds,
      )
      for name in sources:
        speed = summary(_STEPS * _BATCH / times[name].wall)
        made.append(row(f"data, {name}, {title}", speed, "images/s"))
      for name in ("tagged", "sealed", "sealed and signed"):
        share = ratio(times[name], times["plain"])
        target = "" if consume is _read else _TARGET
        what = f"data, {name} / plain, {title}"
        made.append(row(what, share, "x", target))
    return made


def _sources(folder: pathlib.Path) -> dict[str, Any]:
  """Write images in the three forms; return data sources of Grain."""
  plain = folder / "plain"
  plain.mkdir()
  name = "images.array_record"
  writer = record_files.RecordWriter(plain / name)
  for record in _encoded():
    writer.write(record)
  writer.close()
  owner = keyjax.keyring.SymmetricKey(keyjax.Secret.generate())
  signer = keyjax.keyring.SigningKey.generate()
  keyjax.data.seal_data(plain, folder / "sealed", owner)
  keyjax.data.seal_data(plain, folder / "signed", owner, signer=signer.private)
  secret = keyjax.Secret.generate()
  tags = keyjax.data.tag_data(plain, secret, "images")
  signed = keyjax.data.open_data(
    folder / "signed", owner, verify_key=signer.public
  )
  return {
    "plain": _Plain(plain / name),
    "tagged": keyjax.data.open_tagged(plain, tags, secret).records(),
    "sealed": keyjax.data.open_data(folder / "sealed", owner).records(),
    "sealed and signed": signed.records(),
  }


class _Plain:
  """Plain records, read as the others are."""

  def __init__(self, path: pathlib.Path):
    self._file = record_files.RecordFile(path)

  def __len__(self) -> int:
    return len(self._file)

  def __getitem__(self, index: int) -> bytes:
    return self._file.read([index])[0]

  def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
    return self._file.read(indices)


def _encoded() -> Iterator[bytes]:
  """Yield PNG images of about as many bytes as those of MNIST."""
  rng = np.random.default_rng(0)
  for _ in range(_IMAGES):
    image = np.zeros((_SIDE, _SIDE), np.uint8)
    image[8:20, 8:20] = rng.integers(0, 256, (12, 12))
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    yield file.getvalue()


def _one_by_one(source: Any) -> Pipeline:
  """Return a pipeline of float32[128, 28, 28, 1], batched after reading."""
  options = grain.ReadOptions(
    num_threads=_THREADS, prefetch_buffer_size=4 * _BATCH
  )

  def start() -> Iterator[np.ndarray]:
    read = grain.MapDataset.source(source).shuffle(seed=0).map(_decoded)
    return iter(read.to_iter_dataset(options).batch(_BATCH))

  return start


def _in_batches(source: Any) -> Pipeline:
  """Return a pipeline as that of `experiments.data.stream`."""
  order = np.random.default_rng(0).permutation(len(source))

  def batch(step: int) -> np.ndarray:
    rows = order[step * _BATCH : (step + 1) * _BATCH].tolist()
    return np.stack([_decoded(x) for x in source.__getitems__(rows)])

  steps = grain.MapDataset.range(len(source) // _BATCH).map(batch)
  return lambda: data.iterate(steps, 0, threads=_THREADS)


def _decoded(record: bytes) -> np.ndarray:
  pixels = np.asarray(PIL.Image.open(io.BytesIO(record)))
  return pixels[..., None].astype(np.float32) / 255


def _read(start: Pipeline) -> None:
  batches = start()
  for _ in range(_STEPS):
    next(batches)


def _trainer() -> Callable[[Pipeline], Any]:
  """Return a function that trains the CNN of the MNIST recipe."""
  model = models.create("cnn", 10, (0.0,), (1.0,))
  optimizer = optax.adam(1e-3)
  image = jnp.zeros((_BATCH, _SIDE, _SIDE, 1))
  label = jnp.arange(_BATCH) % 10
  variables = model.init(jax.random.key(0), image)
  first = variables, optimizer.init(variables)

  @jax.jit
  def step(state: Any, batch: jax.Array) -> Any:
    def loss(variables: Any) -> jax.Array:
      logits = model.apply(variables, batch)
      assert isinstance(logits, jax.Array)
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, label
      ).mean()

    variables, moments = state
    updates, moments = optimizer.update(
      jax.grad(loss)(variables), moments, variables
    )
    return optax.apply_updates(variables, updates), moments

  def train(start: Pipeline) -> Any:
    ahead: Any = itertools.islice(start(), _STEPS)
    state = first
    for batch in data.prefetch(ahead, jnp.asarray, 2):
      state = step(state, batch)
    return state

  return train
