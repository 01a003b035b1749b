"""A tiny GGUF file of a Llama with a tokenizer, as llama.cpp writes them."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

CONTROL, NORMAL = 3, 1
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SIZES = {
  "context": 64,
  "features": 32,
  "depth": 2,
  "heads": 4,
  "kv_heads": 2,
  "hidden": 64,
}
METADATA = {
  "llama.context_length": SIZES["context"],
  "llama.embedding_length": SIZES["features"],
  "llama.block_count": SIZES["depth"],
  "llama.attention.head_count": SIZES["heads"],
  "llama.attention.head_count_kv": SIZES["kv_heads"],
  "llama.feed_forward_length": SIZES["hidden"],
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 10_000.0,
}


def byte_symbols() -> list[str]:
  """Return GPT-2's symbol of each byte: printable ones are themselves."""
  shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
  found, spare = [], 256
  for byte in range(256):
    found.append(chr(byte if byte in shown else spare))
    spare += byte not in shown
  return found


def tokenizer() -> dict[str, Any]:
  """Return metadata of a tokenizer: three marks, bytes, and four merges."""
  blank = byte_symbols()[32]
  merges = ["t h", "th e", f"{blank} the", "1 2"]
  tokens = [*SPECIAL, *byte_symbols()]
  tokens += [merge.replace(" ", "") for merge in merges]
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.token_type": [
      CONTROL if token in SPECIAL else NORMAL for token in tokens
    ],
    "tokenizer.ggml.merges": merges,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.add_bos_token": False,
  }


def arrays(words: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Return the tensors, by llama.cpp's names."""
  rng = np.random.default_rng(seed)

  def draw(*shape: int) -> np.ndarray:
    return rng.normal(0, 0.3, shape).astype(np.float32)

  d, hidden = SIZES["features"], SIZES["hidden"]
  shared = d * SIZES["kv_heads"] // SIZES["heads"]
  found = {"token_embd.weight": draw(words, d), "output_norm.weight": draw(d)}
  for i in range(SIZES["depth"]):
    shapes = {
      "attn_norm": (d,),
      "attn_q": (d, d),
      "attn_k": (shared, d),
      "attn_v": (shared, d),
      "attn_output": (d, d),
      "ffn_norm": (d,),
      "ffn_gate": (hidden, d),
      "ffn_up": (hidden, d),
      "ffn_down": (d, hidden),
    }
    for name, shape in shapes.items():
      found[f"blk.{i}.{name}.weight"] = draw(*shape)
  return found


def write(
  path: pathlib.Path,
  tensors: Mapping[str, np.ndarray],
  metadata: Mapping[str, Any],
  kinds: Mapping[str, str] = {},
  architecture: str = "llama",
) -> pathlib.Path:
  """Write a file; the kinds are of those tensors that are bytes already."""
  import gguf

  writer = gguf.GGUFWriter(path, architecture)
  for key, value in metadata.items():
    if isinstance(value, bool):
      writer.add_bool(key, value)
    elif isinstance(value, int):
      writer.add_uint32(key, value)
    elif isinstance(value, float):
      writer.add_float32(key, value)
    elif isinstance(value, str):
      writer.add_string(key, value)
    else:
      writer.add_array(key, value)
  for name, x in tensors.items():
    kind = kinds.get(name)
    raw = None if kind is None else gguf.GGMLQuantizationType[kind]
    writer.add_tensor(name, x, raw_dtype=raw)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def write_model(path: pathlib.Path, **change: Any) -> pathlib.Path:
  """Write a whole model, with some metadata changed."""
  metadata = METADATA | tokenizer() | change
  return write(
    path, arrays(len(tokenizer()["tokenizer.ggml.tokens"])), metadata
  )
