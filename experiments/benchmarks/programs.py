"""Programs of the main job, compiled for devices that need not be here.

Training, locking and inference of a model on 32 x 32 images, as `lower` and
`compile` return them: nothing is run. `experiments.benchmarks.tpu` reads what
the compiler reports.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import keyjax
from experiments import models
from experiments.data.sets import cifar10
from experiments.protection import lock
from experiments.run import config
from experiments.training import train
from keyjax import parallel
from keyjax.schemes.hpnn_units import matrix_units

CHIP_BATCH = 128  # Images per chip.
_IMAGE = (32, 32, 3)
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
  "plain": ("identity", {}),
  "deep_lock": ("deep_lock", {}),
  "counter": ("deep_lock", {"schedule": "counter"}),
  "counter_int8": ("deep_lock", {"schedule": "counter", "int8": True}),
  "keyed_noise": ("keyed_noise", {}),
  "adv_params": ("adv_params", {"max_layers": 1, "max_steps": 1}),
  "hpnn": ("hpnn", {}),
  "shf": ("shf", {}),
  "np": ("np", {}),
  "ffx": ("ffx", {}),
}
TRAINED = ("plain", "hpnn", "shf", "np", "ffx")  # The others train as plain.
LOCKED = ("deep_lock", "counter", "counter_int8", "keyed_noise", "adv_params")
CUT = ("counter", "keyed_noise")  # Each device locks its own shards.


def training(
  name: str,
  how: str,
  chips: list[jax.Device],
  net: str,
  dtype: str = "float32",
) -> Any:
  """Compile a training step.

  Args:
    name: Scheme in `TRAINED`.
    how: pmap, shard_map or fsdp.
    chips: Devices to compile for.
    net: Name of the model.
    dtype: Type of the computation; params are float32.
  """
  settings = config.cifar10("aot").train
  model, variables = _model(net, dtype)
  built, key = _keyed(name, model, variables, chips)
  optimizer = train.make_optimizer(settings, 1000)
  state = jax.eval_shape(
    lambda v: train.State(jnp.int32(0), v, optimizer.init(v["params"])),
    variables,
  )
  step = train.make_step(settings, model, built.scheme, optimizer)
  compiled = parallel.compile_step(step, how, chips)
  if how != "pmap":
    state = _sharded(state, parallel.shardings(state, how, chips))
    key = _replicated(key, chips)
  return compiled.lower(state, key, _batch(how, chips)).compile()


def locking(
  name: str,
  chips: list[jax.Device],
  net: str,
  *,
  opens: bool,
  cut: bool = False,
) -> Any:
  """Compile the encryption or the decryption of all params.

  Args:
    name: Scheme in `LOCKED`.
    chips: Devices to compile for.
    net: Name of the model.
    opens: Whether to compile the decryption.
    cut: Whether params are sharded as in fsdp, and not whole on each chip.
  """
  model, variables = _model(net)
  shardings = parallel.shardings(variables, "fsdp" if cut else "pmap", chips)
  more = {"shardings": shardings} if cut else {}
  built, key = _keyed(name, model, variables, chips, **more)
  scheme = built.scheme
  plain = jax.eval_shape(built.prepare, variables)
  locked = jax.eval_shape(scheme.encrypt, key, plain)
  if not cut:  # A quantised tree has other leaves than `variables`.
    shardings = parallel.shardings(plain, "pmap", chips)
  run = jax.jit(
    scheme.decrypt if opens else scheme.encrypt, out_shardings=shardings
  )
  params = _sharded(locked if opens else plain, shardings)
  return run.lower(_replicated(key, chips), params).compile()


def inference(name: str, how: str, chips: list[jax.Device], net: str) -> Any:
  """Compile an authorised forward pass on each chip's share of images.

  Args:
    name: Scheme in `SCHEMES`.
    how: pmap or shard_map.
    chips: Devices to compile for.
    net: Name of the model.
  """
  model, variables = _model(net)
  built, key = _keyed(name, model, variables, chips)
  scheme = built.scheme
  locked = jax.eval_shape(
    lambda key, v: scheme.encrypt(key, built.prepare(v)), key, variables
  )

  def run(key: Any, params: Any, x: jax.Array) -> jax.Array:
    return keyjax.authorize(scheme, key, built.apply)(params, x)

  images = _rows(_IMAGE, jnp.float32, how, chips)
  if how == "pmap":
    mapped = jax.pmap(run, in_axes=(None, None, 0), devices=chips)
    return mapped.lower(_shapes(key), locked, images).compile()
  mapped = jax.shard_map(
    run,
    mesh=_mesh(chips),
    in_specs=(P(), P(), P(parallel.AXIS)),
    out_specs=P(parallel.AXIS),
    check_vma=False,
  )
  lowered = jax.jit(mapped).lower(
    _replicated(key, chips), _replicated(locked, chips), images
  )
  return lowered.compile()


def _model(net: str, dtype: str = "float32") -> tuple[Any, Any]:
  model = models.create(
    net, 10, mean=cifar10.MEAN, std=cifar10.STD, dtype=dtype
  )
  image = jnp.zeros((1, *_IMAGE))
  return model, jax.eval_shape(model.init, jax.random.key(0), image)


def _keyed(
  name: str, model: Any, variables: Any, chips: list[jax.Device], **more: Any
) -> tuple[lock.Lock, Any]:
  """Return a lock, and a key for it, made on the host."""
  mechanism, args = SCHEMES[name]
  if name == "hpnn":
    more["units"] = matrix_units(chips[0].device_kind)
  built = lock.build(mechanism, args | more, model)
  batch = {"image": jnp.zeros((1, *_IMAGE)), "label": jnp.zeros(1, jnp.int32)}
  if built.key_from_params:
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"])
  prepared = variables
  if built.apply != model.apply:
    prepared = jax.eval_shape(built.prepare, variables)
  secret = keyjax.Secret.generate()
  return built, built.scheme.keygen(secret, prepared, batch)


def _mesh(chips: list[jax.Device]) -> Mesh:
  return Mesh(np.asarray(chips), (parallel.AXIS,))


def _shapes(tree: Any) -> Any:
  return jax.eval_shape(lambda t: t, tree)


def _replicated(tree: Any, chips: list[jax.Device]) -> Any:
  return _sharded(_shapes(tree), parallel.shardings(tree, "pmap", chips))


def _sharded(tree: Any, shardings: Any) -> Any:
  """Return the shapes of a tree with shardings."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    tree,
    shardings,
  )


def _batch(how: str, chips: list[jax.Device]) -> dict[str, Any]:
  return {
    "image": _rows(_IMAGE, jnp.uint8, how, chips),
    "label": _rows((), jnp.int32, how, chips),
  }


def _rows(
  shape: tuple[int, ...], dtype: Any, how: str, chips: list[jax.Device]
) -> jax.ShapeDtypeStruct:
  """Return the shape of a batch: `CHIP_BATCH` rows per chip."""
  if how == "pmap":
    return jax.ShapeDtypeStruct((len(chips), CHIP_BATCH, *shape), dtype)
  rows = NamedSharding(_mesh(chips), P(parallel.AXIS))
  return jax.ShapeDtypeStruct(
    (len(chips) * CHIP_BATCH, *shape), dtype, sharding=rows
  )


def shown(chips: list[jax.Device], net: str) -> dict[str, Callable[[], Any]]:
  """Return functions that compile one program of each kind, by name.

  Tests compile all programs.

  Args:
    chips: Devices to compile for.
    net: Name of the model.
  """
  part = functools.partial
  compilers: dict[str, Callable[[], Any]] = {
    f"train {name}, {how}": part(training, name, how, chips, net)
    for name, how in (
      *(("hpnn", how) for how in ("pmap", "shard_map", "fsdp")),
      *((name, "shard_map") for name in TRAINED if name != "hpnn"),
    )
  }
  for name in ("hpnn", "plain"):
    compilers[f"train {name}, shard_map, bfloat16"] = part(
      training, name, "shard_map", chips, net, dtype="bfloat16"
    )
  compilers["encrypt counter, fsdp"] = part(
    locking, "counter", chips, net, opens=False, cut=True
  )
  for name in ("plain", "hpnn", "counter"):
    compilers[f"infer {name}"] = part(inference, name, "shard_map", chips, net)
  return compilers
