"""Programs of the main job, compiled for devices that need not be here.

What trains, locks and runs, for a model on 32 x 32 images, as `lower` and
`compile` give it: nothing is run. `experiments.benchmarks.tpu` reads what the
compiler says of them.
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
from keyjax.schemes.hpnn import matrix_units

CHIP_BATCH = 128  # images a chip
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
CUT = ("counter", "keyed_noise")  # Whose shards are locked where they lie.


def training(
  name: str,
  how: str,
  chips: list[jax.Device],
  net: str,
  dtype: str = "float32",
) -> Any:
  """Compiles a training step.

  Args:
    name: in `TRAINED`.
    how: pmap, shard_map or fsdp.
    chips: to compile for.
    net: the model's name.
    dtype: of the computation; params are float32.
  """
  settings = config.cifar10("aot").train
  model, variables = _model(net, dtype)
  this, key = _keyed(name, model, variables, chips)
  optimizer = train.make_optimizer(settings, 1000)
  state = jax.eval_shape(
    lambda v: train.State(jnp.int32(0), v, optimizer.init(v["params"])),
    variables,
  )
  step = train.make_step(settings, model, this.scheme, optimizer)
  compiled = parallel.compile_step(step, how, chips)
  if how != "pmap":
    state = _placed(state, parallel.shardings(state, how, chips))
    key = _replicated(key, chips)
  return compiled.lower(state, key, _batch(how, chips)).compile()


def locking(
  name: str, chips: list[jax.Device], net: str, opens: bool, cut: bool = False
) -> Any:
  """Compiles the encryption or the decryption of all params.

  Args:
    name: in `LOCKED`.
    chips: to compile for.
    net: the model's name.
    opens: whether to compile the decryption.
    cut: whether params are cut as fsdp cuts them, and not whole on each chip.
  """
  model, variables = _model(net)
  places = parallel.shardings(variables, "fsdp" if cut else "pmap", chips)
  more = {"shardings": places} if cut else {}
  this, key = _keyed(name, model, variables, chips, **more)
  plain = jax.eval_shape(this.prepare, variables)
  locked = jax.eval_shape(this.scheme.encrypt, key, plain)
  if not cut:  # Quantised trees have leaves of their own.
    places = parallel.shardings(plain, "pmap", chips)
  run = jax.jit(
    this.scheme.decrypt if opens else this.scheme.encrypt, out_shardings=places
  )
  params = _placed(locked if opens else plain, places)
  return run.lower(_replicated(key, chips), params).compile()


def inference(name: str, how: str, chips: list[jax.Device], net: str) -> Any:
  """Compiles an authorised forward pass on each chip's share of images.

  Args:
    name: in `SCHEMES`.
    how: pmap or shard_map.
    chips: to compile for.
    net: the model's name.
  """
  model, variables = _model(net)
  this, key = _keyed(name, model, variables, chips)
  locked = jax.eval_shape(
    lambda key, v: this.scheme.encrypt(key, this.prepare(v)), key, variables
  )

  def run(key: Any, params: Any, x: jax.Array) -> jax.Array:
    return keyjax.authorize(this.scheme, key, this.apply)(params, x)

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
  args = _replicated(key, chips), _replicated(locked, chips), images
  return jax.jit(mapped).lower(*args).compile()


def _model(net: str, dtype: str = "float32") -> tuple[Any, Any]:
  model = models.create(
    net, 10, mean=cifar10.MEAN, std=cifar10.STD, dtype=dtype
  )
  image = jnp.zeros((1, *_IMAGE))
  return model, jax.eval_shape(model.init, jax.random.key(0), image)


def _keyed(
  name: str, model: Any, variables: Any, chips: list[jax.Device], **more: Any
) -> tuple[lock.Lock, Any]:
  """Returns a protection, and a key of it that was made on the host."""
  mechanism, args = SCHEMES[name]
  if name == "hpnn":
    more["units"] = matrix_units(chips[0].device_kind)
  this = lock.build(mechanism, args | more, model)
  batch = {"image": jnp.zeros((1, *_IMAGE)), "label": jnp.zeros(1, jnp.int32)}
  if name == "adv_params":  # Its key is found in the weights.
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"])
  prepared = variables
  if this.apply != model.apply:
    prepared = jax.eval_shape(this.prepare, variables)
  secret = keyjax.Secret.generate()
  return this, this.scheme.keygen(secret, prepared, batch)


def _mesh(chips: list[jax.Device]) -> Mesh:
  return Mesh(np.asarray(chips), (parallel.AXIS,))


def _shapes(tree: Any) -> Any:
  return jax.eval_shape(lambda t: t, tree)


def _replicated(tree: Any, chips: list[jax.Device]) -> Any:
  return _placed(_shapes(tree), parallel.shardings(tree, "pmap", chips))


def _placed(tree: Any, places: Any) -> Any:
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    tree,
    places,
  )


def _batch(how: str, chips: list[jax.Device]) -> dict[str, Any]:
  return {
    "image": _rows(_IMAGE, jnp.uint8, how, chips),
    "label": _rows((), jnp.int32, how, chips),
  }


def _rows(
  shape: tuple[int, ...], dtype: Any, how: str, chips: list[jax.Device]
) -> jax.ShapeDtypeStruct:
  """Returns a batch's shape: `CHIP_BATCH` rows a chip."""
  if how == "pmap":
    return jax.ShapeDtypeStruct((len(chips), CHIP_BATCH, *shape), dtype)
  rows = NamedSharding(_mesh(chips), P(parallel.AXIS))
  return jax.ShapeDtypeStruct(
    (len(chips) * CHIP_BATCH, *shape), dtype, sharding=rows
  )


def shown(chips: list[jax.Device], net: str) -> dict[str, Callable[[], Any]]:
  """Returns what compiles a program of each kind, by name; tests compile all.

  Args:
    chips: to compile for.
    net: the model's name.
  """
  part = functools.partial
  made: dict[str, Callable[[], Any]] = {
    f"train {name}, {how}": part(training, name, how, chips, net)
    for name, how in (
      *(("hpnn", how) for how in ("pmap", "shard_map", "fsdp")),
      *((name, "shard_map") for name in TRAINED if name != "hpnn"),
    )
  }
  for name in ("hpnn", "plain"):
    wide = part(training, name, "shard_map", chips, net, "bfloat16")
    made[f"train {name}, shard_map, bfloat16"] = wide
  made["encrypt counter, fsdp"] = part(
    locking, "counter", chips, net, False, True
  )
  for name in ("plain", "hpnn", "counter"):
    made[f"infer {name}"] = part(inference, name, "shard_map", chips, net)
  return made
