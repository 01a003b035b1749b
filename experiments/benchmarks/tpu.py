"""What TPU slices would run: programs compiled ahead of time, without a TPU.

XLA's TPU compiler (`pip install "jax[tpu]"`) compiles for a slice that is not
there, and says what a chip would compute, hold and send. From that and the
published peaks of a chip follow lower bounds on a step's time, not times.
`pytest -m tpu_aot` checks the same programs.

References:
  Google Cloud, "TPU v4", "v5e", "v5p", "v6e" (peaks of a chip), 2026.
"""

import functools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import keyjax
from experiments import config, data, lock, models, train
from keyjax import parallel
from keyjax.schemes.hpnn import matrix_units

# Slices of 256 chips, and what is compiled for them: XLA takes a minute or more
# for a ResNet-18, and the smaller network shows the same collectives.
SLICES = {
  "v5e:16x16": "resnet18",
  "v6e:16x16": "cnn",
  "v4:4x8x8": "cnn",
  "v5p:4x8x8": "cnn",
}
CHIP_BATCH = 128  # images a chip
_IMAGE = (32, 32, 3)
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}


class Chip(NamedTuple):
  """Peaks of a chip: operations, memory bytes and sent bytes a second."""

  flops: float
  memory: float
  network: float


# bfloat16 FLOP/s, HBM bytes/s, inter-chip interconnect bytes/s each way.
CHIPS = {
  "v4": Chip(275e12, 1228e9, 300e9),
  "v5e": Chip(197e12, 819e9, 200e9),
  "v5p": Chip(459e12, 2765e9, 600e9),
  "v6e": Chip(918e12, 1640e9, 448e9),
}


class Figures(NamedTuple):
  """What the compiler says of a program, a chip.

  Attributes:
    flops: operations.
    read: bytes read and written by its kernels.
    held: bytes of memory: arguments, results and temporaries.
    collectives: bytes that each kind of collective hands out.
  """

  flops: float
  read: float
  held: int
  collectives: dict[str, int]


def devices(name: str) -> list[jax.Device]:
  """Returns the chips of a slice such as `v5e:16x16`.

  Raises:
    RuntimeError: no TPU compiler, or none that knows the slice.
  """
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
  except Exception as error:
    raise RuntimeError(
      f'no compiler for {name}: pip install "jax[tpu]"; {error}'
    ) from None
  return list(found.devices)


def figures(compiled: Any) -> Figures:
  """Reads a compiled program."""
  cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
  held = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
  sent = dict(collectives(compiled.as_text()))
  return Figures(cost["flops"], cost["bytes accessed"], held, sent)


def collectives(text: str) -> Iterator[tuple[str, int]]:
  """Yields the kinds of collectives in a program, and their bytes.

  Example:
    >>> text = "a = (f32[2,3]{1,0}, bf16[4]{0}) all-reduce-start(b, c)"
    >>> dict(collectives(text))
    {'all-reduce': 32}
  """
  sums: dict[str, int] = {}
  names = "|".join(_COLLECTIVES)
  for line in text.splitlines():
    found = re.search(rf"= (.*?) ({names})(?:-start)?\(", line)
    if found:
      sums[found[2]] = sums.get(found[2], 0) + _bytes(found[1])
  yield from sums.items()


def _bytes(shapes: str) -> int:
  total = 0
  for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
    sizes = [int(x) for x in dims.split(",") if x]
    total += _WIDTHS.get(dtype, 4) * int(np.prod(sizes, dtype=np.int64))
  return total


def train_step(
  name: str,
  how: str,
  chips: list[jax.Device],
  net: str,
  dtype: str = "float32",
) -> Any:
  """Compiles a model's training step under a scheme of the main job.

  Args:
    name: the scheme's.
    how: pmap, shard_map or fsdp.
    chips: of the slice.
    net: the model's name.
    dtype: of the computation; params are float32.
  """
  settings = config.cifar10("aot").train
  model, variables = _model(net, dtype)
  scheme, key = _locked(name, model, variables, chips[0].device_kind)
  optimizer = train.make_optimizer(settings, 1000)
  state = jax.eval_shape(
    lambda v: train.State(jnp.int32(0), v, optimizer.init(v["params"])),
    variables,
  )
  step = train.make_step(settings, model, scheme, optimizer)
  compiled = parallel.compile_step(step, how, chips)
  args = _state_and_key(state, key, how, chips), _batch(how, chips)
  return compiled.lower(*args[0], args[1]).compile()


def _locked(
  name: str, model: Any, variables: Any, kind: str
) -> tuple[keyjax.Scheme, Any]:
  if name == "plain":
    return keyjax.identity(), ()
  args = {"hpnn": {"units": matrix_units(kind)}}
  this = lock.build(name, args.get(name, {}), model)
  batch = {"image": jnp.zeros((1, *_IMAGE)), "label": jnp.zeros(1, jnp.int32)}
  return this.scheme, this.scheme.keygen(
    keyjax.Secret.generate(), variables, batch
  )


def _state_and_key(
  state: Any, key: Any, how: str, chips: list[jax.Device]
) -> tuple[Any, Any]:
  if how == "pmap":
    return state, _shapes(key)
  places = parallel.shardings(state, how, chips)
  whole = parallel.shardings(key, "pmap", chips)
  return _placed(state, places), _placed(_shapes(key), whole)


def _shapes(tree: Any) -> Any:
  return jax.eval_shape(lambda t: t, tree)


def _placed(tree: Any, places: Any) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    tree,
    places,
  )


def _batch(how: str, chips: list[jax.Device]) -> dict[str, Any]:
  n = len(chips)
  shapes = {"image": (_IMAGE, jnp.uint8), "label": ((), jnp.int32)}
  if how == "pmap":
    return {
      k: jax.ShapeDtypeStruct((n, CHIP_BATCH, *s), d)
      for k, (s, d) in shapes.items()
    }
  rows = NamedSharding(Mesh(np.asarray(chips), (parallel.AXIS,)), P("data"))
  return {
    k: jax.ShapeDtypeStruct((n * CHIP_BATCH, *s), d, sharding=rows)
    for k, (s, d) in shapes.items()
  }


def encryption(chips: list[jax.Device], net: str) -> Any:
  """Compiles Deep-Lock's counter mode over params that fsdp has cut."""
  _, variables = _model(net)
  places = parallel.shardings(variables, "fsdp", chips)
  scheme, key = _deep_lock(variables, places)
  whole = parallel.shardings(key, "pmap", chips)
  encrypt = jax.jit(scheme.encrypt, out_shardings=places)
  return encrypt.lower(
    _placed(_shapes(key), whole), _placed(variables, places)
  ).compile()


def inference(name: str, chips: list[jax.Device], net: str) -> Any:
  """Compiles an authorised forward pass on each chip's share of images."""
  model, variables = _model(net)
  if name == "deep_lock":
    scheme, key = _deep_lock(variables)
    variables = jax.eval_shape(scheme.encrypt, key, variables)
  else:
    kind = chips[0].device_kind
    scheme, key = _locked(name, model, variables, kind)
  run = jax.jit(
    lambda key, params, x: keyjax.authorize(scheme, key, model.apply)(params, x)
  )
  whole = functools.partial(parallel.shardings, how="pmap", devices=chips)
  rows = NamedSharding(Mesh(np.asarray(chips), (parallel.AXIS,)), P("data"))
  images = jax.ShapeDtypeStruct(
    (len(chips) * CHIP_BATCH, *_IMAGE), jnp.float32, sharding=rows
  )
  key = _shapes(key)
  return run.lower(
    _placed(key, whole(key)), _placed(variables, whole(variables)), images
  ).compile()


def _model(net: str, dtype: str = "float32") -> tuple[Any, Any]:
  normal = data.CIFAR10_MEAN, data.CIFAR10_STD
  model = models.create(net, 10, *normal, dtype=dtype)
  image = jnp.zeros((1, *_IMAGE))
  return model, jax.eval_shape(model.init, jax.random.key(0), image)


def _deep_lock(
  variables: Any, shardings: Any = None
) -> tuple[keyjax.Scheme, Any]:
  scheme = keyjax.deep_lock("counter", shardings=shardings)
  return scheme, scheme.keygen(keyjax.Secret.generate(), variables, None)


def programs(chips: list[jax.Device], net: str) -> dict[str, Callable[[], Any]]:
  """Returns what compiles each program for a slice, by name."""
  steps = [("hpnn", how) for how in ("pmap", "shard_map", "fsdp")]
  steps += [(name, "shard_map") for name in ("plain", "shf", "np", "ffx")]
  made: dict[str, Callable[[], Any]] = {
    f"train {name}, {how}": functools.partial(train_step, name, how, chips, net)
    for name, how in steps
  }
  for name in ("hpnn", "plain"):
    made[f"train {name}, shard_map, bfloat16"] = functools.partial(
      train_step, name, "shard_map", chips, net, "bfloat16"
    )
  made["encrypt deep_lock counter, fsdp"] = functools.partial(
    encryption, chips, net
  )
  for name in ("plain", "hpnn", "deep_lock"):
    made[f"infer {name}"] = functools.partial(inference, name, chips, net)
  return made


def bounds(got: Figures, chip: Chip, count: int) -> dict[str, float]:
  """Returns the least seconds that each limit leaves a program.

  A ring hands every byte of an all-reduce out twice, less one share.
  """
  share = (count - 1) / count
  sent = sum(
    (2 if kind == "all-reduce" else 1) * share * size
    for kind, size in got.collectives.items()
  )
  return {
    "compute": got.flops / chip.flops,
    "memory": got.read / chip.memory,
    "network": sent / chip.network,
  }


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Compiles all programs for all slices; `rounds` is not needed."""
  del rounds
  for name, net in SLICES.items():
    chips = devices(name)
    for title, make in programs(chips, net).items():
      start = time.perf_counter()
      got = figures(make())
      seconds = time.perf_counter() - start
      limits = bounds(got, CHIPS[name.split(":")[0]], len(chips))
      which = max(limits, key=lambda k: limits[k])
      ms = 1e3 * limits[which]
      sent = ", ".join(f"{k} {v:,}" for k, v in got.collectives.items())
      yield {
        "name": f"{name} {net}: {title}",
        "value": ms,
        "low": ms,
        "high": ms,
        "unit": "ms at least",
        "target": f"{which} bound; {sent or 'no collective'}",
        "note": "estimate from the compiled program, not a time",
        "chips": len(chips),
        "compile_seconds": seconds,
        "bounds": limits,
        **got._asdict(),
      }
