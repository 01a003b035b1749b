"""A file of public weights, encrypted and decrypted: KeyJAX against age.

Both encrypt the same safetensors file (float32) for one X25519 recipient, and
write the same bytes again. KeyJAX is its command, `keyjax encrypt` and
`decrypt`; age is pyrage, Rust's age as a library. Every call is a process of
its own, timed from its start until its files are on the disk (`fsync`), and the
two take turns: a ratio is the median of the rounds' ratios. A file of one
number shows what it costs to start. Memory is the peak of the process, with the
interpreter and all it imports; pages of mapped files count.
"""

import filecmp
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from experiments.benchmarks import timing
from experiments.benchmarks.peers import environment
from experiments.benchmarks.pretrained import age
from experiments.models import packages, readers

SOURCE = "package:smollm2"
_ROUNDS = 5  # Each takes some ten seconds.
_ACTIONS = ("encrypt", "decrypt")
_PYRAGE = "pyrage==1.4.0"
_OURS, _AGE = "KeyJAX", "age"
_TARGET_MEMORY = 1.3
_MIB = 1 << 20
# A process begins with the peak of the one that started it: a small one does.
_SMALL = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
taken = [used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss]
open(sys.argv[1], "w").write(json.dumps(taken))
sys.exit(done.returncode)
"""


class Tool(NamedTuple):
  """The commands of one tool.

  Attributes:
    keygen: Function of a folder to the command that makes a key in it.
    encrypt: Function of that folder, a file and a new path to a command.
    decrypt: Likewise.
  """

  keygen: Callable[[pathlib.Path], list[str]]
  encrypt: Callable[[pathlib.Path, pathlib.Path, pathlib.Path], list[str]]
  decrypt: Callable[[pathlib.Path, pathlib.Path, pathlib.Path], list[str]]


class Taken(NamedTuple):
  """What one process took: seconds, processor seconds, bytes of memory."""

  wall: float
  cpu: float
  memory: float


def keyjax_tool() -> Tool:
  """Return the commands of KeyJAX."""
  program = [sys.executable, "-m", "keyjax.cli"]
  return Tool(
    lambda keys: (
      [*program, "keygen", "x25519", f"{keys}/a.key", "--pub"] + ["--plain"]
    ),
    lambda keys, source, target: (
      [*program, "encrypt", str(source)]
      + [str(target), "--to", f"@{keys}/a.key.pub"]
    ),
    lambda keys, source, target: (
      [*program, "decrypt", str(source)]
      + [str(target), "-i", f"file:{keys}/a.key"]
    ),
  )


def age_tool() -> Tool:
  """Return the commands of age, whose package is installed if needed."""
  python = environment.python("age", (_PYRAGE,))
  program = [python, "-m", age.__name__]
  return Tool(
    lambda keys: [*program, "keygen", f"{keys}/age", "", ""],
    lambda keys, *files: [*program, "encrypt", f"{keys}/age", *map(str, files)],
    lambda keys, *files: [*program, "decrypt", f"{keys}/age", *map(str, files)],
  )


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Measure the weights of SmolLM2, and yield the rows of the table.

  Args:
    rounds: Number of times that everything runs; at most 5.

  Raises:
    ValueError: If the package of weights is not installed.
  """
  tools = {_OURS: keyjax_tool(), _AGE: age_tool()}
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    for name, arrays in (
      ("SmolLM2", readers.read(packages.resolve(SOURCE))),
      ("one number", {"a": np.ones(1)}),
    ):
      file = folder / name / "model.safetensors"
      file.parent.mkdir()
      write(file, arrays)
      found = measure(file, tools, min(rounds, _ROUNDS))
      size = file.stat().st_size
      yield from compare(f"{name}, {size / 1e6:,.1f} MB", size, found)


def write(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Write weights as float32, as the model holds them."""
  safetensors.numpy.save_file(
    {name: np.ascontiguousarray(x, np.float32) for name, x in arrays.items()},
    file,
  )


def measure(
  file: pathlib.Path, tools: Mapping[str, Tool], rounds: int
) -> dict[tuple[str, str], list[Taken]]:
  """Encrypt and decrypt a file with each tool in turn.

  Args:
    file: A `.safetensors` file in a folder for temporary files.
    tools: Tools by name.
    rounds: Number of times.

  Returns:
    What each process took, by tool and action.

  Raises:
    RuntimeError: If a tool fails, or does not return the same bytes.
  """
  found: dict[tuple[str, str], list[Taken]] = {}
  for name, tool in tools.items():
    keys = file.parent / name
    keys.mkdir()
    _run(tool.keygen(keys), name)
  for _ in range(rounds):
    for name, tool in tools.items():
      keys = file.parent / name
      locked = keys / "locked"
      opened = keys / "opened.safetensors"
      for action, command, out in (
        ("encrypt", tool.encrypt(keys, file, locked), locked),
        ("decrypt", tool.decrypt(keys, locked, opened), opened),
      ):
        os.sync()  # What others left to write is not this tool's.
        taken = _run(command, f"{name} {action}", out)
        found.setdefault((name, action), []).append(taken)
      if not filecmp.cmp(file, opened, shallow=False):
        raise RuntimeError(f"{name}: the file was not restored as it was")
      opened.unlink()
      shutil.rmtree(locked) if locked.is_dir() else locked.unlink()
  return found


def _run(
  command: list[str], what: str, out: pathlib.Path | None = None
) -> Taken:
  """Run a command until what it wrote is on the disk."""
  paths = [str(environment.ROOT), os.environ.get("PYTHONPATH", "")]
  with tempfile.NamedTemporaryFile() as taken:
    start = time.perf_counter()
    done = subprocess.run(
      [sys.executable, "-c", _SMALL, taken.name, *command],
      env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
      capture_output=True,
      text=True,
    )
    if out is not None and not done.returncode:
      _flush(out)
    wall = time.perf_counter() - start
    if done.returncode:
      raise RuntimeError(f"{what}: {done.stderr[-2000:]}")
    cpu, memory = json.loads(taken.read())
  return Taken(wall, cpu, memory)


def _flush(path: pathlib.Path) -> None:
  for each in (path, *path.rglob("*"), path.parent):
    descriptor = os.open(each, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def compare(
  title: str, size: int, found: Mapping[tuple[str, str], list[Taken]]
) -> Iterator[dict[str, Any]]:
  """Yield ratios and seconds, and memory as a share of a large file.

  Args:
    title: What the file is, for the rows.
    size: Its bytes.
    found: Result of `measure`.
  """
  for action in _ACTIONS:
    ours, peer = (_array(found[name, action]) for name in (_OURS, _AGE))
    yield timing.row(
      f"{action} {title}, {_OURS} / {_AGE}: time",
      timing.summary(ours[:, 0] / peer[:, 0]),
      "x",
      note=f"{np.median(ours[:, 0]):.3g} / {np.median(peer[:, 0]):.3g} s",
    )
    for name, values in ((_OURS, ours), (_AGE, peer)):
      yield timing.row(
        f"{action} {title}, {name}: time", timing.summary(values[:, 0]), "s"
      )
      yield timing.row(
        f"{action} {title}, {name}: processor time",
        timing.summary(values[:, 1]),
        "s",
      )
      if size < _MIB:
        continue
      yield timing.row(
        f"{action} {title}, {name}: peak memory / file",
        timing.summary(values[:, 2] / size),
        "x",
        target=f"<= {_TARGET_MEMORY:.2f}" if name == _OURS else "",
        note=f"{np.median(values[:, 2]) / _MIB:,.0f} MiB",
      )


def _array(taken: list[Taken]) -> np.ndarray:
  return np.array(taken)  # [rounds, 3]
