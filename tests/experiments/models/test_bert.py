"""The sentence encoder, against a forward pass in Hugging Face's layout."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from experiments.models import bert, packages, pretrained, wordpiece
from tests.experiments.models.bert_files import (
  INSTALL,
  SPECIAL,
  arrays,
  tokenizer,
)

CONFIG = {
  "model_type": "bert",
  "vocab_size": 13,
  "max_position_embeddings": 9,
  "hidden_size": 8,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "intermediate_size": 12,
  "type_vocab_size": 2,
  "layer_norm_eps": 1e-12,
}
TOKENS = np.array([[3, 5, 7, 0, 0], [2, 4, 6, 8, 9]], np.int32)


def embedding(p: Any, tokens: np.ndarray) -> np.ndarray:
  """Return the embedding of the tokens of one text, without padding."""

  def norm(name: str, x: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]

  def dense(name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

  x = p["embeddings.word_embeddings.weight"][tokens]
  x = x + p["embeddings.position_embeddings.weight"][: len(tokens)]
  x = x + p["embeddings.token_type_embeddings.weight"][0]
  x = norm("embeddings.LayerNorm", x)
  for i in range(2):
    at = f"encoder.layer.{i}"
    q, k, v = (
      dense(f"{at}.attention.self.{name}", x).reshape(-1, 2, 4)
      for name in ("query", "key", "value")
    )
    scores = np.exp(np.einsum("qhd,khd->hqk", q, k) / 2)
    weights = scores / scores.sum(-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", weights, v).reshape(-1, 8)
    x = x + dense(f"{at}.attention.output.dense", mixed)
    x = norm(f"{at}.attention.output.LayerNorm", x)
    y = dense(f"{at}.intermediate.dense", x)
    y = np.asarray(jax.nn.gelu(y, approximate=False))
    x = norm(f"{at}.output.LayerNorm", x + dense(f"{at}.output.dense", y))
  mean = x.mean(0)
  return mean / np.linalg.norm(mean)


def folder(tmp_path: pathlib.Path, **changes: Any) -> pathlib.Path:
  config = {k: v for k, v in (CONFIG | changes).items() if v is not None}
  (tmp_path / "config.json").write_text(json.dumps(config))
  return tmp_path


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_folder_becomes_the_model_it_describes(prefix, tmp_path) -> None:
  public = arrays()
  named = {prefix + name: x for name, x in public.items()}
  named[f"{prefix}embeddings.position_ids"] = np.arange(9)
  safetensors.numpy.save_file(named, folder(tmp_path) / "model.safetensors")
  model, variables = pretrained.from_folder(tmp_path, TOKENS)
  assert variables["params"]["block_1"]["mlp_in"]["kernel"].shape == (8, 12)
  if prefix:
    return
  found = jax.jit(model.apply)(variables, TOKENS)
  # The first text has three tokens: padding changes nothing.
  for i, count in enumerate((3, 5)):
    wanted = embedding(public, TOKENS[i, :count])
    np.testing.assert_allclose(found[i], wanted, atol=2e-6)


def test_an_unknown_architecture_is_named(tmp_path) -> None:
  with pytest.raises(ValueError, match="Unknown architecture 'mamba': .* bert"):
    pretrained.from_folder(folder(tmp_path, model_type="mamba"), TOKENS)
  for change, message in (
    ({"model_type": None}, "config.json names no model_type"),
    ({"hidden_act": "relu"}, "hidden_act='relu' of a BERT is not built"),
    ({"hidden_size": None}, "the config of a BERT lacks hidden_size"),
  ):
    with pytest.raises(ValueError, match=message):
      pretrained.from_folder(folder(tmp_path, **change), TOKENS)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match="names no model_type"):
    pretrained.from_folder(tmp_path, TOKENS)


def test_inputs_are_checked() -> None:
  model = bert.SentenceEncoder(vocabulary=13, context=4)
  for shape, dtype, message in (
    ((1, 5), jnp.int32, "5 tokens are more than context=4"),
    ((1, 4), jnp.float32, "Expected integer tokens"),
    ((4,), jnp.int32, "Expected integer tokens"),
  ):
    with pytest.raises(ValueError, match=message):
      jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape, dtype))


# ------------------------------------------------------------------ tokenizers


def test_texts_become_rows_of_one_length(tmp_path) -> None:
  file = tokenizer(tmp_path, *SPECIAL, "lock", "##ed", "key")
  encode = wordpiece.WordPiece(file, vocabulary=7, length=5)
  found = encode(["locked key", "key", "lock key key key", ""])
  assert found.dtype == np.int32
  assert found.tolist() == [
    [2, 4, 5, 6, 3],
    [2, 6, 3, 0, 0],
    [2, 4, 6, 6, 3],
    [2, 3, 0, 0, 0],
  ]
  assert encode([]).shape == (0, 5)


def test_a_tokenizer_that_does_not_fit(tmp_path) -> None:
  file = tokenizer(tmp_path, *SPECIAL, "lock")
  with pytest.raises(ValueError, match="fit the model: it has 5 tokens and"):
    wordpiece.WordPiece(file, vocabulary=6, length=4)
  file = tokenizer(tmp_path, "[UNK]", "[PAD]", "[CLS]", "[SEP]")
  with pytest.raises(ValueError, match="and pads with 1, the model 4 and 0"):
    wordpiece.WordPiece(file, vocabulary=4, length=4)
  file = tokenizer(tmp_path, "[PAD]", "[UNK]")
  with pytest.raises(ValueError, match=r"it lacks \[CLS\], \[SEP\]"):
    wordpiece.WordPiece(file, vocabulary=2, length=4)
  file.write_text("{}")
  with pytest.raises(ValueError, match="tokenizer.json is no tokenizer: "):
    wordpiece.WordPiece(file, vocabulary=2, length=4)


@pytest.mark.slow
def test_minilm_finds_what_is_meant() -> None:
  pytest.importorskip("tokenizers", reason=INSTALL)
  try:
    file = packages.find("minilm")
  except ValueError as error:
    pytest.skip(str(error))
  model, variables = pretrained.from_folder(file.parent, TOKENS)
  encode = wordpiece.WordPiece(file.parent / "tokenizer.json", 30522, 16)
  texts = ["A man plays the guitar.", "He makes music.", "Rain falls on Rome."]
  found = np.asarray(jax.jit(model.apply)(variables, encode(texts)))
  close = found @ found.T
  assert close[0, 1] > 0.4 and close[0, 2] < 0.2
