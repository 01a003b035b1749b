"""A text as tokens, for language models: its bytes, or a tokenizer's."""

import pathlib
from typing import NamedTuple

import numpy as np
from etils import epath

import keyjax
from experiments.data import folders, guarded
from experiments.data.dataset import Dataset
from experiments.data.registry import DATASETS, Entry, Options
from experiments.data.tokenizer import Tokenizer

_TEST_SHARE = 0.1  # The end of the text.
# Name -> where the text comes from.
_ORIGINS = {
  "python_help": "comes with Python",
  "tinyshakespeare": "is one file, tinyshakespeare.txt, next to the folder of "
  "TFDS data sets",
  "text": "is any file: --config.text=FILE",
}


def load(name: str, options: Options) -> Dataset:
  """Load a text; the first 90 % are for training.

  A token is a byte, numbered among the bytes that occur in the text, or what a
  tokenizer makes of it. An example is `context` tokens, and its labels are the
  same tokens shifted by one; examples do not overlap, so an epoch reads the
  text once.

  Args:
    name: `text` (any file), `tinyshakespeare` (that file, next to the folder of
      TFDS data sets), or `python_help` (Python's own help topics, on every
      machine; they differ a little between versions).
    options: File, tokenizer, context and sizes; examples are taken from the
      start.

  Returns:
    A data set whose `images` are `uint8[n, context]`, those of a tokenizer
    `uint16` or `int32`, and its labels `int32[n, context]`.

  Raises:
    ValueError: If the text is too short or a size is out of range.
    MissingDataError: If there is no such file.

  Example:
    >>> help = load("python_help", Options(context=32))
    >>> help.train_images.shape[1], help.unit
    (32, 'characters')
  """
  context = options.context
  if context < 1:
    raise ValueError(f"Expected context={context} >= 1.")
  content, source = _read(name, options)
  tokens = _characters(content)
  if options.tokenizer is not None:
    tokens = _encoded(content, source, options.tokenizer)
  train = _windows(tokens, 0, context, options.num_train, "num_train")
  test = _windows(tokens, 1, context, options.num_test, "num_test")
  return Dataset(
    name=name,
    train_images=train[0],
    train_labels=train[1],
    test_images=test[0],
    test_labels=test[1],
    num_classes=tokens.number,
    class_names=tokens.names,
    mean=(),
    std=(),
    task="tokens",
    source=f"{source}, {tokens.form}",
    text_unit=tokens.unit,
  )


class _Tokens(NamedTuple):
  """A text in tokens.

  Attributes:
    parts: Those for training and those for testing, int[length].
    number: Number of different tokens.
    dtype: Smallest type that holds them.
    names: Name of each token, where it has one.
    unit: `characters` or `tokens`.
    form: How the text became tokens, for `Dataset.source`.
  """

  parts: tuple[np.ndarray, np.ndarray]
  number: int
  dtype: type[np.integer]
  names: tuple[str, ...] | None
  unit: str
  form: str


def _cut(content: bytes) -> int:
  return round(len(content) * (1 - _TEST_SHARE))


def _characters(content: bytes) -> _Tokens:
  # bytes -> symbols uint8[s], tokens int[length]
  symbols, tokens = np.unique(
    np.frombuffer(content, np.uint8), return_inverse=True
  )
  cut = _cut(content)
  names = tuple(repr(chr(s)) for s in symbols)
  parts = tokens[:cut], tokens[cut:]
  return _Tokens(
    parts,
    number=len(symbols),
    dtype=np.uint8,
    names=names,
    unit="characters",
    form="bytes as they are",
  )


def _encoded(content: bytes, source: str, tokenizer: Tokenizer) -> _Tokens:
  """Encode both parts of a text, which are those that bytes are cut into."""
  try:
    text = content.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"{source}: a tokenizer takes UTF-8 ({error})") from None
  start = content[: _cut(content)].decode(errors="ignore")
  first, last = (
    np.asarray(tokenizer.encode(part), np.int64)
    for part in (start, text[len(start) :])
  )
  number = tokenizer.size
  return _Tokens(
    (first, last),
    number=number,
    dtype=np.uint16 if number <= 1 << 16 else np.int32,
    names=None,
    unit="tokens",
    form=f"in tokens of a vocabulary of {number:,}",
  )


def _read(name: str, options: Options) -> tuple[bytes, str]:
  """Return a text and its source."""
  if name == "python_help":
    # Here, because nothing else needs half a megabyte of help.
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[k] for k in sorted(topics.topics))
    return text.encode(), "the help topics of this Python"
  file = epath.Path(options.text).expanduser()
  if name == "tinyshakespeare":
    root = folders.find_data_dir(options.data_dir)
    file = root.parent / "tinyshakespeare.txt"
  nameless = name == "text" and not str(options.text)
  if nameless or not (file.is_file() or keyjax.data.is_sealed(file)):
    raise folders.MissingDataError(
      f"No text at {file}: name any file with --config.dataset=text "
      "--config.text=FILE."
    )
  guarded.check(file, options.guard)
  if not options.guard.key:
    return file.read_bytes(), pathlib.PurePath(file).name
  opened = guarded.open_files(file, options.guard)
  [name, *others] = opened.names()
  if others:
    raise ValueError(f"{file} has {1 + len(others)} files, and a text is one")
  return opened.read(name), name


def _windows(
  text: _Tokens, part: int, context: int, count: int | None, field: str
) -> tuple[np.ndarray, np.ndarray]:
  """Return consecutive examples and their labels, `[n, context]` each."""
  tokens = text.parts[part]
  most = (len(tokens) - 1) // context
  if most < 1:
    raise ValueError(
      f"{len(tokens)} {text.unit} are too few for one example of {context}."
    )
  size = most if count is None else count
  if not 1 <= size <= most:
    raise ValueError(f"Expected 1 <= {field}={size} <= {most}.")
  # int[length] -> [size, context]
  inputs = tokens[: size * context].reshape(size, context)
  labels = tokens[1 : size * context + 1].reshape(size, context)
  return inputs.astype(text.dtype), labels.astype(np.int32)


def _register(name: str, origin: str) -> None:
  entry = Entry(
    lambda options: load(name, options),
    origin=origin,
    files=name != "python_help",
  )
  DATASETS.add(name, entry)


for _name, _origin in _ORIGINS.items():
  _register(_name, _origin)
