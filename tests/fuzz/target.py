"""What is tried on one parser, and what it must never do."""

import dataclasses
import random
import re
import resource
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from tests.fuzz.mutate import Change, change_bytes

MAX_SECONDS = 2.0  # Of the processor, for one small input.
MAX_MEMORY = 200 << 20  # Bytes that one input may add to the peak.
_UNIT = 1 if sys.platform == "darwin" else 1024  # Of `ru_maxrss`.
_MAX_ERROR = 1000
_GIVEN = re.compile(r"'.*'|[\d/]\S*")  # What an error quotes.
_WINDOW = 16  # Characters of a secret that no error may repeat.


class Finding(Exception):
  """A parser did what it must not; the message says what."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """A parser of untrusted bytes.

  Attributes:
    name: Name, and the folder of its corpus.
    read: Reads an input and returns what it means, which can be compared.
    seeds: Returns inputs to mutate; not all of them need to be accepted.
    refusals: Errors that the parser documents.
    change: How inputs are mutated.
    authentic: Whether an input that is accepted must mean what a seed means:
      the format has a MAC or a checksum.
    secrets: Returns texts of which no error may repeat a part.
    slow: Whether one input takes long, so that few are tried in the suite.
  """

  name: str
  read: Callable[[bytes], Any]
  seeds: Callable[[], Sequence[bytes]]
  refusals: tuple[type[BaseException], ...]
  change: Change = change_bytes
  authentic: bool = False
  secrets: Callable[[], Sequence[str]] = lambda: ()
  slow: bool = False


class Trial:
  """A target with its seeds read, ready for inputs."""

  def __init__(self, target: Target):
    """Read the seeds."""
    self.target = target
    self.seeds = list(target.seeds())
    self.meanings = [x for x in map(self._accepted, self.seeds) if x]
    if not self.meanings:
      raise Finding(f"{target.name}: no seed is accepted")
    self._hidden = {
      text[i : i + _WINDOW]
      for text in target.secrets()
      for i in range(0, len(text) - _WINDOW + 1, 4)
    }

  def _accepted(self, seed: bytes) -> list[Any]:
    try:
      return [self.target.read(seed)]
    except self.target.refusals:
      return []

  def inputs(self, seed: int) -> Generator[bytes, str, None]:
    """Yield mutated inputs for ever; the same for the same seed.

    An input that is refused for a new reason is mutated further: send the
    reason that `check` returned.
    """
    rng = random.Random(f"{self.target.name}/{seed}")
    pool, reasons = list(self.seeds), {"accepted"}
    while True:
      made = self._changed(rng, rng.choice(pool))
      reason = _GIVEN.sub("", (yield made))
      if reason not in reasons and len(made) < 1 << 16:
        reasons.add(reason)
        pool.append(made)

  def _changed(self, rng: random.Random, data: bytes) -> bytes:
    try:
      return self.target.change(rng, data, self.seeds)
    except Exception:  # It is too damaged to be changed by its structure.
      return change_bytes(rng, data, self.seeds)

  def check(self, data: bytes) -> str:
    """Try an input, and return the reason of its refusal, or "accepted".

    Raises:
      Finding: If the parser did what it must not.
    """
    memory = _peak()
    start = time.process_time()
    reason = self._try(data)
    seconds = time.process_time() - start
    memory = _peak() - memory
    if seconds > MAX_SECONDS:
      raise Finding(f"{seconds:.1f} s of the processor ({reason})")
    if memory > MAX_MEMORY:
      raise Finding(f"{memory >> 20} MiB of memory ({reason})")
    return reason

  def _try(self, data: bytes) -> str:
    try:
      found = self.target.read(data)
    except self.target.refusals as error:
      self._check_text(error)
      return f"{type(error).__name__}: {error}"
    except (Finding, KeyboardInterrupt):
      raise
    except BaseException as error:  # `cryptography` raises its panics so.
      raise Finding(f"{type(error).__name__}: {error!s:.200}") from error
    if self.target.authentic and [found] not in self.meanings:
      raise Finding("other contents without an error")
    return "accepted"

  def _check_text(self, error: BaseException | None) -> None:
    if len(str(error)) > _MAX_ERROR:
      raise Finding(f"an error of {len(str(error))} characters: {error!s:.100}")
    while error is not None:
      # The object of a UnicodeDecodeError, or the document of JSON's errors.
      text = f"{error!r} {error.args!r} {vars(error)!r}"
      text += repr(getattr(error, "object", "")) + repr(
        getattr(error, "doc", "")
      )
      if any(part in text for part in self._hidden):
        raise Finding(f"a {type(error).__name__} repeats a part of a secret")
      error = error.__cause__ or error.__context__


def _peak() -> int:
  """Return the most bytes of memory that this process has had."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
