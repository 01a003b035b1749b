"""Small files of a BERT: random weights in Hugging Face's layout, words."""

import pathlib

import numpy as np
import pytest

INSTALL = "needs tokenizers: pip install 'keyjax[pretrained]'"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
RNG = np.random.default_rng(0)


def arrays(
  vocabulary: int = 13, context: int = 9, size: int = 8, spread: float = 0.5
) -> dict[str, np.ndarray]:
  """Return the tensors of two blocks, with a pooler.

  With a small `spread` a text is little more than the mean of its words.
  """

  def draw(*shape: int) -> np.ndarray:
    return RNG.normal(0, spread, shape).astype(np.float32)

  tables = (("word", vocabulary), ("position", context), ("token_type", 2))
  found = {
    f"embeddings.{name}_embeddings.weight": draw(rows, size)
    for name, rows in tables
  }
  found["embeddings.word_embeddings.weight"] /= spread
  norms = ["embeddings.LayerNorm"]
  square, hidden = (size, size), 3 * size // 2
  dense = {"pooler.dense": square}
  for i in range(2):
    at = f"encoder.layer.{i}"
    for name in ("self.query", "self.key", "self.value", "output.dense"):
      dense[f"{at}.attention.{name}"] = square
    dense[f"{at}.intermediate.dense"] = (hidden, size)
    dense[f"{at}.output.dense"] = (size, hidden)
    norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
  for name in norms:
    found |= {f"{name}.weight": 1 + draw(size), f"{name}.bias": draw(size)}
  for name, shape in dense.items():
    found |= {f"{name}.weight": draw(*shape), f"{name}.bias": draw(shape[0])}
  return found


def tokenizer(tmp_path: pathlib.Path, *tokens: str) -> pathlib.Path:
  """Write the tokenizer of a few tokens, and return its file."""
  library = pytest.importorskip("tokenizers", reason=INSTALL)
  words = {name: i for i, name in enumerate(tokens)}
  model = library.models.WordPiece(words, unk_token="[UNK]")
  made = library.Tokenizer(model)
  made.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
  if "[CLS]" in words:
    made.post_processor = library.processors.BertProcessing(
      ("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"])
    )
  file = tmp_path / "tokenizer.json"
  made.save(str(file))
  return file
