"""Sealed checkpoints against plain Orbax: time, memory, bytes read.

Each measurement runs in a new process, so that peak memory is its own; plain
and sealed take turns, and the files of one are on disk before the next starts.
The tree has 200 leaves, half float32 and half bfloat16, 1 GiB in all, of random
values that cannot be compressed.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import timing
from keyjax import Secret, checkpoint
from keyjax.keyring import SymmetricKey

_LEAVES = 200
_BYTES = 1 << 30
_ROUNDS = 5  # Each takes half a minute.
_ROLES = ("plain save", "sealed save", "plain restore", "sealed restore")


def rows(rounds: int) -> list[dict[str, Any]]:
  """Measure, and return the rows of the table.

  Args:
    rounds: Number of times that everything runs; at most 5.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    Secret.generate().save(folder / "key")
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(min(rounds, _ROUNDS)):
      for role in (*_ROLES, "rewrap", "one leaf"):
        found.setdefault(role, []).append(_child(role, folder))
  return [
    *_comparison(found, "save"),
    *_comparison(found, "restore"),
    *_rest(found),
  ]


def _comparison(
  found: dict[str, list[dict[str, float]]], action: str
) -> list[dict[str, Any]]:
  """Return rows of plain and sealed, and their ratios."""
  made = []
  for name, unit, target in (("seconds", "s", 1.5), ("gib", "GiB", 1.3)):
    kind = "time" if name == "seconds" else "peak memory"
    values = {
      how: np.array([x[name] for x in found[f"{how} {action}"]])
      for how in ("plain", "sealed")
    }
    for how in values:
      summary = timing.summary(values[how])
      title = f"{action} 1 GiB, {how}: {kind}"
      made.append(timing.row(title, summary, unit))
    ratio = timing.summary(values["sealed"] / values["plain"])
    title = f"{action} 1 GiB, sealed / plain: {kind}"
    made.append(timing.row(title, ratio, "x", target=f"<= {target}"))
  return made


def _rest(found: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
  seconds = np.array([x["seconds"] for x in found["rewrap"]])
  share = np.array([x["read"] / x["size"] for x in found["one leaf"]])
  leaf = np.array([x["seconds"] for x in found["one leaf"]])
  return [
    timing.row("rewrap of 1 GiB", timing.summary(seconds), "s", "< 1"),
    timing.row(
      "one leaf of 200: share of the bytes read",
      timing.summary(100 * share),
      "%",
      "< 2",
    ),
    timing.row("one leaf of 200: time", timing.summary(leaf), "s"),
  ]


def _child(role: str, folder: pathlib.Path) -> dict[str, float]:
  if role.endswith("save"):
    shutil.rmtree(folder / role.split()[0], ignore_errors=True)
  os.sync()
  command = [sys.executable, "-m", __name__, role, str(folder)]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{role}: {done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


def specs(
  leaves: int = _LEAVES, size: int = _BYTES
) -> dict[str, jax.ShapeDtypeStruct]:
  """Return leaves like the layers of a network, 1 GiB in all.

  Args:
    leaves: Number of leaves, half float32 and half bfloat16.
    size: Bytes in all; each leaf has a multiple of 1 KiB.
  """
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  made = {}
  for i in range(leaves):
    dtype = (jnp.float32, jnp.bfloat16)[i % 2]
    shape = (size // leaves // jnp.dtype(dtype).itemsize // 256, 256)
    made[f"layer_{i:03d}"] = jax.ShapeDtypeStruct(shape, dtype, sharding=device)
  return made


def make_tree(
  leaves: int = _LEAVES, size: int = _BYTES
) -> dict[str, jax.Array]:
  """Return arrays of random values, with the shapes of `specs`."""
  rng = np.random.default_rng(0)
  return {
    name: jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype)
    for name, x in specs(leaves, size).items()
  }


def _run(role: str, folder: pathlib.Path) -> dict[str, float]:
  """Do one thing in this process, and return what it took."""
  owner = SymmetricKey(Secret.load(folder / "key"))
  plain = folder / "plain"
  sealed = folder / "sealed"
  tree = make_tree() if role.endswith("save") else {}
  like = specs()
  one = f"layer_{_LEAVES // 2:03d}"
  calls: dict[str, Callable[[], Any]] = {
    "plain save": lambda: checkpoint.save_plain(plain, tree),
    "sealed save": lambda: checkpoint.save(sealed, tree, owner),
    "plain restore": lambda: checkpoint.restore_plain(plain, like),
    "sealed restore": lambda: checkpoint.restore(sealed, owner, like),
    "rewrap": lambda: checkpoint.rewrap(sealed, owner, owner),
    "one leaf": lambda: checkpoint.restore(sealed, owner, leaves=[one]),
  }
  before = _bytes_read()
  start = time.perf_counter()
  result = jax.block_until_ready(calls[role]())
  seconds = time.perf_counter() - start
  after = _bytes_read()
  del result  # It had to stay in memory until here.
  status = pathlib.Path("/proc/self/status").read_text()
  peak = int(status.split("VmHWM:")[1].split()[0])
  return {
    "seconds": seconds,
    "gib": peak / 2**20,
    "read": after - before,
    "size": _BYTES,
  }


def _bytes_read() -> int:
  """Return how many bytes this process has read from files."""
  text = pathlib.Path("/proc/self/io").read_text()
  return int(text.split("rchar:")[1].split()[0])


if __name__ == "__main__":
  print(json.dumps(_run(sys.argv[1], pathlib.Path(sys.argv[2]))))
