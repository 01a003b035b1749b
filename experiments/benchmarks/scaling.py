"""Scaling of a training step, and of evaluation under wrong keys.

HPNN on the MNIST CNN over 1, 2, 4 and 8 virtual devices of this machine, with a
new process for each count. Two workloads: a fixed global batch, which the
devices share, and a fixed batch per device. Virtual devices share the machine's
cores: the volume of the collectives is real, the speed is not.

What a step must exchange is known on paper: the mean of gradients, batch
statistics and metrics, whatever the batch. The rows compare it to what the
compiled program exchanges, which must be the same; it is less only where the
compiler merges two equal gradients, as for the biases of two norms whose
outputs are added.

Evaluation divides the images of a batch: the rows show what is left for each
device to compute, by XLA's count for the compiled program.
"""

import functools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.benchmarks import overhead, timing, tpu
from experiments.protection import evaluate, lock
from experiments.run import config
from experiments.training import train
from keyjax import parallel, tasks

Rows = list[dict[str, Any]]
COUNTS = (1, 2, 4, 8)
_GLOBAL = 512  # Images a step, of all devices.
_EACH = 64  # Images a step, of one device.
_METRICS = 2  # Loss and accuracy, float32[].


class Volume(NamedTuple):
  """Bytes that the collectives of a step send.

  Attributes:
    compiled: Bytes that the compiled program sends.
    paper: Bytes that a data-parallel step must average.
  """

  compiled: int
  paper: int


def volume(
  model: nn.Module,
  image: tuple[int, ...],
  how: str,
  devices: Sequence[jax.Device],
) -> Volume:
  """Count the bytes that a training step under HPNN sends.

  Args:
    model: Model whose layers are locked.
    image: Shape of an input.
    how: `pmap` or `shard_map`.
    devices: Devices to compile for.
  """
  settings = config.mnist("scaling").train
  optimizer = train.make_optimizer(settings, 1000)
  scheme, key, variables = _keyed(model, image)
  state = jax.eval_shape(
    lambda v: train.State(jnp.int32(0), v, optimizer.init(v["params"])),
    variables,
  )
  step = train.make_step(settings, model, scheme, optimizer)
  batch: Any = {
    "image": np.zeros((2 * len(devices), *image), np.uint8),
    "label": np.zeros(2 * len(devices), np.int32),
  }
  batch = parallel.put(batch, how, devices).batch
  compiled = parallel.compile_step(step, how, devices)
  text = compiled.lower(state, key, batch).compile().as_text()
  if len(devices) == 1:  # A collective of one device sends nothing.
    return Volume(0, 0)
  sent = sum(size for _, size in tpu.collectives(text))
  return Volume(sent, _on_paper(variables))


def _keyed(
  model: nn.Module, image: tuple[int, ...]
) -> tuple[keyjax.Scheme, Any, Any]:
  """Return HPNN for a model, a key, and the shapes of the variables."""
  scheme = lock.build("hpnn", {}, model).scheme
  view = jnp.zeros((1, *image))
  variables = jax.eval_shape(model.init, jax.random.key(0), view)
  key = scheme.keygen(keyjax.Secret.generate(), variables, {"image": view})
  return scheme, key, variables


def _on_paper(variables: Any) -> int:
  """Return the bytes of gradients, which are as large as params."""
  leaves = jax.tree.leaves(variables)
  sizes = (math.prod(x.shape) * x.dtype.itemsize for x in leaves)
  return sum(sizes) + 4 * _METRICS


def evaluation(
  model: nn.Module, image: tuple[int, ...], devices: Sequence[jax.Device]
) -> float:
  """Return the operations of one device for a batch under a wrong key of HPNN.

  Args:
    model: Model whose layers are locked.
    image: Shape of an input.
    devices: Devices that share the batch.
  """
  protection = lock.build("hpnn", {}, model)
  variables = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype), _keyed(model, image)[2]
  )
  key = protection.scheme.keygen(
    keyjax.Secret.generate(), variables, {"image": jnp.zeros((1, *image))}
  )
  images = np.zeros((_GLOBAL, *image), np.uint8)
  labels = np.zeros(_GLOBAL, np.int32)
  packed = evaluate.pack(images, labels, _GLOBAL, devices)
  return evaluate.operations(tasks.CLASSES, protection, variables, key, packed)


def _measure(rounds: int) -> dict[str, Any]:
  """Time both workloads on all devices of this process."""
  model = overhead.mnist_cnn()
  image = overhead.MNIST[0]
  rng = np.random.default_rng(0)
  scheme, key, _ = _keyed(model, image)

  def step(images: int) -> Any:
    batch = {
      "image": rng.integers(0, 256, (images, *image), np.uint8),
      "label": rng.integers(0, 10, images, np.int32),
    }
    return overhead.training_step(model, scheme, key, batch)

  sizes = {"global": _GLOBAL, "each": _EACH * jax.device_count()}
  calls = {name: step(size) for name, size in sizes.items()}
  times = timing.interleaved(calls, rounds)
  return {
    "seconds": {name: t.wall.tolist() for name, t in times.items()},
    "volume": volume(model, image, "pmap", jax.devices()),
    "evaluation": evaluation(model, image, jax.devices()),
  }


def rows(rounds: int = 9) -> Iterator[dict[str, Any]]:
  """Yield step time, images a second and bytes, by number of devices."""
  return (row for n in COUNTS for row in _rows(n, _child(n, rounds)))


def _rows(count: int, found: dict[str, Any]) -> Rows:
  row = functools.partial(
    timing.row,
    note="virtual devices that share this machine's cores: the volume is "
    "real, the speed is not",
  )
  made = []
  for name, images in (("global", _GLOBAL), ("each", _EACH * count)):
    seconds = np.asarray(found["seconds"][name])
    load = f"global batch {_GLOBAL}" if name == "global" else f"{_EACH} each"
    title = f"HPNN, MNIST CNN, {count} devices, {load}"
    made.append(row(f"{title}: step", timing.summary(seconds), "s"))
    rate = timing.rate(images, seconds)
    made.append(row(f"{title}: speed", rate, "images/s"))
  sent = Volume(*found["volume"])
  exact = timing.exact(sent.compiled)
  title = f"HPNN, MNIST CNN, {count} devices: collectives of a step"
  made.append(row(title, exact, "B", f"{sent.paper} on paper"))
  title = (
    f"HPNN, MNIST CNN, {count} devices: {_GLOBAL} images under a wrong key"
  )
  each = timing.exact(found["evaluation"])
  return [*made, row(title, each, "operations a device")]


def _child(count: int, rounds: int) -> dict[str, Any]:
  command = [sys.executable, "-m", __name__, str(count), str(rounds)]
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    raise RuntimeError(f"{count} devices: {done.stderr[-2000:]}")
  return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
  print(json.dumps(_measure(int(sys.argv[2]))))
