"""Speed of the schemes: ciphers, compilation, many keys."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.benchmarks import overhead
from experiments.benchmarks.timing import (
  Summary,
  exact,
  interleaved,
  rate,
  ratio,
  row,
  summary,
)
from experiments.protection import evaluate, lock
from keyjax import tasks

Row = dict[str, Any]
Rows = list[Row]
# A public PyTorch implementation (Madhav-Malhotra/ML-parameter-encryption)
# on a 2-core Xeon, 65,792 parameters; measured elsewhere and not repeated here.
_THIRD_PARTY_MB_S = 0.0756


def deep_lock_rows(rounds: int) -> Rows:
  """Time Deep-Lock over a ResNet-18's float32 parameters."""
  model = overhead.resnet18()
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
  )["params"]
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape).astype(np.float32)), shapes
  )
  megabytes = sum(x.nbytes for x in jax.tree.leaves(params)) / 1e6
  rows = []
  functions = {}
  for schedule in ("chain", "counter"):
    scheme = keyjax.deep_lock(schedule)
    key = scheme.keygen(keyjax.Secret.generate(), params, None)
    encrypt, seconds = _compiled(scheme.encrypt, key, params)
    name = f"Deep-Lock {schedule}, ResNet-18"
    leaves = len(jax.tree.leaves(params))
    target = "<= 3" if schedule == "chain" else ""
    rows.append(row(f"{name}: compile {leaves} leaves", seconds, "s", target))
    locked = encrypt(key, params)
    decrypt, _ = _compiled(scheme.decrypt, key, locked)
    functions[f"{name}: encrypt"] = _call(encrypt, key, params)
    functions[f"{name}: decrypt"] = _call(decrypt, key, locked)
  times = interleaved(functions, rounds)
  for name, timing in times.items():
    target = "<= 0.3" if " chain" in name else ""
    rows.append(row(name, summary(timing.wall), "s", target))
    if name.endswith("chain, ResNet-18: encrypt"):
      speed = rate(megabytes / _THIRD_PARTY_MB_S, timing.wall)
      note = f"that code: {_THIRD_PARTY_MB_S} MB/s, measured elsewhere"
      rows.append(
        row(f"{name} / third-party PyTorch", speed, "x", ">= 2000", note)
      )
  return rows


def _call(function: Callable, *args: Any) -> Callable[[], Any]:
  return lambda: function(*args)


def _compiled(function: Callable, *args: Any) -> tuple[Callable, Summary]:
  """Compile a function, and return how long that took."""
  start = time.perf_counter()
  compiled = jax.jit(function).lower(*args).compile()
  return compiled, exact(time.perf_counter() - start)


def compile_rows() -> Rows:
  """Time Deep-Lock's compilation, and calls outside `jit`, by leaves."""
  rows = []
  rng = np.random.default_rng(0)
  for leaves, target in ((62, "<= 0.1"), (200, ""), (1000, "<= 1.5")):
    shapes: list[tuple[int, ...]] = [
      (3, 3, 16, 8 * (i % 7 + 1)) for i in range(leaves // 2)
    ]
    shapes += [(8 * (i % 7 + 1),) for i in range(leaves - leaves // 2)]
    params = [
      jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in shapes
    ]
    for schedule in ("chain", "counter"):
      scheme = keyjax.deep_lock(schedule)
      key = scheme.keygen(keyjax.Secret.generate(), params, None)
      _, seconds = _compiled(scheme.encrypt, key, params)
      name = f"Deep-Lock {schedule}: compile {leaves} leaves"
      rows.append(row(name, seconds, "s", target))
      scheme.encrypt(key, params)
      start = time.perf_counter()
      jax.block_until_ready(scheme.encrypt(key, params))
      again = exact(time.perf_counter() - start)
      name = f"Deep-Lock {schedule}: encrypt {leaves} leaves outside jit, again"
      rows.append(row(name, again, "s", "<= 0.1"))
  return rows


def many_keys_rows(rounds: int) -> Iterator[Row]:
  """Time 64 wrong keys in one call against one key, by number of images."""
  model = overhead.mnist_cnn()
  shape = overhead.MNIST[0]
  rng = np.random.default_rng(0)
  variables = jax.jit(model.init)(
    jax.random.key(0), jnp.zeros((1, *shape), jnp.float32)
  )
  for label, (name, args) in {
    "Deep-Lock int8": ("deep_lock", {"int8": True}),
    "HPNN": ("hpnn", {}),
    "SHF": ("shf", {}),
  }.items():
    built = lock.build(name, args, model)
    prepared = built.prepare(variables)
    view = {"image": jnp.zeros((1, *shape), jnp.float32)}
    keys = [
      built.scheme.keygen(keyjax.Secret.generate(), prepared, view)
      for _ in range(64)
    ]
    locked = built.scheme.encrypt(keys[0], prepared)
    task = tasks.CLASSES
    for count in (1, 16, 1000):
      images = rng.integers(0, 256, (count, *shape), np.uint8)
      packed = evaluate.pack(images, np.zeros(count, np.int32), 500)
      times = interleaved(
        {
          "one": _call(evaluate.judge, task, built, locked, keys[:1], packed),
          "many": _call(evaluate.judge, task, built, locked, keys, packed),
        },
        rounds,
      )
      text = f"{label}, {count} images: 64 keys in one call / one key"
      yield row(text, ratio(times["one"], times["many"]), "x", "<= 16")


PARTS: dict[str, Callable[[int], Iterable[Row]]] = {
  "deep_lock": deep_lock_rows,
  "compile": lambda rounds: compile_rows(),
  "many_keys": many_keys_rows,
}


def rows(rounds: int = 9) -> Iterator[Row]:
  """Yield all rows of the schemes."""
  return (row for part in PARTS.values() for row in part(rounds))
