"""KeyJAX's sealed checkpoints against what else a user would pick.

Every save and restore runs in a process of its own (`tasks.py`), and the tools
take turns, round after round: a ratio is the median of the rounds' ratios.
Peers that KeyJAX's own environment does not have run in another one
(`environment.py`). The values are those of `benchmarks/checkpoint.py`: random,
half float32 and half bfloat16.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks import checkpoint, timing
from experiments.benchmarks.peers import environment, tasks, tools

_ROUNDS = 5  # Each takes three minutes.
_ACTIONS = ("save", "restore")
_OURS = "KeyJAX"
_MIB = 1 << 20


class Workload(NamedTuple):
  """A tree, who saves it, and what is aimed at.

  Attributes:
    title: Size and number of leaves, for the rows.
    leaves: Number of leaves.
    size: Bytes in all.
    peers: Tools to compare with.
    ratios: Targets of KeyJAX / peer, of a save and of a restore.
    memory: Targets of KeyJAX's memory in MiB, of a save and of a restore.
  """

  title: str
  leaves: int
  size: int
  peers: tuple[str, ...]
  ratios: Mapping[str, tuple[float, float]] = {}
  memory: tuple[float, ...] = ()


WORKLOADS = (
  Workload(
    title="1 GiB in 200 leaves",
    leaves=200,
    size=1 << 30,
    peers=("Orbax", "Orbax uncompressed", *tools.PEERS),
    ratios={
      "Orbax": (0.70, 0.85),
      "Orbax uncompressed": (1.25, 1.10),
      "tensorizer": (1.0, 1.2),
      "CryptoTensors": (0.6, 0.9),
      "pyrage": (0.5, 0.35),
      "age": (0.5, 0.35),
    },
    memory=(128, 1029),
  ),
  Workload(
    title="5,000 leaves of 64 KiB",
    leaves=5000,
    size=5000 << 16,
    peers=("Orbax",),
    ratios={"Orbax": (0.21, 0.23)},
  ),
)

# What each process took, by tool and action, round after round.
Found = Mapping[tuple[str, str], list[dict[str, float]]]


def rows(
  rounds: int, workloads: tuple[Workload, ...] = WORKLOADS
) -> Iterator[dict[str, Any]]:
  """Measure, and yield the rows of the table.

  Args:
    rounds: Number of times that everything runs; at most 5.
    workloads: Trees to save.
  """
  for workload in workloads:
    yield from compare(workload, _measure(workload, min(rounds, _ROUNDS)))


def _measure(workload: Workload, rounds: int) -> Found:
  found: dict[tuple[str, str], list[dict[str, float]]] = {}
  names = [_OURS]
  for name in workload.peers:
    if missing := environment.missing(name):
      print(f"peers: {name} is left out: {missing}", file=sys.stderr)
    else:
      names.append(name)
  interpreters = _interpreters(names)
  with tempfile.TemporaryDirectory() as temporary:
    tree = pathlib.Path(temporary)
    tasks.write_arrays(
      tree, checkpoint.make_tree(workload.leaves, workload.size)
    )
    for i in range(rounds):
      print(f"peers: round {i + 1} of {rounds}", file=sys.stderr)
      for name in names:
        folder = tree / name
        folder.mkdir()
        for action in _ACTIONS:
          taken = _child(interpreters[name], name, action, folder)
          found.setdefault((name, action), []).append(taken)
        shutil.rmtree(folder)
  return found


def _interpreters(names: list[str]) -> dict[str, str]:
  own = {name: sys.executable for name in names if name in tools.OURS}
  others = [name for name in names if name in tools.PEERS]
  peers = environment.python() if others else ""
  return own | dict.fromkeys(others, peers)


def _child(
  python: str, name: str, action: str, folder: pathlib.Path
) -> dict[str, float]:
  os.sync()
  module = tasks.__name__
  command = [python, "-m", module, name, action, str(folder.parent)]
  paths = [str(environment.ROOT)]
  if python == sys.executable and "PYTHONPATH" in os.environ:
    paths.append(os.environ["PYTHONPATH"])
  done = subprocess.run(
    [*command, str(folder)],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise RuntimeError(f"{action} by {name}: {done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def compare(workload: Workload, found: Found) -> Iterator[dict[str, Any]]:
  """Yield ratios of time, then memory and bytes on disk.

  Args:
    workload: What was saved.
    found: What each process took; tools without any are left out.
  """
  names = list(dict.fromkeys(name for name, _ in found))
  for i, action in enumerate(_ACTIONS):
    title = f"{action} {workload.title}"
    for name in names:
      if name != _OURS:
        targets = workload.ratios.get(name)
        target = f"<= {targets[i]:.2f}" if targets else ""
        yield from _ratios(f"{title}, {_OURS} / {name}", found, action, target)
  for i, action in enumerate(_ACTIONS):
    for name in names:
      aimed = name == _OURS and workload.memory
      yield timing.row(
        f"{action} {workload.title}, {name}: memory above the start",
        timing.summary(_values(found[name, action], "memory") / _MIB),
        "MiB",
        target=f"<= {workload.memory[i]:,}" if aimed else "",
      )
  for name in names:
    size = timing.summary(_values(found[name, "save"], "disk") / _MIB)
    yield timing.row(f"{workload.title}, {name}: on disk", size, "MiB")


def _ratios(
  title: str, found: Found, action: str, target: str
) -> Iterator[dict[str, Any]]:
  """Yield KeyJAX / peer; the notes are both medians in seconds."""
  name = title.split(" / ")[-1]
  for field, kind in (("wall", "time"), ("cpu", "processor time")):
    ours = _values(found[_OURS, action], field)
    peer = _values(found[name, action], field)
    yield timing.row(
      f"{title}: {kind}",
      timing.summary(ours / peer),
      "x",
      target=target,
      note=f"{np.median(ours):.3g} / {np.median(peer):.3g} s",
    )


def _values(rounds: list[dict[str, float]], field: str) -> np.ndarray:
  return np.array([taken[field] for taken in rounds])
