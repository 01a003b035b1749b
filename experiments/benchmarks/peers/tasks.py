"""One save or one restore by one tool, measured in a process of its own.

KeyJAX's interpreter or that of the peers runs it: it imports only the tool that
it measures, and prints one JSON line.

A save starts from arrays in memory, of the kind that the tool takes (JAX, NumPy
or PyTorch), and ends when its files are complete on the disk. KeyJAX and Orbax
flush their files themselves, the others do not; so every file and folder of
every tool is flushed (`fsync`) within the time measured. A restore starts from
files in the page cache and ends with arrays in memory; after the measurement
its values are compared with those saved, bit for bit.

Memory is the peak of the process above what it held when the call began: a
restore's includes the restored tree. Pages of mapped files count; child
processes (age, openssl: some MB) do not. Processor time includes them.
"""

import json
import math
import os
import pathlib
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes  # noqa: F401  # Makes np.dtype("bfloat16") known.
import numpy as np

from experiments.benchmarks.peers import tools


def write_arrays(folder: pathlib.Path, arrays: Mapping[str, Any]) -> None:
  """Write the tree that every process reads: values, dtypes and shapes."""
  specs = {}
  with open(folder / "values", "wb") as file:
    for name, leaf in arrays.items():
      specs[name] = (leaf.dtype.name, leaf.shape)
      np.asarray(leaf).tofile(file)
  (folder / "specs.json").write_text(json.dumps(specs))


def _specs(folder: pathlib.Path) -> tools.Specs:
  text = (folder / "specs.json").read_text()
  return {name: (d, tuple(s)) for name, (d, s) in json.loads(text).items()}


def read_arrays(folder: pathlib.Path) -> tools.Arrays:
  """Return the tree that `write_arrays` wrote."""
  with open(folder / "values", "rb") as file:
    return {
      name: np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
      for name, (dtype, shape) in _specs(folder).items()
    }


def run(
  name: str, action: str, tree: pathlib.Path, folder: pathlib.Path
) -> dict[str, float]:
  """Save or restore, and return what it took.

  Args:
    name: Name of the tool, in `tools.OURS` or `tools.PEERS`.
    action: "save" or "restore".
    tree: Folder that `write_arrays` wrote.
    folder: Folder of what the tool writes, and of its key.

  Raises:
    ValueError: If restored values differ from those saved.
  """
  tool = (tools.OURS | tools.PEERS)[name](folder / "key")
  path = folder / "saved"
  like = tool.like(_specs(tree))
  # Both stay in memory: memory that is free again would hide what a call takes.
  arrays = read_arrays(tree) if action == "save" else {}
  taken = tool.take(arrays)
  before = _forget_peak()
  cpu = _cpu_seconds()
  wall = time.perf_counter()
  if action == "save":
    tool.save(path, taken)
    _flush(path)
  else:
    taken = tool.restore(path, like)
  found = {
    "wall": time.perf_counter() - wall,
    "cpu": _cpu_seconds() - cpu,
    # Linux counts pages in batches for each thread: some kB either way.
    "memory": max(_memory("VmHWM") - before, 0),
    "disk": sum(x.stat().st_size for x in _files(path) if x.is_file()),
  }
  if action == "restore":
    _check(read_arrays(tree), taken, tool)
  return found


def _check(saved: tools.Arrays, tree: Any, tool: tools.Tool) -> None:
  if set(tree) != set(saved):
    raise ValueError("the restored tree has other leaves than the saved one")
  for name, expected in saved.items():
    leaf = tool.give(tree[name])
    same = leaf.dtype == expected.dtype and leaf.shape == expected.shape
    if not (same and leaf.tobytes() == expected.tobytes()):
      raise ValueError(f"{name} was not restored as it was saved")


def _forget_peak() -> int:
  """Reset the peak memory of this process; return the memory in use."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")
  return _memory("VmRSS")


def _memory(field: str) -> int:
  status = pathlib.Path("/proc/self/status").read_text()
  return 1024 * int(status.split(f"{field}:")[1].split()[0])


def _cpu_seconds() -> float:
  """Return processor seconds of this process and of those that it ran."""
  used = [
    resource.getrusage(who)
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
  ]
  return sum(x.ru_utime + x.ru_stime for x in used)


def _files(path: pathlib.Path) -> Iterator[pathlib.Path]:
  yield path
  yield from path.rglob("*")


def _flush(path: pathlib.Path) -> None:
  """Return when a file or folder is on the disk, with all it contains."""
  for each in (*_files(path), path.parent):
    fd = os.open(each, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


if __name__ == "__main__":
  tree, folder = map(pathlib.Path, sys.argv[3:])
  print(json.dumps(run(sys.argv[1], sys.argv[2], tree, folder)))
