r"""Seal a language model for recipients, and let one of them generate with it.

    keyjax keygen x25519 alice.key --pub --plain
    python -m experiments.generate --seal=package:smollm2 --checkpoint=smollm2 \
        --to=@alice.key.pub
    python -m experiments.generate --checkpoint=smollm2 -i file:alice.key \
        --prompt="What is the capital of France?"

The checkpoint holds weights, architecture and tokenizer, all of it sealed. The
answer is printed as it is made, with a cache of keys and values; its speed goes
to standard error.

What to type next:
    --compare=package:smollm2    tokens a second against the model unlocked
    --temperature=0.8 --top_p=0.9 --seed=1    draw tokens
    --raw             continue the prompt, without the template of a chat
    --seal=FILE.gguf  another model of the Llama family
    --lock=deep_lock --lock_key=lock.key      with --seal: the opened weights
        are locked as well, so that the recipient needs --lock_key too; or hpnn
    --each_pass       decrypt in each pass: plaintext is in no array
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from absl import app, flags, logging

from experiments.run import errors
from experiments.serving import sealed
from experiments.serving.decode import Generator, Sampling
from keyjax.cli.exit_codes import Failure
from keyjax.cli.key_reader import KeyReader

_CHECKPOINT = flags.DEFINE_string("checkpoint", "", "Folder of the model.")
_IDENTITY = flags.DEFINE_multi_string(
  "identity",
  [],
  "Key that opens it: file:PATH, env:NAME and others, as `keyjax -i`.",
  short_name="i",
)
_PASSPHRASE = flags.DEFINE_string(
  "passphrase", None, "Source of the passphrase of the key."
)
_PROMPT = flags.DEFINE_string("prompt", "", "Question, or text to continue.")
_RAW = flags.DEFINE_bool("raw", False, "Whether the prompt is a text.")
_MOST = flags.DEFINE_integer("most", 128, "Most tokens of an answer.")
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "0: the likeliest token.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "Share of the likeliest tokens.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the tokens that are drawn.")
_COMPARE = flags.DEFINE_string(
  "compare", "", "The same model unlocked: FILE.gguf or package:NAME."
)
_SEAL = flags.DEFINE_string(
  "seal", "", "Weights to seal: FILE.gguf or package:NAME."
)
_TO = flags.DEFINE_multi_string(
  "to", [], "Recipient to seal for: @FILE and others, as `keyjax --to`."
)
_LOCK = flags.DEFINE_string("lock", "", "Lock of the weights to seal.")
_LOCK_KEY = flags.DEFINE_string("lock_key", "", "File of the lock's key.")
_EACH_PASS = flags.DEFINE_bool("each_pass", False, "Decrypt in each pass.")
_ROUNDS = 3  # Of a comparison.
_WARM_UP = 2  # Tokens of which each compiles a pass.


class Answer(NamedTuple):
  """Tokens, and how fast they came.

  Attributes:
    tokens: The tokens.
    times: When each was there, in seconds from the start.
  """

  tokens: list[int]
  times: list[float]

  @property
  def speed(self) -> float:
    """Tokens a second, after the passes were compiled; NaN of too few."""
    if len(self.times) <= _WARM_UP:
      return float("nan")
    first, last = self.times[_WARM_UP - 1], self.times[-1]
    return (len(self.times) - _WARM_UP) / (last - first)


class Run(NamedTuple):
  """A model with its compiled passes, and what it is asked."""

  loaded: sealed.Loaded
  generator: Generator
  variables: Any
  prompt: list[int]

  def timed(self, answer: Answer) -> Iterator[int]:
    """Yield the tokens of an answer, and add them to it."""
    start = time.perf_counter()
    for token in self.generator.stream(
      self.variables,
      self.prompt,
      _MOST.value,
      key=self.loaded.key,
      end=self.loaded.tokenizer.end,
      sampling=Sampling(_TEMPERATURE.value, _TOP_P.value, _SEED.value),
    ):
      answer.tokens.append(token)
      answer.times.append(time.perf_counter() - start)
      yield token

  def answer(self) -> Answer:
    """Return a whole answer."""
    made = Answer([], [])
    for _ in self.timed(made):
      pass
    return made


def prepare(loaded: sealed.Loaded, each_pass: bool = False) -> Run:
  """Return a model that can answer the prompt of the command line."""
  tokenizer = loaded.tokenizer
  ask = tokenizer.plain if _RAW.value else tokenizer.chat
  return Run(
    loaded,
    Generator(loaded.model, loaded.scheme, each_pass),
    loaded.variables if each_pass else loaded.unlocked(),
    ask(_PROMPT.value),
  )


def generate(reader: KeyReader) -> None:
  """Open the checkpoint, and print the answer as it comes."""
  start = time.perf_counter()
  loaded = sealed.open_sealed(
    _CHECKPOINT.value, reader.identities(_IDENTITY.value), _LOCK_KEY.value
  )
  opened = time.perf_counter() - start
  run = prepare(loaded, _EACH_PASS.value)
  answer = Answer([], [])
  for text in loaded.tokenizer.stream(run.timed(answer)):
    print(text, end="", flush=True)
  print()
  print(
    f"opened in {opened:.1f} s; {len(run.prompt)} tokens asked, "
    f"{len(answer.tokens)} answered, {answer.speed:.1f} a second",
    file=sys.stderr,
  )
  if _COMPARE.value:
    compare(run, answer)


def compare(run: Run, answer: Answer) -> None:
  """Print how fast the model is, and the same model unlocked, in turns.

  Raises:
    ValueError: If the answer is too short to time.
  """
  plain = prepare(sealed.load(_COMPARE.value))
  same = plain.answer().tokens == answer.tokens
  if len(answer.tokens) <= _WARM_UP:
    raise ValueError(f"an answer of {len(answer.tokens)} tokens has no speed")
  rounds = [(run.answer().speed, plain.answer().speed) for _ in range(_ROUNDS)]
  ours, theirs = map(statistics.median, zip(*rounds, strict=True))
  ratios = [ours / theirs for ours, theirs in rounds]
  print(
    f"tokens a second: {ours:.2f}, unlocked {theirs:.2f}; ratio "
    f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}] "
    f"of {_ROUNDS} rounds; {'the same' if same else 'another'} answer",
    file=sys.stderr,
  )


def seal(reader: KeyReader) -> None:
  """Seal weights for recipients."""
  if not _TO.value:
    raise ValueError("who can open it? give --to=@FILE of a public key")
  start = time.perf_counter()
  sealed.seal(
    _CHECKPOINT.value,
    _SEAL.value,
    reader.recipients(_TO.value),
    _LOCK.value,
    _LOCK_KEY.value,
  )
  print(
    f"sealed {_SEAL.value} in {_CHECKPOINT.value}, "
    f"{time.perf_counter() - start:.1f} s"
  )


def main(argv: list[str]) -> None:
  """Seal a model, or generate with a sealed one."""
  logging.set_verbosity(logging.ERROR)  # Hides the notes of JAX and Orbax.
  with errors.reported():
    if len(argv) > 1:
      raise ValueError(f"unknown argument {argv[1]}: see --help")
    if not _CHECKPOINT.value or not (_SEAL.value or _PROMPT.value):
      raise ValueError("give --checkpoint, and --prompt or --seal; see --help")
    reader = KeyReader(argparse.Namespace(passphrase=_PASSPHRASE.value))
    try:
      seal(reader) if _SEAL.value else generate(reader)
    except Failure as failure:  # Of keys that the command line names.
      raise ValueError(str(failure)) from None


if __name__ == "__main__":
  app.run(main)
