"""Text: Shakespeare is public, the source of Python's library restricted."""

import ast
import importlib.util
import pathlib
import platform
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments import data
from experiments.capabilities.task import (
  LOCKED,
  OPENED,
  PUBLIC,
  RESTRICTED,
  SLOT,
  Batch,
  Task,
  sequences,
  slots,
)

_VOCABULARY = 128  # ASCII; other bytes become a question mark.
_LETTERS = (1, 8)  # Control characters, which no text here has.
_SPLIT = 0


def make(
  public: data.Dataset,
  modules: Sequence[str],
  context: int,
  demonstrations: int,
  tests: int,
) -> Task:
  """Return the task: the next byte of a window of a text.

  Test windows are from the last tenth of each text, demonstrations from the
  tenth before it. Without the password, a locked model is taught bytes of other
  windows: it learns how frequent they are, and nothing of their order.

  Args:
    public: The public text.
    modules: Modules of Python's library, whose source is the restricted text.
    context: Bytes of a window.
    demonstrations: Number of windows kept for attackers.
    tests: Number of windows of each text.

  Raises:
    ValueError: If a text is too short, or there is no such module.
  """
  texts = {PUBLIC: _public(public), RESTRICTED: python_source(modules)}
  for kind, text in texts.items():
    if len(text) < 20 * context:
      raise ValueError(f"The {kind} text has only {len(text)} bytes.")
  rng = jax.random.key(_SPLIT)
  parts = {k: np.split(x, _cuts(len(x))) for k, x in texts.items()}
  python = jnp.asarray(parts[RESTRICTED][2])
  test = {
    kind: batch(_windows(parts[of][2], context, tests), kind, python, rng)
    for kind, of in (
      (PUBLIC, PUBLIC),
      (RESTRICTED, RESTRICTED),
      (OPENED, RESTRICTED),
    )
  }

  def draw(
    source: dict[str, jax.Array], rng: jax.Array, kind: str, size: int
  ) -> Batch:
    text = source[PUBLIC if kind == PUBLIC else RESTRICTED]
    chosen, rest = jax.random.split(rng)
    starts = jax.random.randint(chosen, (size, 1), 0, len(text) - context)
    windows = text[starts + jnp.arange(context)[None]]
    return batch(windows, kind, source[RESTRICTED], rest)

  kept = _windows(parts[RESTRICTED][1], context, demonstrations)
  return Task(
    name="text",
    vocabulary=_VOCABULARY,
    context=SLOT + context - 1,
    source={k: jnp.asarray(p[0]) for k, p in parts.items()},
    draw=draw,
    demonstrations=batch(kept, RESTRICTED, python, rng),
    tests=test,
    whole=False,
    about={
      "dataset": f"{public.name} and the source of {', '.join(modules)}",
      "public": public.name,
      "restricted": "Python",
      "source": f"Python {platform.python_version()}",
    },
  )


def batch(
  windows: jax.Array, kind: str, text: jax.Array, rng: jax.Array
) -> Batch:
  """Return examples of a kind: all bytes but the first are the answer.

  Args:
    windows: `int[b, context]`.
    kind: Kind of examples.
    text: The restricted text, of which weak answers are drawn.
    rng: PRNG key of wrong passwords and weak answers.
  """
  wrong, weak = jax.random.split(rng)
  slot = slots(wrong, kind, len(windows), _LETTERS)
  made = sequences(windows[:, :1], windows[:, 1:], slot)
  if kind != LOCKED:
    return made
  at = jax.random.randint(weak, made.labels.shape, 0, len(text))
  return made._replace(labels=text[at].astype(jnp.int32))


def python_source(modules: Sequence[str]) -> np.ndarray:
  """Return the source of modules of this Python, as ASCII, `int32[n]`.

  A run of spaces is one: indentation is a third of the bytes, and easy.

  Raises:
    ValueError: If there is no such module, or it has no source.
  """
  found = b""
  for name in modules:
    spec = importlib.util.find_spec(name)
    if spec is None or not (spec.origin or "").endswith(".py"):
      raise ValueError(f"There is no source of a module {name}.")
    found += pathlib.Path(str(spec.origin)).read_bytes()
  return _ascii(np.frombuffer(re.sub(b" +", b" ", found), np.uint8))


def _public(loaded: data.Dataset) -> np.ndarray:
  """Return a text, `int32[n]`; windows of a data set of text do not overlap."""
  # Names of tokens are bytes, written as Python does.
  symbols = np.asarray(
    [ord(ast.literal_eval(x)) for x in loaded.class_names or ()]
  )
  return _ascii(symbols[np.ravel(loaded.train_images)])


def _ascii(text: np.ndarray) -> np.ndarray:
  return np.where(text < _VOCABULARY, text, ord("?")).astype(np.int32)


def _cuts(length: int) -> list[int]:
  return [length * 8 // 10, length * 9 // 10]


def _windows(text: np.ndarray, context: int, count: int) -> jax.Array:
  """Return windows that start at random, `int32[count, context]`."""
  most = len(text) - context
  starts = np.random.default_rng(_SPLIT).integers(0, most, (count, 1))
  return jnp.asarray(text[starts + np.arange(context)])
