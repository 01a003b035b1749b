"""Cost of a lock for a training step and a forward pass, relative to none.

Rows name the config whose network was timed, the scheme, and the metric
(`training_step`, `forward_pass`, or `forward_pass_ahead` of weights that were
decrypted once): `experiments.table` puts them next to the accuracies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
_BATCH = 128  # Images of an inference step.
_PIXELS = ("shf", "np", "ffx")
_AHEAD = ", decrypted ahead"
# Deep-Lock in counter mode with float32 weights: that of the table is int8.
_COUNTER = config.scheme("deep_lock", schedule="counter", key_bits=256)
_TITLES = {
  "float32": "Deep-Lock chain, float32",
  "counter": "Deep-Lock counter, float32",
  "int8": "Deep-Lock chain, int8",
  "counter_int8": "Deep-Lock counter, int8",
  "adv_params": "AdvParams",
}


def mnist_cnn() -> nn.Module:
  """Return the CNN of the MNIST configs."""
  _, mean, std = MNIST
  return models.create("cnn", 10, mean=mean, std=std)


def resnet18(**options: Any) -> nn.Module:
  """Return the ResNet-18 of the CIFAR-10 configs."""
  return models.create(
    "resnet18", 10, mean=(0.5,) * 3, std=(0.25,) * 3, **options
  )


class Net(NamedTuple):
  """A network to time.

  Attributes:
    title: Name for people.
    config: Config of a table of results that trains it; "" for none.
    model: Network.
    size: Shape of an image.
    batch: Images of a training step; 0 for none, where it takes minutes.
    locks: Each scheme of `_locks`, built for the network.
  """

  title: str
  config: str
  model: nn.Module
  size: tuple[int, int, int]
  batch: int
  locks: Mapping[str, lock.Lock]


def net_of(
  title: str,
  config: str,
  model: nn.Module,
  size: tuple[int, int, int],
  batch: int,
) -> Net:
  """Return a network with its locks; the arguments are those of `Net`."""
  return Net(title, config, model, size, batch, locks=_locks(model))


def _locks(
  model: nn.Module, labels: Sequence[str] = ()
) -> dict[str, lock.Lock]:
  """Build the schemes of the table of results, and `_COUNTER`, for a model.

  Args:
    model: Network.
    labels: Labels of some of them; all by default.
  """
  specs = {"counter": _COUNTER} | config.table_schemes(max_steps=2)
  return {
    label: lock.build(specs[label].scheme, dict(specs[label].args), model)
    for label in labels or specs
  }


def _nets() -> Iterator[Net]:
  """Yield the networks; each is built when it is its turn."""
  yield net_of("MNIST CNN", "table_mnist", mnist_cnn(), MNIST[0], batch=512)
  yield net_of("GTSRB CNN", "table_gtsrb", _wide_cnn(43), RGB, batch=256)
  yield net_of("CIFAR-10 CNN", "table_cifar10", _wide_cnn(10), RGB, batch=256)
  width16 = resnet18(width=16)
  small = "table_cifar10_resnet18"
  yield net_of("ResNet-18 width 16", small, width16, RGB, batch=32)
  yield net_of("ResNet-18", "", resnet18(), RGB, batch=0)


def _wide_cnn(classes: int) -> nn.Module:
  """Return the CNN of the GTSRB and CIFAR-10 tables."""
  return models.create(
    "cnn", classes, mean=(0.5,) * 3, std=(0.25,) * 3, features=(32, 64)
  )


# ----------------------------------------------------------------- training


def training_step(
  model: nn.Module, scheme: keyjax.Scheme, key: Any, batch: Any
) -> Callable[[], Any]:
  """Return a function that takes one training step on all devices."""
  settings = config.base().train
  optimizer = train.make_optimizer(settings, 1000)
  step = train.make_step(settings, model, scheme, optimizer)
  run = parallel.data_parallel(step)
  images = jnp.asarray(batch["image"][:1])
  variables = jax.jit(model.init)(jax.random.key(0), data.to_float(images))
  opt_state = optimizer.init(variables["params"])
  state = parallel.replicate(train.State(jnp.int32(0), variables, opt_state))
  box = [state]  # The step donates its state, so each call continues from it.

  def call() -> Any:
    box[0], metrics = run(box[0], key, batch)
    return metrics

  return call


def training_rows(rounds: int) -> Iterator[Row]:
  """Time a training step under every scheme."""
  rng = np.random.default_rng(0)
  for net in _nets():
    if not net.batch:
      continue
    batch = {
      "image": rng.integers(0, 256, (net.batch, *net.size), np.uint8),
      "label": rng.integers(0, 10, net.batch, np.int32),
    }
    yield from time_training(net, batch, rounds)


def time_training(net: Net, batch: Any, rounds: int) -> Rows:
  """Time the training steps of a network, plain and under every scheme."""
  times = interleaved(_steps(net, batch), rounds)
  step = f"{net.title}, batch {net.batch}"
  one = Summary(1.0, 1.0, 1.0)
  why = "by construction: it trains plain"
  plain = [x for x in net.locks if x in _TITLES]
  return [
    row(f"{step}: plain training step", summary(times["plain"].wall), "s"),
    *(
      row(f"{step}: {_TITLES[x]} step / plain step", one, "x", note=why)
      | _named(net, x, "training_step")
      for x in plain
    ),
    *(_step_row(net, step, x, times) for x in ("hpnn", *_PIXELS)),
    *(
      row(
        f"{step}: {x.upper()} of the batch / plain step",
        ratio(times["plain"], times[f"{x} alone"]),
        "x",
        target="<= 0.05",
      )
      for x in _PIXELS
    ),
  ]


def _steps(net: Net, batch: Any) -> dict[str, Callable[[], Any]]:
  """Return training steps by scheme, and the transformations by themselves."""
  model = net.model
  images = data.to_float(jnp.asarray(batch["image"]))
  variables = jax.eval_shape(model.init, jax.random.key(0), images[:1])
  secret = keyjax.Secret.generate()
  view = {"image": images[:1]}
  functions = {"plain": training_step(model, keyjax.identity(), (), batch)}
  for label in ("hpnn", *_PIXELS):
    scheme = net.locks[label].scheme
    key = scheme.keygen(secret, variables, view)
    functions[label] = training_step(model, scheme, key, batch)
    if label in _PIXELS:
      transform = jax.jit(pixel_shuffle.transform)
      functions[f"{label} alone"] = _call(transform, key, images)
  return functions


def _named(net: Net, scheme: str, metric: str) -> dict[str, str]:
  return {"config": net.config, "scheme": scheme, "metric": metric}


def _step_row(
  net: Net, step: str, label: str, times: Mapping[str, Timing]
) -> Row:
  made = row(
    f"{step}: {label.upper()} step / plain step",
    ratio(times["plain"], times[label]),
    "x",
    target="<= 1.05",
  )
  return made | _named(net, label, "training_step")


def _call(function: Callable, *args: Any) -> Callable[[], Any]:
  return lambda: function(*args)


# ---------------------------------------------------------------- inference


def inference_rows(rounds: int) -> Iterator[Row]:
  """Time a forward pass with the right key, under every scheme."""
  return (r for net in _nets() for r in time_inference(net, rounds))


def time_inference(net: Net, rounds: int, batch: int = _BATCH) -> Rows:
  """Time the forward passes of a network, plain and under each of its locks."""
  model = net.model
  images = jnp.zeros((batch, *net.size))
  variables = jax.jit(model.init)(jax.random.key(0), images[:1])
  functions = {"plain": _call(jax.jit(model.apply), variables, images)}
  for label, built in net.locks.items():
    functions |= _passes(label, built, variables, images)
  times = interleaved(functions, rounds)
  step = f"{net.title}, batch {batch}"
  plain = summary(times["plain"].wall)
  return [
    row(f"{step}: plain forward pass", plain, "s"),
    *(_pass_row(net, step, x, times) for x in functions if x != "plain"),
  ]


def small_batch_rows(rounds: int) -> Iterator[Row]:
  """Time small passes, in which Deep-Lock's decryption weighs most."""
  mlp = models.create(
    "mlp", 10, mean=MNIST[1], std=MNIST[2], hidden=(2048,) * 3
  )
  for title, model, batch, target in (
    ("MLP of 10 M", mlp, _BATCH, "<= 1.50"),
    ("MLP of 10 M", mlp, 1, "<= 4.00"),
    ("MNIST CNN", mnist_cnn(), 1, "<= 4.00"),
  ):
    locks = _locks(model, ("float32", "counter"))
    net = Net(title, "", model, MNIST[0], 0, locks)
    for made in time_inference(net, rounds, batch):
      yield made | ({"target": target} if "inside" in made["name"] else {})


def _passes(
  label: str, built: lock.Lock, variables: Any, images: jax.Array
) -> dict[str, Callable[[], Any]]:
  """Return a pass that decrypts inside, and one over weights decrypted once.

  Only a scheme that encrypts weights has the second; it decrypts before it is
  timed.
  """
  scheme = built.scheme
  prepared = built.prepare(variables)
  view = {"image": images[:8], "label": jnp.arange(8, dtype=jnp.int32)}
  key = scheme.keygen(keyjax.Secret.generate(), prepared, view)
  locked = jax.jit(scheme.encrypt)(key, prepared)
  inside = jax.jit(
    lambda key, params, x: keyjax.authorize(scheme, key, built.apply)(params, x)
  )
  functions = {label: _call(inside, key, locked, images)}
  if not built.trains:
    decrypted = jax.jit(scheme.decrypt)(key, locked)
    ahead = jax.jit(built.apply)
    functions[label + _AHEAD] = _call(ahead, decrypted, images)
  return functions


def _pass_row(
  net: Net, step: str, name: str, times: Mapping[str, Timing]
) -> dict[str, Any]:
  label = name.removesuffix(_AHEAD)
  ahead = name.endswith(_AHEAD)
  title = _TITLES.get(label, label.upper())
  if label in _TITLES:
    title += ", decrypted once, ahead" if ahead else ", decrypts inside"
  made = row(
    f"{step}: {title}: forward pass / plain",
    ratio(times["plain"], times[name]),
    "x",
    target="1.00" if ahead else "<= 1.10",
    note="with int8 made float again in every pass" if "int8" in label else "",
  )
  metric = "forward_pass_ahead" if ahead else "forward_pass"
  return made | _named(net, label, metric)


PARTS: dict[str, Callable[[int], Iterator[Row]]] = {
  "training": training_rows,
  "inference": inference_rows,
  "small_batches": small_batch_rows,
}


def rows(rounds: int) -> Iterator[Row]:
  """Yield all rows."""
  return (row for part in PARTS.values() for row in part(rounds))
