"""What a lock costs a training step and an inference step, beside none.

Rows name the config whose network was timed, the scheme, and the metric
(`training_step`, `forward_pass`, or `forward_pass_ahead` of weights that were
decrypted once): `experiments.table` puts them beside what was trained.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments import data, models
from experiments.benchmarks.timing import (
  Summary,
  Timing,
  interleaved,
  ratio,
  row,
  summary,
)
from experiments.protection import lock
from experiments.run import config
from experiments.training import train
from keyjax import parallel
from keyjax.schemes import pixel_shuffle

Row = dict[str, Any]
Rows = list[Row]
MNIST = ((28, 28, 1), (0.1307,), (0.3081,))
RGB = (32, 32, 3)
_BATCH = 128  # images of an inference step
_PIXELS = ("shf", "np", "ffx")
_AHEAD = ", decrypted ahead"
# Deep-Lock with float32 weights in counter mode too: the table's is int8.
_MORE = {"counter": ("deep_lock", {"schedule": "counter", "key_bits": 256})}
_TITLES = {
  "float32": "Deep-Lock chain, float32",
  "counter": "Deep-Lock counter, float32",
  "int8": "Deep-Lock chain, int8",
  "counter_int8": "Deep-Lock counter, int8",
  "adv_params": "AdvParams",
}


def mnist_cnn() -> nn.Module:
  """Returns the CNN of the MNIST configs."""
  _, mean, std = MNIST
  return models.create("cnn", 10, mean, std)


def resnet18(**options: Any) -> nn.Module:
  """Returns the ResNet-18 of the CIFAR-10 configs."""
  return models.create("resnet18", 10, (0.5,) * 3, (0.25,) * 3, **options)


class Net(NamedTuple):
  """A network to time.

  Attributes:
    name: what people call it.
    config: the config of a table that trains it; "" for none.
    model: the network.
    size: of an image.
    batch: images of a training step.
  """

  name: str
  config: str
  model: nn.Module
  size: tuple[int, int, int]
  batch: int


def _nets() -> dict[str, Net]:
  wide, grey = {"features": (32, 64)}, ((0.5,) * 3, (0.25,) * 3)
  gtsrb = models.create("cnn", 43, *grey, **wide)
  cifar10 = models.create("cnn", 10, *grey, **wide)
  width16 = resnet18(width=16)
  small = "table_cifar10_resnet18"
  return {
    "mnist": Net("MNIST CNN", "table_mnist", mnist_cnn(), MNIST[0], 512),
    "gtsrb": Net("GTSRB CNN", "table_gtsrb", gtsrb, RGB, 256),
    "cifar10": Net("CIFAR-10 CNN", "table_cifar10", cifar10, RGB, 256),
    "width16": Net("ResNet-18 width 16", small, width16, RGB, 32),
    "resnet18": Net("ResNet-18", "", resnet18(), RGB, 0),
  }


# ----------------------------------------------------------------- training


def training_step(
  model: nn.Module, scheme: keyjax.Scheme, key: Any, batch: Any
) -> Callable[[], Any]:
  """Returns one more training step of the trainer, on all devices."""
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


def training_rows(rounds: int) -> Iterator[Row]:
  """Times a training step under every scheme."""
  rng = np.random.default_rng(0)
  for net in _nets().values():
    if not net.batch:  # Minutes a step on a CPU.
      continue
    batch = {
      "image": rng.integers(0, 256, (net.batch, *net.size), np.uint8),
      "label": rng.integers(0, 10, net.batch, np.int32),
    }
    yield from _training(net, batch, rounds)


def _training(net: Net, batch: Any, rounds: int) -> Rows:
  model = net.model
  images = data.to_float(jnp.asarray(batch["image"]))
  variables = jax.eval_shape(model.init, jax.random.key(0), images[:1])
  secret, view = keyjax.Secret.generate(), {"image": images[:1]}
  functions = {"plain": training_step(model, keyjax.identity(), (), batch)}
  for label in ("hpnn", *_PIXELS):
    scheme = lock.build(*_locks()[label], model).scheme
    key = scheme.keygen(secret, variables, view)
    functions[label] = training_step(model, scheme, key, batch)
    if label in _PIXELS:
      transform = jax.jit(pixel_shuffle.transform)
      functions[f"{label} alone"] = _call(transform, key, images)
  times = interleaved(functions, rounds)
  step = f"{net.name}, batch {len(images)}"
  one, why = Summary(1.0, 1.0, 1.0), "by construction: it trains plain"
  same = {x: _TITLES[x] for x in _locks() if x in _TITLES}
  return [
    row(f"{step}: plain training step", summary(times["plain"].wall), "s"),
    *(
      row(f"{step}: {title} step / plain step", one, "x", "", why)
      | _named(net, label, "training_step")
      for label, title in same.items()
    ),
    *(_step_row(net, step, x, times) for x in ("hpnn", *_PIXELS)),
    *(
      row(
        f"{step}: {x.upper()} of the batch / plain step",
        ratio(times["plain"], times[f"{x} alone"]),
        *("x", "<= 0.05"),
      )
      for x in _PIXELS
    ),
  ]


def _named(net: Net, scheme: str, metric: str) -> dict[str, str]:
  return {"config": net.config, "scheme": scheme, "metric": metric}


def _step_row(
  net: Net, step: str, label: str, times: Mapping[str, Timing]
) -> dict[str, Any]:
  share = ratio(times["plain"], times[label])
  name = f"{step}: {label.upper()} step / plain step"
  return row(name, share, "x", "<= 1.05") | _named(net, label, "training_step")


def _call(function: Callable, *args: Any) -> Callable[[], Any]:
  return lambda: function(*args)


# ---------------------------------------------------------------- inference


def inference_rows(rounds: int) -> Iterator[Row]:
  """Times a forward pass with the right key, under every scheme."""
  return (r for net in _nets().values() for r in _inference(net, rounds))


def _inference(net: Net, rounds: int) -> Rows:
  model, images = net.model, jnp.zeros((_BATCH, *net.size))
  variables = jax.jit(model.init)(jax.random.key(0), images[:1])
  functions = {"plain": _call(jax.jit(model.apply), variables, images)}
  for label, (mechanism, args) in _locks().items():
    functions |= _passes(label, mechanism, args, model, variables, images)
  times = interleaved(functions, rounds)
  step = f"{net.name}, batch {_BATCH}"
  plain = summary(times["plain"].wall)
  return [
    row(f"{step}: plain forward pass", plain, "s"),
    *(_pass_row(net, step, x, times) for x in functions if x != "plain"),
  ]


def _locks() -> dict[str, tuple[str, dict[str, Any]]]:
  """Returns the schemes of the table of results, and `_MORE`."""
  table = config.table_schemes(max_steps=2)
  return _MORE | {k: (v.scheme, dict(v.args)) for k, v in table.items()}


def _passes(
  label: str,
  mechanism: str,
  args: dict[str, Any],
  model: nn.Module,
  variables: Any,
  images: jax.Array,
) -> dict[str, Callable[[], Any]]:
  """Returns the pass that decrypts inside, and one over weights opened once.

  The second is for what encrypts weights; it decrypts before it is timed.
  """
  this = lock.build(mechanism, args, model)
  scheme, prepared = this.scheme, this.prepare(variables)
  view = {"image": images[:8], "label": jnp.arange(8, dtype=jnp.int32)}
  key = scheme.keygen(keyjax.Secret.generate(), prepared, view)
  locked = jax.jit(scheme.encrypt)(key, prepared)
  inside = jax.jit(
    lambda key, params, x: keyjax.authorize(scheme, key, this.apply)(params, x)
  )
  made = {label: _call(inside, key, locked, images)}
  if this.trains:
    return made
  opened = jax.jit(scheme.decrypt)(key, locked)
  ahead = jax.jit(this.apply)
  return made | {label + _AHEAD: _call(ahead, opened, images)}


def _pass_row(
  net: Net, step: str, name: str, times: Mapping[str, Timing]
) -> dict[str, Any]:
  label = name.removesuffix(_AHEAD)
  title = _TITLES.get(label, label.upper())
  how = "decrypted once, ahead" if name.endswith(_AHEAD) else "decrypts inside"
  text = f"{title}, {how}" if label in _TITLES else title
  target = "1.00" if name.endswith(_AHEAD) else "<= 1.10"
  note = "with int8 made float again in every pass" if "int8" in label else ""
  share = ratio(times["plain"], times[name])
  made = row(f"{step}: {text}: forward pass / plain", share, "x", target, note)
  metric = "forward_pass_ahead" if name.endswith(_AHEAD) else "forward_pass"
  return made | _named(net, label, metric)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
  "training": training_rows,
  "inference": inference_rows,
}


def rows(rounds: int) -> Iterator[Row]:
  """Yields all rows."""
  return (row for part in PARTS.values() for row in part(rounds))
