"""The side of llama.cpp, in a process and an environment of its own.

    python -m experiments.benchmarks.pretrained.llama_cpp REQUEST ANSWER

REQUEST is JSON: the file of the model, a text, prompts of tokens, and numbers
of tokens. ANSWER is an npz file: tokens of the text, the log probabilities of
the tokens that follow some of its beginnings, and the likeliest answers with
their speed.

The package `xllamacpp` brings llama.cpp, compiled for CPUs, with its server,
which answers on this machine alone.
"""

import json
import os
import pathlib
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np

PACKAGES = ("gguf==0.19.0", "numpy==2.4.6", "xllamacpp==2026.10.11549")


class Model:
  """A model of llama.cpp, in its server."""

  def __init__(self, file: str, room: int, exact: bool) -> None:
    """Load a model.

    Args:
      file: GGUF file.
      room: Most tokens.
      exact: Whether keys and values are kept in `float32`; otherwise as
        llama.cpp does by default.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = file, room, 1
    params.verbosity, params.warmup = 0, False
    params.cpuparams.n_threads = os.cpu_count()
    if exact:
      params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
      params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
      kinds = xllamacpp.llama_flash_attn_type
      params.flash_attn_type = kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
    self._server = xllamacpp.Server(params)

  def _ask(self, path: str, **request: Any) -> dict[str, Any]:
    url = f"{self._server.listening_address}/{path}"
    head = {"Content-Type": "application/json"}
    asked = urllib.request.Request(url, json.dumps(request).encode(), head)
    with urllib.request.urlopen(asked) as answer:
      return dict(json.load(answer))

  def tokenize(self, text: str, special: bool = False) -> list[int]:
    """Return the tokens of a text, whose marks are tokens if special."""
    found = self._ask(
      "tokenize", content=text, parse_special=special, add_special=False
    )
    return list(found["tokens"])

  def log_probs(self, tokens: Sequence[int], words: int) -> np.ndarray:
    """Return the log probabilities of the next token, `float32[words]`."""
    found = self._ask(
      "completion",
      prompt=list(tokens),
      n_predict=1,
      n_probs=words,
      temperature=0,
      cache_prompt=True,
    )
    made = np.full(words, np.nan, np.float32)
    for one in found["completion_probabilities"][0]["top_logprobs"]:
      made[one["id"]] = one["logprob"]
    return made

  def answer(
    self, prompt: Sequence[int], most: int, end: int
  ) -> tuple[list[int], float]:
    """Return the likeliest tokens up to the end, and tokens a second."""
    found = self._ask(
      "completion",
      prompt=list(prompt),
      n_predict=most,
      temperature=0,
      return_tokens=True,
    )
    speed = found["timings"]["predicted_per_second"]
    return [x for x in found["tokens"] if x != end], speed


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
  log_probs = [
    model.log_probs(tokens[:length], request["words"])
    for length in request["lengths"]
  ]
  most, end = request["most"], request["end"]
  made = [model.answer(prompt, most, end) for prompt in request["prompts"]]
  np.savez(
    answer,
    tokens=tokens,
    chat=model.tokenize(request["chat"], special=True),
    log_probs=log_probs,
    answers=[tokens + [end] * (most - len(tokens)) for tokens, _ in made],
    speeds=[speed for _, speed in made],
  )


if __name__ == "__main__":
  asked, answer_file = map(pathlib.Path, sys.argv[1:])
  run(json.loads(asked.read_text()), answer_file)
