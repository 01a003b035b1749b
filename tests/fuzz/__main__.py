"""Try mutated inputs for some minutes; see the package's text."""

import argparse
import contextlib
import faulthandler
import hashlib
import logging
import os
import pathlib
import resource
import sys
import time
import traceback

os.environ["JAX_PLATFORMS"] = "cpu"  # Drivers of others reserve memory.

from tests.fuzz.target import Finding, Trial  # noqa: E402
from tests.fuzz.targets import TARGETS  # noqa: E402

_HANG = 60.0  # Seconds until a hanging input ends the program.
_ADDRESS_SPACE = 8 << 30


def main() -> int:
  """Run the command, and return its exit code."""
  parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
  add = parser.add_argument
  add("--minutes", type=float, default=10.0, help="how long; 10 by default")
  add(
    "--target",
    choices=sorted(TARGETS),
    action="append",
    metavar="NAME",
    help=f"only this parser, may be repeated: {', '.join(sorted(TARGETS))}",
  )
  add("--seed", type=int, help="repeat a run; a fresh one by default")
  add("--out", default="runs/fuzz", help="folder for inputs that fail")
  add("--input", type=pathlib.Path, help="a file to try again")
  args = parser.parse_args()
  logging.disable()  # Orbax logs what it reads, and failed coroutines.
  sys.unraisablehook = lambda _: None
  with contextlib.suppress(ValueError, OSError):  # Not on macOS.
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
  if args.input is not None:
    return replay(args.input)
  seed = args.seed
  if seed is None:
    seed = int.from_bytes(os.urandom(4), "big")
  print(f"seed {seed}", flush=True)
  run = Run(pathlib.Path(args.out), seed)
  return run.try_all(args.target or list(TARGETS), 60 * args.minutes)


def replay(path: pathlib.Path) -> int:
  """Try the input of a file, whose folder is named for its target."""
  trial = Trial(TARGETS[path.parent.name])
  print(trial.check(path.read_bytes()))
  return 0


class Run:
  """One run over several targets, each of which gets the same time."""

  def __init__(self, folder: pathlib.Path, seed: int):
    """Prepare a run that writes inputs to a folder."""
    self._folder = folder
    self._seed = seed
    self._found: set[str] = set()
    self._armed = 0.0

  def try_all(self, names: list[str], seconds: float) -> int:
    """Try targets until the time is over, and return the exit code."""
    trials = {name: Trial(TARGETS[name]) for name in names}
    inputs = {name: trials[name].inputs(self._seed) for name in names}
    made = {name: next(inputs[name]) for name in names}
    counts = dict.fromkeys(names, 0)
    accepted = dict.fromkeys(names, 0)
    spent = dict.fromkeys(names, 0.0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      name = min(names, key=lambda n: spent[n])
      start = time.process_time()
      reason = self._try(trials[name], made[name])
      spent[name] += time.process_time() - start + 1e-6
      made[name] = inputs[name].send(reason)
      counts[name] += 1
      accepted[name] += reason == "accepted"
    faulthandler.cancel_dump_traceback_later()
    for name in names:
      print(
        f"{name:24} {counts[name]:9} inputs, {accepted[name]} accepted, "
        f"{spent[name]:.0f} s"
      )
    print(f"{sum(counts.values())} inputs, {len(self._found)} findings")
    return 1 if self._found else 0

  def _try(self, trial: Trial, data: bytes) -> str:
    # Written before it is tried: it may end the process.
    current = self._write(trial.target.name, "current", data)
    if time.monotonic() > self._armed + 1:  # It starts a thread each time.
      self._armed = time.monotonic()
      faulthandler.dump_traceback_later(_HANG, exit=True)
    try:
      return trial.check(data)
    except Finding as finding:
      self._report(trial.target.name, finding, data)
      return f"finding: {finding}"
    finally:
      current.unlink()

  def _report(self, name: str, finding: Finding, data: bytes) -> None:
    cause = finding.__cause__
    frames = traceback.extract_tb(cause.__traceback__) if cause else []
    where = next((f for f in reversed(frames) if "keyjax" in f.filename), None)
    place = f"{where.filename}:{where.lineno}" if where else str(finding)[:40]
    known = f"{name} {place} {type(cause).__name__}"
    if known in self._found:
      return
    self._found.add(known)
    digest = hashlib.sha256(data).hexdigest()[:12]
    path = self._write(name, digest, data)
    print(f"FOUND {name}: {finding} at {place}")
    print(f"  python -m tests.fuzz --input {path}", flush=True)

  def _write(self, target: str, name: str, data: bytes) -> pathlib.Path:
    path = self._folder / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


if __name__ == "__main__":
  sys.exit(main())
