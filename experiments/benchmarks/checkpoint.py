"""Sealed checkpoints against plain Orbax: time, memory, bytes read.

Each measurement has a process of its own, so that its peak of memory is its
own; plain and sealed take turns, and what the one before it wrote is on disk
before the next one starts. The tree has 200 leaves, half float32 and half
bfloat16, 1 GiB in all, of random values that no compressor makes smaller.
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
  """Measures, and returns the rows of the table.

  Args:
    rounds: how often everything runs; at most 5 are run.
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
  found: dict[str, list[dict[str, float]]], what: str
) -> list[dict[str, Any]]:
  """Returns rows of plain and sealed, and their ratios."""
  plain, sealed = found[f"plain {what}"], found[f"sealed {what}"]
  out = []
  for name, unit, target in (("seconds", "s", 1.5), ("gib", "GiB", 1.3)):
    a, b = (np.array([x[name] for x in y]) for y in (plain, sealed))
    kind = "time" if name == "seconds" else "peak memory"
    for how, values in (("plain", a), ("sealed", b)):
      row = timing.row(
        f"{what} 1 GiB, {how}: {kind}", timing.summary(values), unit
      )
      out.append(row)
    title, limit = f"{what} 1 GiB, sealed / plain: {kind}", f"<= {target}"
    out.append(timing.row(title, timing.summary(b / a), "x", limit))
  return out


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


def specs() -> dict[str, jax.ShapeDtypeStruct]:
  """Returns 200 leaves of 1 GiB in all, like the layers of a network."""
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  out = {}
  for i in range(_LEAVES):
    dtype = (jnp.float32, jnp.bfloat16)[i % 2]
    shape = (_BYTES // _LEAVES // jnp.dtype(dtype).itemsize // 256, 256)
    out[f"layer_{i:03d}"] = jax.ShapeDtypeStruct(shape, dtype, sharding=device)
  return out


def make_tree() -> dict[str, jax.Array]:
  """Returns arrays of random values."""
  rng = np.random.default_rng(0)
  return {
    name: jnp.asarray(rng.standard_normal(x.shape, np.float32), x.dtype)
    for name, x in specs().items()
  }


def _run(role: str, folder: pathlib.Path) -> dict[str, float]:
  """Does one thing in this process, and returns what it took."""
  owner = SymmetricKey(Secret.load(folder / "key"))
  plain, sealed = folder / "plain", folder / "sealed"
  tree, like = make_tree() if role.endswith("save") else {}, specs()
  one = f"layer_{_LEAVES // 2:03d}"
  calls: dict[str, Callable[[], Any]] = {
    "plain save": lambda: checkpoint.save_plain(plain, tree),
    "sealed save": lambda: checkpoint.save(sealed, tree, owner),
    "plain restore": lambda: checkpoint.restore_plain(plain, like),
    "sealed restore": lambda: checkpoint.restore(sealed, owner, like),
    "rewrap": lambda: checkpoint.rewrap(sealed, owner, owner),
    "one leaf": lambda: checkpoint.restore(sealed, owner, leaves=[one]),
  }
  before, start = _bytes_read(), time.perf_counter()
  kept = jax.block_until_ready(calls[role]())
  seconds, after = time.perf_counter() - start, _bytes_read()
  del kept
  status = pathlib.Path("/proc/self/status").read_text()
  peak = int(status.split("VmHWM:")[1].split()[0])
  return {
    "seconds": seconds,
    "gib": peak / 2**20,
    "read": after - before,
    "size": _BYTES,
  }


def _bytes_read() -> int:
  """Returns how many bytes this process asked of files so far."""
  text = pathlib.Path("/proc/self/io").read_text()
  return int(text.split("rchar:")[1].split()[0])


if __name__ == "__main__":
  print(json.dumps(_run(sys.argv[1], pathlib.Path(sys.argv[2]))))
