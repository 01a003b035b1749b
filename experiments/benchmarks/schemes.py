"""Speed of the schemes: what a lock costs beside the model that it locks."""

import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments import config, data, evaluate, lock, models, train
from experiments.benchmarks.timing import (
  Summary,
  interleaved,
  rate,
  ratio,
  row,
  summary,
)
from keyjax import parallel
from keyjax.schemes import pixel_shuffle

Rows = list[dict[str, Any]]
# A public PyTorch implementation (Madhav-Malhotra/ML-parameter-encryption)
# on a 2-core Xeon, 65,792 parameters; measured elsewhere and not repeated.
_THIRD_PARTY_MB_S = 0.0756
_MNIST = ((28, 28, 1), (0.1307,), (0.3081,))


def deep_lock_rows(rounds: int) -> Rows:
  """Times Deep-Lock over a ResNet-18's float32 parameters."""
  model = models.create("resnet18", 10, (0.5,) * 3, (0.25,) * 3)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
  )["params"]
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape).astype(np.float32)), shapes
  )
  megabytes = sum(x.nbytes for x in jax.tree.leaves(params)) / 1e6
  rows, functions = [], {}
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
  """Compiles a function, and returns how long that took."""
  start = time.perf_counter()
  made = jax.jit(function).lower(*args).compile()
  seconds = time.perf_counter() - start
  return made, Summary(seconds, seconds, seconds)


def compile_rows() -> Rows:
  """Times the compilation of Deep-Lock as a tree gets more leaves."""
  rows, rng = [], np.random.default_rng(0)
  for leaves in (50, 100, 200):
    shapes: list[tuple[int, ...]] = [
      (3, 3, 16, 8 * (i % 7 + 1)) for i in range(leaves // 2)
    ]
    shapes += [(8 * (i % 7 + 1),) for i in range(leaves - leaves // 2)]
    params = [
      jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in shapes
    ]
    scheme = keyjax.deep_lock()
    key = scheme.keygen(keyjax.Secret.generate(), params, None)
    _, seconds = _compiled(scheme.encrypt, key, params)
    name = f"Deep-Lock chain: compile {leaves} leaves"
    rows.append(row(name, seconds, "s", "<= 3"))
  return rows


def _training_step(
  model: nn.Module, scheme: keyjax.Scheme, key: Any, batch: Any
) -> Callable[[], Any]:
  """Returns one more training step of the trainer, on one device."""
  settings = config.base().train
  optimizer = train.make_optimizer(settings, 1000)
  step = train.make_step(settings, model, scheme, optimizer)
  run = parallel.data_parallel(step)
  images = jnp.asarray(batch["image"][:1])
  variables = jax.jit(model.init)(jax.random.key(0), data.to_float(images))
  opt_state = optimizer.init(variables["params"])
  state = parallel.replicate(train.State(jnp.int32(0), variables, opt_state))
  box = [state]  # The step donates its state, so each call goes on from it.

  def call() -> Any:
    box[0], metrics = run(box[0], key, batch)
    return metrics

  return call


def training_rows(rounds: int) -> Rows:
  """Times a training step under HPNN and under input transformations."""
  rows: Rows = []
  rng = np.random.default_rng(0)
  shape, mean, std = _MNIST
  cnn = models.create("cnn", 10, mean, std)
  wide = models.create("resnet18", 10, (0.5,) * 3, (0.25,) * 3, width=16)
  for name, model, size, count in (
    ("MNIST CNN", cnn, shape, 512),
    ("ResNet-18 width 16", wide, (32, 32, 3), 32),
  ):
    batch = {
      "image": rng.integers(0, 256, (count, *size), np.uint8),
      "label": rng.integers(0, 10, count, np.int32),
    }
    rows += _training(name, model, batch, rounds)
  return rows


def _training(name: str, model: nn.Module, batch: Any, rounds: int) -> Rows:
  images = data.to_float(jnp.asarray(batch["image"]))
  variables = jax.eval_shape(model.init, jax.random.key(0), images[:1])
  hpnn = keyjax.hpnn(model.apply)
  secret, view = keyjax.Secret.generate(), {"image": images[:1]}
  functions = {
    "plain": _training_step(model, keyjax.identity(), (), batch),
    "hpnn": _training_step(
      model, hpnn, hpnn.keygen(secret, variables, view), batch
    ),
  }
  for kind in ("shf", "np", "ffx"):
    scheme = keyjax.pixel_shuffle(kind)
    key = scheme.keygen(secret, None, view)
    functions[kind] = _call(jax.jit(pixel_shuffle.transform), key, images)
  times = interleaved(functions, rounds)
  step = f"{name}, batch {len(images)}"
  rows = [
    row(f"{step}: plain training step", summary(times["plain"].wall), "s"),
    row(
      f"{step}: HPNN step / plain step",
      ratio(times["plain"], times["hpnn"]),
      "x",
      "<= 1.05",
    ),
  ]
  for kind in ("shf", "np", "ffx"):
    share = ratio(times["plain"], times[kind])
    name = f"{step}: {kind.upper()} of the batch / plain step"
    rows.append(row(name, share, "x", "<= 0.05"))
  return rows


def inference_rows(rounds: int) -> Rows:
  """Times a forward pass of ResNet-18 that decrypts its weights inside."""
  model = models.create("resnet18", 10, (0.5,) * 3, (0.25,) * 3)
  images = jnp.zeros((128, 32, 32, 3))
  variables = jax.jit(model.init)(jax.random.key(0), images[:1])
  plain = jax.jit(model.apply)
  calls = {"plain": _call(plain, variables, images)}
  for schedule in ("chain", "counter"):
    scheme = keyjax.deep_lock(schedule)
    key = scheme.keygen(keyjax.Secret.generate(), variables, None)
    run = jax.jit(
      lambda key, params, x, scheme=scheme: keyjax.authorize(
        scheme, key, model.apply
      )(params, x)
    )
    calls[schedule] = _call(run, key, scheme.encrypt(key, variables), images)
  times = interleaved(calls, rounds)
  text = "ResNet-18, batch 128: forward pass that decrypts / plain, Deep-Lock"
  return [
    row(f"{text} {x}", ratio(times["plain"], times[x]), "x", "<= 1.10")
    for x in ("chain", "counter")
  ]


def many_keys_rows(rounds: int) -> Rows:
  """Times 64 wrong keys in one call against one key, by how many images."""
  rows: Rows = []
  shape, mean, std = _MNIST
  model = models.create("cnn", 10, mean, std)
  rng = np.random.default_rng(0)
  variables = jax.jit(model.init)(
    jax.random.key(0), jnp.zeros((1, *shape), jnp.float32)
  )
  for label, (name, args) in {
    "Deep-Lock int8": ("deep_lock", {"int8": True}),
    "HPNN": ("hpnn", {}),
    "SHF": ("shf", {}),
  }.items():
    this = lock.build(name, args, model)
    prepared = this.prepare(variables)
    view = {"image": jnp.zeros((1, *shape), jnp.float32)}
    keys = [
      this.scheme.keygen(keyjax.Secret.generate(), prepared, view)
      for _ in range(64)
    ]
    locked = this.scheme.encrypt(keys[0], prepared)
    for count in (1, 16, 1000):
      images = rng.integers(0, 256, (count, *shape), np.uint8)
      packed = evaluate.pack(images, np.zeros(count, np.int32), 500)
      times = interleaved(
        {
          "one": _call(evaluate.count, this, locked, keys[:1], packed),
          "many": _call(evaluate.count, this, locked, keys, packed),
        },
        rounds,
      )
      text = f"{label}, {count} images: 64 keys in one call / one key"
      rows.append(row(text, ratio(times["one"], times["many"]), "x", "<= 16"))
  return rows


def rows(rounds: int = 9) -> Rows:
  """Returns all rows of the schemes."""
  return [
    *deep_lock_rows(rounds),
    *compile_rows(),
    *training_rows(rounds),
    *inference_rows(rounds),
    *many_keys_rows(rounds),
  ]
