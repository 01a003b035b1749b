"""A sentence encoder that reads two texts at once, and returns both vectors."""

import jax

from experiments.models.bert import SentenceEncoder
from experiments.models.layout import LAYOUTS, register_layout
from experiments.models.registry import register


class PairEncoder(SentenceEncoder):
  """`SentenceEncoder`, with its parameters, for pairs of texts."""

  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Return both embeddings, `float32[b, 2, features]`, of `int[b, 2 t]`.

    Args:
      tokens: A row is one text, padded to t tokens, then the other.
      train: Unused: training is no different here.

    Raises:
      ValueError: If the tokens are no integers, too many, or an odd number.
    """
    rows, length = tokens.shape
    if length % 2:
      raise ValueError(f"{length} tokens are no two texts of one length")
    # int[b, 2 t] -> int[2 b, t] -> [2 b, features]
    vectors = super().__call__(tokens.reshape(2 * rows, length // 2), train)
    return vectors.reshape(rows, 2, self.features)


register_layout(PairEncoder, LAYOUTS[SentenceEncoder])
register("minilm_pairs", PairEncoder, task="pairs")
