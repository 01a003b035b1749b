"""Public layouts of the Llama family: Hugging Face's, and llama.cpp's (GGUF).

    ours                       Hugging Face (model.layers.N.)  GGUF (blk.N.)
    token_embedding            model.embed_tokens              token_embd
    block_N/norm_attention     input_layernorm                 attn_norm
    block_N/attention/query    self_attn.q_proj                attn_q
    block_N/attention/key      self_attn.k_proj                attn_k
    block_N/attention/value    self_attn.v_proj                attn_v
    block_N/attention/out      self_attn.o_proj                attn_output
    block_N/norm_mlp           post_attention_layernorm        ffn_norm
    block_N/mlp_gate           mlp.gate_proj                   ffn_gate
    block_N/mlp_up             mlp.up_proj                     ffn_up
    block_N/mlp_down           mlp.down_proj                   ffn_down
    norm                       model.norm                      output_norm
    head (untied)              lm_head                         output

llama.cpp rotates pairs of features that are side by side, Hugging Face those
that are half a head apart. A GGUF file has the rows of queries and keys in the
order of the former, and they are put back.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.models.layout import Arrays, Layout, register_layout
from experiments.models.llama import Llama

# Ours -> Hugging Face's and llama.cpp's.
_NAMES = {
  "token_embedding": ("model.embed_tokens", "token_embd"),
  "norm": ("model.norm", "output_norm"),
  "head": ("lm_head", "output"),
}
_BLOCK_NAMES = {
  "norm_attention": ("input_layernorm", "attn_norm"),
  "attention/query": ("self_attn.q_proj", "attn_q"),
  "attention/key": ("self_attn.k_proj", "attn_k"),
  "attention/value": ("self_attn.v_proj", "attn_v"),
  "attention/out": ("self_attn.o_proj", "attn_output"),
  "norm_mlp": ("post_attention_layernorm", "ffn_norm"),
  "mlp_gate": ("mlp.gate_proj", "ffn_gate"),
  "mlp_up": ("mlp.up_proj", "ffn_up"),
  "mlp_down": ("mlp.down_proj", "ffn_down"),
}
# Key of a GGUF file -> attribute of `Llama`.
_ATTRIBUTES = {
  "context_length": "context",
  "embedding_length": "features",
  "block_count": "depth",
  "attention.head_count": "heads",
  "attention.head_count_kv": "kv_heads",
  "feed_forward_length": "hidden",
  "rope.freq_base": "base",
  "attention.layer_norm_rms_epsilon": "epsilon",
}
# Where a file leaves them out; the others it must have.
_DEFAULTS = {"base": 10_000.0}
_FRACTIONS = ("base", "epsilon")  # The others are whole numbers.
_SIZES = ("rope.dimension_count", "attention.key_length")
_HEAD_SIZES = (*_SIZES, "attention.value_length")


def options_of(metadata: Mapping[str, Any], names: Any) -> dict[str, Any]:
  """Return the attributes of the `Llama` that a GGUF file describes.

  Args:
    metadata: Metadata of the file.
    names: Names of its tensors.

  Returns:
    All attributes of the architecture, and `vocabulary`.

  Raises:
    ValueError: If the file is of another architecture, or of one with a part
      that `Llama` does not have; the message names it.
  """
  family = metadata.get("general.architecture", "none")
  if family != "llama":
    raise ValueError(
      f"architecture {family} is unknown: GGUF files are read of llama"
    )
  given = {
    key.removeprefix("llama."): value
    for key, value in metadata.items()
    if key.startswith("llama.")
  }
  tokens = metadata.get("tokenizer.ggml.tokens", ())
  vocabulary = given.pop("vocab_size", len(tokens))
  sizes = {key: given.pop(key) for key in _HEAD_SIZES if key in given}
  unknown = sorted(set(given) - set(_ATTRIBUTES))
  if unknown:
    raise ValueError(
      f"llama.{unknown[0]}={given[unknown[0]]} of the GGUF file is of a part "
      "that this Llama does not have"
    )
  # A file has float32: 1e-5 would read as 9.99999975e-06.
  found = _DEFAULTS | {
    _ATTRIBUTES[key]: float(str(np.float32(x))) if isinstance(x, float) else x
    for key, x in given.items()
  }
  found.setdefault("kv_heads", found.get("heads"))
  missing = [key for key, name in _ATTRIBUTES.items() if not found.get(name)]
  if missing:
    raise ValueError(f"the GGUF file has no llama.{missing[0]}")
  for key, name in _ATTRIBUTES.items():
    _require_number(f"llama.{key}", found[name], name in _FRACTIONS)
  for key, size in sizes.items():
    if size * found["heads"] != found["features"]:
      raise ValueError(
        f"llama.{key}={size} of the GGUF file is not the size of its heads"
      )
  tied = "output.weight" not in names
  return found | {"vocabulary": vocabulary, "tied": tied}


def _require_number(key: str, value: Any, fraction: bool) -> None:
  """Raise a ValueError unless a value is a number above 0."""
  kinds = (int, float) if fraction else (int,)
  # A bool is an int, and NaN is not above 0.
  if type(value) not in kinds or not 0 < value < float("inf"):
    raise ValueError(
      f"{key}={value!r} of the GGUF file is no {'' if fraction else 'whole '}"
      "number above 0"
    )


def as_hugging_face(model: Any, arrays: Arrays) -> Arrays:
  """Return the tensors of either layout in that of Hugging Face.

  Raises:
    ValueError: If the model has a tied embedding, and the file an output layer
      of its own.
  """
  if "token_embd.weight" in arrays:
    arrays = _from_llama_cpp(model, arrays)
  names = [f"{_NAMES[name][0]}.weight" for name in ("head", "token_embedding")]
  both = [arrays[name] for name in names if name in arrays]
  if model.tied and len(both) == 2 and not np.array_equal(both[0], both[1]):
    raise ValueError("the file has an output layer of its own: tied=False")
  return arrays


def _from_llama_cpp(model: Any, arrays: Arrays) -> Arrays:
  heads = {"attn_q": model.heads, "attn_k": model.kv_heads}
  public = {theirs: name for name, theirs in _NAMES.values()}
  in_block = {theirs: name for name, theirs in _BLOCK_NAMES.values()}
  found = {}
  for name, x in arrays.items():
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if block and block[2] in in_block:
      if block[2] in heads:
        x = _half_apart(x, heads[block[2]])
      name = f"model.layers.{block[1]}.{in_block[block[2]]}.weight"
    elif name.removesuffix(".weight") in public:
      name = f"{public[name.removesuffix('.weight')]}.weight"
    found[name] = x  # One without a place is reported by its own name.
  return found


def _half_apart(x: np.ndarray, heads: int) -> np.ndarray:
  """Put the rows of pairs that are side by side half a head apart."""
  if x.ndim != 2 or len(x) % (2 * heads):
    return x  # Of another model: its shape is reported.
  # [heads * pairs * 2, in] -> [heads * 2 * pairs, in]
  return x.reshape(heads, -1, 2, x.shape[1]).swapaxes(1, 2).reshape(x.shape)


register_layout(
  Llama,
  Layout(
    modules={ours: public for ours, (public, _) in _NAMES.items()}
    | {
      rf"block_(\d+)/{ours}": f"model.layers.{{1}}.{public}"
      for ours, (public, _) in _BLOCK_NAMES.items()
    },
    # A table that is computed; and the output layer of a tied model.
    ignored=r".*\.rotary_emb\.inv_freq|lm_head\.weight",
    adapt=as_hugging_face,
  ),
)
