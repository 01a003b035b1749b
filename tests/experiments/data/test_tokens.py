"""A text in the tokens of a tokenizer."""

import pathlib
from typing import Any

import numpy as np
import pytest

from experiments import data
from experiments.data import pipeline


class Words:
  """Each word is a token, numbered as it comes, in a table of some size."""

  def __init__(self, size: int) -> None:
    self.size = size
    self.known: dict[str, int] = {}

  def encode(self, text: str) -> list[int]:
    return [self.known.setdefault(w, len(self.known)) for w in text.split()]


def load(file: pathlib.Path, tokenizer: Any, **options: Any) -> data.Dataset:
  return data.load("text", text=file, context=4, tokenizer=tokenizer, **options)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
  path = tmp_path / "text.txt"
  # The cut, after 9/10 of the bytes, is inside a character.
  path.write_text(" ".join(f"wörd{i:03}" for i in range(100)) + " öööööööö")
  return path


@pytest.mark.parametrize(
  ("size", "dtype"), [(1 << 16, np.uint16), (1 + (1 << 16), np.int32)]
)
def test_tokens_of_a_tokenizer(
  size: int, dtype: type, file: pathlib.Path
) -> None:
  words = Words(size)
  text = load(file, words, num_train=3)
  assert text.is_text and text.unit == "tokens" and text.num_classes == size
  assert text.train_images.dtype == text.test_images.dtype == dtype
  assert text.train_labels.dtype == np.int32 and text.class_names is None
  np.testing.assert_array_equal(text.train_images[1], [4, 5, 6, 7])
  np.testing.assert_array_equal(text.train_labels[1], [5, 6, 7, 8])
  assert "in tokens" in text.source
  batch = pipeline.batches(text, batch_size=2, seed=0)[0]
  assert data.to_input(batch["image"]).dtype == np.int32


def test_the_parts_are_those_of_the_bytes(file: pathlib.Path) -> None:
  words = Words(1 << 16)
  text = load(file, words)
  plain = data.load("text", text=file, context=4)
  assert plain.unit == "characters"
  content = file.read_bytes()
  start = content[: round(0.9 * len(content))].decode(errors="ignore")
  names = {number: word for word, number in words.known.items()}
  first = [names[int(t)] for t in text.test_images[0]]
  assert first == content.decode()[len(start) :].split()[:4]


def test_text_that_is_none(file: pathlib.Path) -> None:
  with pytest.raises(ValueError, match="tokens are too few for one example"):
    data.load("text", text=file, context=200, tokenizer=Words(9))
  file.write_bytes(b"\xff" * 100)
  with pytest.raises(ValueError, match=r"text.txt.*: a tokenizer takes UTF-8"):
    load(file, Words(9))
