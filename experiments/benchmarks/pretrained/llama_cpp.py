"""The side of llama.cpp, in a process and an environment of its own.

    python -m experiments.benchmarks.pretrained.llama_cpp REQUEST ANSWER

REQUEST is JSON: the file of the model, a text, prompts of tokens, and numbers
of tokens. ANSWER is an npz file: tokens of the text, logits of its first
tokens, and greedy continuations with their times.

The package `llama-cpp-py-sync` brings llama.cpp, compiled for CPUs, and its C
interface, which this calls.
"""

import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

PACKAGES = ("llama-cpp-py-sync==0.11739", "numpy==2.4.6", "gguf==0.19.0")


class Model:
  """A model of llama.cpp, with one context."""

  def __init__(self, file: str, room: int, exact: bool) -> None:
    """Load a model.

    Args:
      file: GGUF file.
      room: Most tokens.
      exact: Whether keys and values are kept in `float32`; otherwise as
        llama.cpp does by default.
    """
    from llama_cpp_py_sync import _cffi_bindings as bindings

    self._lib, self._ffi = bindings.get_lib(), bindings.get_ffi()
    self._lib.llama_backend_init()
    params = self._lib.llama_model_default_params()
    self._model = self._lib.llama_model_load_from_file(file.encode(), params)
    if self._model == self._ffi.NULL:
      raise RuntimeError(f"llama.cpp cannot load {file}")
    options = self._lib.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = room
    if exact:
      options.type_k = options.type_v = 0  # GGML_TYPE_F32.
      options.flash_attn_type = 0
    self._context = self._lib.llama_init_from_model(self._model, options)
    self._vocabulary = self._lib.llama_model_get_vocab(self._model)
    self.words = int(self._lib.llama_vocab_n_tokens(self._vocabulary))

  def tokenize(self, text: str, special: bool = False) -> list[int]:
    """Return the tokens of a text, whose marks are tokens if special."""
    content = text.encode()
    found = self._ffi.new(f"llama_token[{len(content) + 8}]")
    count = self._lib.llama_tokenize(
      self._vocabulary,
      content,
      len(content),
      found,
      len(content) + 8,
      False,
      special,
    )
    return [int(found[i]) for i in range(count)]

  def forget(self) -> None:
    """Empty the context."""
    memory = self._lib.llama_get_memory(self._context)
    self._lib.llama_memory_clear(memory, True)

  def logits(self, tokens: Sequence[int], start: int = 0) -> np.ndarray:
    """Return logits `float32[t, v]` of tokens that follow `start` others."""
    batch = self._lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
      batch.token[i], batch.pos[i] = token, start + i
      batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
      batch.logits[i] = 1
    code = self._lib.llama_decode(self._context, batch)
    self._lib.llama_batch_free(batch)
    if code:
      raise RuntimeError(f"llama_decode: {code}")
    size = len(tokens) * self.words
    pointer = self._lib.llama_get_logits(self._context)
    found = np.frombuffer(self._ffi.buffer(pointer, 4 * size), np.float32)
    return found.reshape(len(tokens), self.words).copy()

  def answer(self, prompt: Sequence[int], most: int) -> tuple[list[int], float]:
    """Return the likeliest tokens after a prompt, and tokens a second."""
    self.forget()
    token, found = int(self.logits(prompt)[-1].argmax()), []
    begin = time.perf_counter()
    for i in range(most):
      found.append(token)
      token = int(self.logits([token], len(prompt) + i)[-1].argmax())
    return found, most / (time.perf_counter() - begin)


def as_float32(source: str, target: str) -> None:
  """Write a GGUF file again with all tensors as `float32`."""
  import gguf

  reader = gguf.GGUFReader(source)
  writer = gguf.GGUFWriter(target, "llama")
  known = ("GGUF.", "general.architecture")
  for name, field in reader.fields.items():
    if not name.startswith(known):
      inner = field.types[-1] if len(field.types) > 1 else None
      writer.add_key_value(name, field.contents(), field.types[0], inner)
  for tensor in reader.tensors:
    full = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    writer.add_tensor(tensor.name, np.asarray(full, np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def run(request: dict[str, Any], answer: pathlib.Path) -> None:
  """Answer a request."""
  file = request["file"]
  if request["exact"]:
    file = str(answer.with_suffix(".gguf"))
    as_float32(request["file"], file)
  model = Model(file, request["room"], request["exact"])
  tokens = model.tokenize(request["text"])
  chat = model.tokenize(request["chat"], special=True)
  logits = model.logits(tokens[: request["count"]])
  made = [model.answer(p, request["most"]) for p in request["prompts"]]
  np.savez(
    answer,
    tokens=tokens,
    chat=chat,
    logits=logits,
    answers=[tokens for tokens, _ in made],
    speeds=[speed for _, speed in made],
  )


if __name__ == "__main__":
  run(
    json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2])
  )
