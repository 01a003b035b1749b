"""Characters of a text as tokens, for language models."""

import os
import pathlib

import numpy as np
from etils import epath

from experiments.data import folders
from experiments.data.datasets import Dataset

NAMES = ("python_help", "tinyshakespeare", "text")
_TEST_SHARE = 0.1  # the end of the text


def load(
  name: str,
  path: str | os.PathLike[str] = "",
  context: int = 64,
  data_dir: str | os.PathLike[str] | None = None,
  num_train: int | None = None,
  num_test: int | None = None,
) -> Dataset:
  """Loads a text; the first 90 % are for training.

  A token is a byte, numbered among the bytes that the text has. An example is
  `context` characters, and its labels are the same moved on by one; examples
  do not overlap, so an epoch reads the text once.

  Args:
    name: `text` (any file), `tinyshakespeare` (that file, beside the folder of
      TFDS data sets), or `python_help` (Python's own help topics, on every
      machine; they differ a little between versions).
    path: the file of `text`.
    context: characters of an example.
    data_dir: see `find_data_dir`.
    num_train: how many training examples, from the start; all by default.
    num_test: the same, for the test examples.

  Returns:
    A data set whose `images` are `uint8[n, context]`, and its labels
    `int32[n, context]`.

  Raises:
    ValueError: the name is unknown, or the text is too short.
    MissingDataError: there is no such file.

  Example:
    >>> help = load("python_help", context=32)
    >>> help.train_images.shape[1], help.unit
    (32, 'characters')
  """
  if name not in NAMES:
    raise ValueError(f"Unknown text {name!r}: choose from {', '.join(NAMES)}.")
  if context < 1:
    raise ValueError(f"Expected context={context} >= 1.")
  content, source = _read(name, path, data_dir)
  symbols, tokens = np.unique(
    np.frombuffer(content, np.uint8), return_inverse=True
  )
  cut = round(len(tokens) * (1 - _TEST_SHARE))
  train = _windows(tokens[:cut], context, num_train, "num_train")
  test = _windows(tokens[cut:], context, num_test, "num_test")
  return Dataset(
    name=name,
    train_images=train[0],
    train_labels=train[1],
    test_images=test[0],
    test_labels=test[1],
    num_classes=len(symbols),
    class_names=tuple(repr(chr(s)) for s in symbols),
    mean=(),
    std=(),
    source=source,
  )


def _read(
  name: str,
  path: str | os.PathLike[str],
  data_dir: str | os.PathLike[str] | None,
) -> tuple[bytes, str]:
  """Returns a text, and where it came from."""
  if name == "python_help":
    # Here, because nothing else needs half a megabyte of help.
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[k] for k in sorted(topics.topics))
    return text.encode(), "the help topics of this Python"
  file = epath.Path(path).expanduser()
  if name == "tinyshakespeare":
    file = folders.find_data_dir(data_dir).parent / "tinyshakespeare.txt"
  if (name == "text" and not str(path)) or not file.is_file():
    raise folders.MissingDataError(
      f"No text at {file}: name any file with --config.dataset=text "
      "--config.text=FILE."
    )
  return file.read_bytes(), f"{pathlib.PurePath(file).name}, bytes as they are"


def _windows(
  tokens: np.ndarray, context: int, count: int | None, what: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns consecutive examples and their labels."""
  most = (len(tokens) - 1) // context
  if most < 1:
    raise ValueError(
      f"{len(tokens)} characters are too few for one example of {context}."
    )
  size = most if count is None else count
  if not 1 <= size <= most:
    raise ValueError(f"Expected 1 <= {what}={size} <= {most}.")
  inputs = tokens[: size * context].reshape(size, context)
  labels = tokens[1 : size * context + 1].reshape(size, context)
  return inputs.astype(np.uint8), labels.astype(np.int32)
