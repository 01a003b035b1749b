"""WordPiece tokens of texts, by the tokenizer file of a package."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.models.bert import PADDING
from experiments.models.readers.base import library

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


class WordPiece:
  """A tokenizer of Hugging Face, `tokenizer.json`.

  Attributes:
    length: Tokens of a row; longer texts are cut, shorter ones padded.
  """

  def __init__(
    self, path: str | os.PathLike[str], vocabulary: int, length: int
  ) -> None:
    """Read a tokenizer.

    Args:
      path: File, `tokenizer.json`.
      vocabulary: Tokens of the model that reads them.
      length: Tokens of a row.

    Raises:
      ValueError: If the file is damaged, is no BERT tokenizer, or has another
        vocabulary than the model; or `tokenizers` is not installed.
      FileNotFoundError: If there is no such file.
    """
    file = pathlib.Path(path)
    text, kind = file.read_text(), library("tokenizers").Tokenizer
    try:
      self._tokenizer: Any = kind.from_str(text)
    except Exception as error:  # The library raises no class of its own.
      raise ValueError(f"{file.name} is no tokenizer: {error}") from None
    found = {name: self._tokenizer.token_to_id(name) for name in _SPECIAL}
    missing = [name for name, number in found.items() if number is None]
    if missing:
      raise ValueError(
        f"{file.name} does not fit a BERT: it lacks {', '.join(missing)}"
      )
    size = self._tokenizer.get_vocab_size()
    if size != vocabulary or found["[PAD]"] != PADDING:
      raise ValueError(
        f"{file.name} does not fit the model: it has {size} tokens and pads "
        f"with {found['[PAD]']}, the model {vocabulary} and {PADDING}"
      )
    self.length = length
    self._tokenizer.enable_truncation(length)
    self._tokenizer.enable_padding(pad_id=PADDING, length=length)

  def __call__(self, texts: Sequence[str]) -> np.ndarray:
    """Return the tokens of texts, int32[n, length]."""
    rows = [x.ids for x in self._tokenizer.encode_batch(list(texts))]
    return np.array(rows, np.int32).reshape(len(rows), self.length)
