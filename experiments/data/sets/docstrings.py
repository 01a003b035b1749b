"""Docstrings of Python's standard library: summaries, and what follows them.

Pairs of texts for `keyjax.tasks.pairs`, on every machine: modules are read, not
imported. Test pairs come from other modules than training pairs. The library
differs a little between versions of Python.
"""

import ast
import functools
import pathlib
import platform
import sysconfig
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.data.dataset import Dataset, subset
from experiments.data.registry import DATASETS, Entry, Options
from experiments.data.tokenizer import Tokenizer

NAME = "docstrings"
_PADDING = 0  # What the encoders of `experiments.models.bert` leave out.
_LEAST = 25, 100  # Characters of a summary, and of what follows it.


class Pair(NamedTuple):
  """A query, and the text that it is to find."""

  query: str
  text: str


def pairs_of(source: str) -> Iterator[Pair]:
  r"""Yield the first paragraph and the rest of each docstring of a module.

  Example:
    >>> summary, text = "Add one to some number.", "It may be any number. " * 5
    >>> code = f"def f():\n  '''{summary} It is short.\n\n{text}'''"
    >>> [pair.query for pair in pairs_of(code)]
    ['Add one to some number. It is short.']
  """
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, kinds):
      first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
      pair = Pair(" ".join(first.split()), " ".join(rest.split()))
      if all(len(x) >= least for x, least in zip(pair, _LEAST, strict=True)):
        yield pair


@functools.cache
def library() -> tuple[list[Pair], list[Pair]]:
  """Return the pairs for training and for tests, in a fixed order.

  Every other module is for tests. A summary, or a text, that several docstrings
  have is used once.
  """
  folder = pathlib.Path(sysconfig.get_path("stdlib"))
  parts: tuple[list[Pair], list[Pair]] = ([], [])
  known: set[str] = set()
  for i, file in enumerate(sorted(folder.glob("*.py"))):
    for pair in pairs_of(file.read_text("utf-8")):
      if known.isdisjoint(pair):
        known.update(pair)
        parts[i % 2].append(pair)
  return parts


def load(options: Options) -> Dataset:
  """Load the pairs as tokens.

  Args:
    options: Tokenizer; `context`, tokens of a text, of which each pair has two;
      sizes.

  Returns:
    A data set whose `images` are int32[n, 2 * context], the summary and then
    the rest, each cut or padded; it has no labels, float32[n, 0].

  Raises:
    ValueError: If there is no tokenizer, or none of BERT, or a size is out of
      range.
  """
  if options.tokenizer is None:
    raise ValueError(
      f"dataset={NAME} needs a tokenizer, such as "
      "config.tokenizer=package:minilm-tokenizer"
    )
  encode = _encoder(options.tokenizer, options.context)
  tokens = []
  for found, size, field in zip(
    library(),
    (options.num_train, options.num_test),
    ("num_train", "num_test"),
    strict=True,
  ):
    chosen = [found[i] for i in subset(len(found), size, field)]
    # Two arrays [n, context] -> int32[n, 2 * context]
    sides = [encode(list(side)) for side in zip(*chosen, strict=True)]
    tokens.append(np.concatenate(sides, 1))
  train, test = tokens
  return Dataset(
    name=NAME,
    train_images=train,
    train_labels=np.zeros((len(train), 0), np.float32),
    test_images=test,
    test_labels=np.zeros((len(test), 0), np.float32),
    num_classes=options.tokenizer.size,
    class_names=None,
    mean=(),
    std=(),
    task="pairs",
    source=f"docstrings of the standard library of Python "
    f"{platform.python_version()}, {options.context} tokens of each text",
  )


def _encoder(tokenizer: Tokenizer, context: int) -> Any:
  """Return the function from texts to tokens, int32[n, context]."""
  words = tokenizer.library
  if context < 3 or words.token_to_id("[PAD]") != _PADDING:
    raise ValueError(
      f"dataset={NAME} needs a tokenizer of BERT, whose [PAD] is {_PADDING}, "
      f"and context={context} of 3 or more tokens"
    )
  words.enable_truncation(context)
  words.enable_padding(pad_id=_PADDING, length=context)

  def encode(texts: list[str]) -> np.ndarray:
    return np.array([x.ids for x in words.encode_batch(texts)], np.int32)

  return encode


DATASETS.add(NAME, Entry(load, origin="comes with Python"))
