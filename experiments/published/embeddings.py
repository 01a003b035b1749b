"""all-MiniLM-L6-v2: which texts titles find, and how near to the original."""

import functools
import json
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.models import packages, pretrained
from experiments.models.wordpiece import WordPiece
from experiments.published import retrieval
from experiments.published.subject import (
  Figure,
  Forward,
  Judged,
  Subject,
  register,
)
from keyjax import tasks
from keyjax.tasks import pairs


def make(config: ConfigDict) -> Subject:
  """Return the subject.

  Args:
    config: `source`, `package:minilm` or a folder of Hugging Face; `texts`,
      how many; `query_tokens` and `text_tokens`, their lengths.

  Raises:
    ValueError: If the package is missing, or does not fit.
  """
  found = packages.resolve(config.source)
  folder = found if found.is_dir() else found.parent
  model, variables = load(folder)
  texts = retrieval.python_help()
  count = min(config.texts, len(texts.queries))
  tokens = [
    WordPiece(folder / "tokenizer.json", model.vocabulary, length)(rows[:count])
    for rows, length in (
      (texts.queries, config.query_tokens),
      (texts.texts, config.text_tokens),
    )
  ]
  plain = jax.jit(functools.partial(model.apply, variables))
  original = [np.asarray(plain(x)) for x in tokens]
  return Subject(
    model=model,
    variables=variables,
    # A title is to be like its text; a search for weights raises that loss.
    batch={"image": jnp.asarray(tokens[0]), "label": jnp.asarray(original[1])},
    # The feed-forward layers: docs of `keyjax.hpnn` say why.
    layers=r"block_\d+/mlp_(in|out)",
    judge=functools.partial(_judge, tokens, original),
    about={
      "dataset": "titles and texts of Python's help",
      "examples": count,
      "source": config.source,
    },
    task=tasks.get("embeddings"),
  )


def load(folder: pathlib.Path) -> tuple[Any, Any]:
  """Return the model and the variables of a folder of Hugging Face.

  Raises:
    ValueError: As `pretrained.from_folder`, or if the folder asks for another
      way to make one vector of a text than the mean.
  """
  pooling = folder / "1_Pooling" / "config.json"
  if pooling.is_file():
    asked = json.loads(pooling.read_text())
    ways = [k for k, v in asked.items() if k.startswith("pooling_mode") and v]
    if ways != ["pooling_mode_mean_tokens"]:
      raise ValueError(
        f"{pooling} asks for {ways}; the mean of tokens is built"
      )
  model: nn.Module
  model, variables = pretrained.from_folder(
    folder, jnp.zeros((1, 2), jnp.int32)
  )
  return model, jax.tree.map(jnp.asarray, variables)


def _judge(
  tokens: list[np.ndarray], original: list[np.ndarray], forward: Forward
) -> Judged:
  outputs = [np.asarray(forward(x)) for x in tokens]
  finite = [np.isfinite(x).all(-1) for x in outputs]
  # What is not finite is no vector: it is like nothing, and finds nothing.
  vectors = [
    np.where(good[:, None], x, 0)
    for good, x in zip(finite, outputs, strict=True)
  ]
  embeddings = tasks.get("embeddings")
  cosine = embeddings.statistics(
    np.concatenate(vectors), np.concatenate(original)
  )
  hits = {"hits": pairs.hits(*vectors)}
  return Judged(
    {
      "cosine": Figure(embeddings, cosine),
      "retrieval": Figure(tasks.CLASSES, hits),
    },
    1 - float(np.concatenate(finite).mean()),
  )


register("embeddings", make)
