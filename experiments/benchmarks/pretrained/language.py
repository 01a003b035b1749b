"""SmolLM2 in JAX against llama.cpp: tokens, logits, answers and speed.

llama.cpp runs the file twice: as it is, when it rounds activations to 8 bits to
multiply them with weights of 4 bits, and with all tensors as `float32`, when it
computes what KeyJAX computes.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data
from experiments.benchmarks import timing
from experiments.benchmarks.peers import environment
from experiments.benchmarks.pretrained import llama_cpp
from experiments.data.tokenizer import SYSTEM
from experiments.models import packages
from experiments.serving import sealed
from experiments.serving.decode import Generator

_SOURCE = "package:smollm2"
_COUNT = 1020  # Tokens of the text whose successors are predicted.
_LENGTHS = tuple(range(31, _COUNT, 31))  # After so many, llama.cpp is asked.
_CHARACTERS = 50_000  # Of the text whose tokens are compared.
_MOST = 48
_QUESTIONS = (
  "What is the capital of France?",
  "Name the planets of the solar system.",
  "Write one sentence about the sea.",
)


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Compare, and yield rows.

  Args:
    rounds: Answers of which each is timed.
  """
  loaded = sealed.load(_SOURCE)
  tokenizer = loaded.tokenizer
  text = _text()[:_CHARACTERS]
  tokens = tokenizer.encode(text)
  prompts = [tokenizer.chat(question) for question in _QUESTIONS]
  variables = jax.device_put(loaded.variables)
  logits = jax.jit(loaded.model.apply)(variables, jnp.array([tokens[:_COUNT]]))
  ours = jax.nn.log_softmax(logits[0])
  generator = Generator(loaded.model)
  last = np.array(_LENGTHS) - 1
  answers, speeds = [], []
  for prompt in prompts:
    answer, speed = _answer(generator, variables, prompt)
    answers.append(answer)
    speeds.append(speed)
  perplexity = _perplexity(ours, tokens)
  yield _row("perplexity", perplexity, "")
  right = np.asarray(ours[:-1]).argmax(-1) == tokens[1:_COUNT]
  yield _row("next token right", 100 * right.mean(), "%")
  for name, exact in (("float32", True), ("as it is", False)):
    theirs = _ask(text, prompts, loaded.model.vocabulary, exact)
    what = f"SmolLM2, llama.cpp {name}"
    if exact:
      same = tokens == theirs["tokens"].tolist()
      yield _row(f"{what}: {len(tokens)} tokens of text equal", same, "", "1")
      same = prompts[0] == theirs["chat"].tolist()
      yield _row(f"{what}: tokens of a chat equal", same, "", "1")
    other, mine = theirs["log_probs"], np.asarray(ours)[last]
    apart = np.abs(mine - other)
    yield _row(
      f"{what}: largest difference of a log probability",
      apart.max(),
      "",
      "<= 0.01" if exact else "",
    )
    yield _row(f"{what}: mean difference", apart.mean(), "")
    true = np.array(tokens)[last + 1]
    surprise = np.arange(len(last)), true
    ratio = np.exp(mine[surprise].mean() - other[surprise].mean())
    yield _row(f"{what}: perplexity, llama.cpp / KeyJAX", ratio, "x")
    same = mine.argmax(-1) == other.argmax(-1)
    yield _row(f"{what}: likeliest token equal", 100 * same.mean(), "%")
    both = [
      _common(a, b) for a, b in zip(answers, theirs["answers"], strict=True)
    ]
    yield _row(
      f"{what}: tokens until greedy answers differ, of {_MOST}, fewest of "
      f"{len(both)}",
      min(both),
      "",
    )
    ratios = np.array(speeds) / theirs["speeds"]
    yield timing.row(
      f"{what}: tokens a second, KeyJAX / llama.cpp",
      timing.summary(ratios),
      "x",
      "",
    ) | {"keyjax": speeds, "reference": theirs["speeds"].tolist()}


def _text() -> str:
  file = data.find_data_dir(None).parent / "tinyshakespeare.txt"
  if not file.is_file():
    raise data.MissingDataError(f"no text at {file}: see KEYJAX_DATA_DIR")
  return file.read_text()


def _row(name: str, value: Any, unit: str, target: str = "") -> dict[str, Any]:
  return timing.row(name, timing.exact(float(value)), unit, target)


def _perplexity(log_probs: Any, tokens: list[int]) -> float:
  """Return the perplexity of the tokens after the first."""
  following = jnp.array(tokens[1:_COUNT])
  found = jnp.take_along_axis(log_probs[:-1], following[:, None], 1)
  return float(jnp.exp(-found.mean()))


def _answer(
  generator: Generator, variables: Any, prompt: list[int]
) -> tuple[list[int], float]:
  """Return the likeliest tokens after a prompt, and tokens a second."""
  found, times = [], []
  for token in generator.stream(variables, prompt, _MOST):
    found.append(token)
    times.append(time.perf_counter())
  # The first two tokens wait for the compiler.
  return found, (len(times) - 2) / (times[-1] - times[1])


def _ask(
  text: str, prompts: list[list[int]], words: int, exact: bool
) -> dict[str, Any]:
  """Return the answer of llama.cpp."""
  python = environment.python("llama_cpp", llama_cpp.PACKAGES)
  request = {
    "file": str(packages.resolve(_SOURCE)),
    "text": text,
    "chat": (
      f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
      f"{_QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "prompts": prompts,
    "lengths": _LENGTHS,
    "words": words,
    "room": 2048,
    "most": _MOST,
    "exact": exact,
  }
  with tempfile.TemporaryDirectory() as folder:
    asked = pathlib.Path(folder) / "request.json"
    answer = pathlib.Path(folder) / "answer.npz"
    asked.write_text(json.dumps(request))
    command = [python, "-m", llama_cpp.__name__, str(asked), str(answer)]
    done = subprocess.run(
      command,
      env=os.environ | {"PYTHONPATH": str(environment.ROOT)},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    if done.returncode:
      raise RuntimeError(f"llama.cpp failed: {done.stderr.strip()[-500:]}")
    with np.load(answer) as found:
      return dict(found)


def _common(ours: list[int], theirs: Any) -> int:
  """Return the number of tokens before the first difference."""
  differ = [
    i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b
  ]
  return differ[0] if differ else len(ours)
