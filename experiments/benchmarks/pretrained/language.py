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
_COUNT = 1020  # Tokens of a window of the text.
_WINDOWS = 3
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
  apply_fn = jax.jit(
    lambda x: jax.nn.log_softmax(loaded.model.apply(variables, x)[0])
  )
  starts = [i * (len(tokens) // _WINDOWS) for i in range(_WINDOWS)]
  windows = [jnp.array(tokens[i : i + _COUNT]) for i in starts]
  scores = []
  for window in windows:
    log_probs = apply_fn(window[None])
    scores.append(_scores(log_probs, window))
  where = f"SmolLM2, {_COUNT} tokens of Tiny Shakespeare, {_WINDOWS} windows"
  perplexities, shares = map(np.array, zip(*scores, strict=True))
  yield _row(f"{where}: perplexity", perplexities, "")
  yield _row(f"{where}: next token right", 100 * shares, "%")
  ours = np.asarray(apply_fn(windows[0][None]))
  generator = Generator(loaded.model)
  last = np.array(_LENGTHS) - 1
  answers, speeds = [], []
  for prompt in prompts:
    answer, speed = _answer(generator, variables, prompt, tokenizer.end[0])
    answers.append(answer)
    speeds.append(speed)
  for name, exact in (("float32", True), ("as it is", False)):
    theirs = _ask(
      {
        "text": text,
        "prompts": prompts,
        "words": loaded.model.vocabulary,
        "end": tokenizer.end[0],
        "exact": exact,
      }
    )
    what = f"SmolLM2, llama.cpp {name}"
    if exact:
      same = tokens == theirs["tokens"].tolist()
      yield _row(f"{what}: {len(tokens)} tokens of text equal", same, "", "1")
      same = prompts[0] == theirs["chat"].tolist()
      yield _row(f"{what}: tokens of a chat equal", same, "", "1")
    other, mine = theirs["log_probs"], ours[last]
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
    pairs = zip(answers, theirs["answers"].tolist(), strict=True)
    common = [100 * _common(*pair) for pair in pairs]
    yield _row(f"{what}: tokens of answers before they differ", common, "%")
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
  """Return a row of one value, or of the mean, least and greatest of some."""
  found = np.asarray(value, np.float64)
  summary = timing.Summary(
    *map(float, (found.mean(), found.min(), found.max()))
  )
  return timing.row(name, summary, unit, target)


def _scores(log_probs: jax.Array, tokens: jax.Array) -> tuple[float, float]:
  """Return the perplexity, and the share of right guesses, after the first."""
  following = tokens[1:]
  found = jnp.take_along_axis(log_probs[:-1], following[:, None], 1)
  right = log_probs[:-1].argmax(-1) == following
  return float(jnp.exp(-found.mean())), float(right.mean())


def _answer(
  generator: Generator, variables: Any, prompt: list[int], end: int
) -> tuple[list[int], float]:
  """Return the likeliest tokens, filled up with `end`, and tokens a second."""
  found, times = [], []
  for token in generator.stream(variables, prompt, _MOST, end=(end,)):
    found.append(token)
    times.append(time.perf_counter())
  # The first two tokens wait for the compiler.
  speed = (len(times) - 2) / (times[-1] - times[1])
  return found + [end] * (_MOST - len(found)), speed


def _ask(given: dict[str, Any]) -> dict[str, Any]:
  """Return the answer of llama.cpp."""
  python = environment.python("llama_cpp", llama_cpp.PACKAGES)
  request = given | {
    "file": str(packages.resolve(_SOURCE)),
    "chat": (
      f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
      f"{_QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "lengths": _LENGTHS,
    "room": 2048,
    "most": _MOST,
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


def _common(ours: list[int], theirs: list[int]) -> float:
  """Return the share of the tokens before the first difference."""
  equal = [a == b for a, b in zip(ours, theirs, strict=True)]
  return (equal + [False]).index(False) / len(equal)
