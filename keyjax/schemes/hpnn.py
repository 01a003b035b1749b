"""HPNN: pre-activations multiplied by key bits, the "hardware key".

    out_j = f(L_j z_j)     L_j = (-1)^{k_u(j)}     z_j = sum_i w_ji a_i + b_j

u(j) is the multiply-accumulate unit that neuron j is scheduled on; k has one
bit per unit, and the map from neurons to units is private. The model trains
under the lock (autodiff gives the paper's key-dependent backpropagation), and
its published weights do not work without the key.

Capacity theorem: let phi_k negate the weights and bias of each locked neuron
with L_j = -1. For feed-forward networks whose locks directly follow their
weights, `F_locked(theta; k) = F_plain(phi_k(theta))` for every input, and
gradients commute with phi_k: L (W a + b) = (L W) a + L b, then by induction
over layers. A lock costs no capacity, and it is only a change of signs.
`absorb` is phi_k. So signs need no training: `after_training=True` writes them
into the weights of a model that is trained already.

In a transformer or a mixer every layer with its own weights can carry signs,
whatever follows it: the patch embedding; query, key, value and the output
projection of attention; both feed-forward layers; the layers over patches; the
normalizations (scale and bias); an output layer. The argument is the same: a
sign belongs to the row of weights before it. Sums of a residual block,
attention weights and a token embedding cannot carry signs (the embedding has
no kernel, and a tied one is also the output layer); `keygen` warns. A sign on
query j only meets key j, so two keys that both flip that pair compute the same
function, and signs between linear maps (value and output) are a change of
basis: feed-forward layers give the most per bit.

Source: Chakraborty, Mondal, Srivastava, "Hardware-Assisted Intellectual
Property Protection of Deep Learning Models" (HPNN), DAC 2020, eprint
2020/1016.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments, keys, secrets
from keyjax.interception import intercept
from keyjax.scheme import ApplyFn, Scheme
from keyjax.schemes import hpnn_choice, hpnn_lock, registry
from keyjax.schemes.hpnn_units import matrix_units, schedule, used_units
from keyjax.secrets import Secret

NAME = "hpnn"


class Schedule(NamedTuple):
  """The map from neurons to key bits, without the bits.

  Attributes:
    units: For each locked module the units of its neurons, int32[features].
    size: Number of units and key bits.
  """

  units: Mapping[str, np.ndarray]
  size: int


@keys.key_dataclass
class HpnnKey(keys.Key):
  """The hardware key and the private schedule.

  Attributes:
    bits: uint8[units], one bit per multiply-accumulate unit.
    units: for each locked module the units of its neurons, int32[features].
  """

  distance_unit = "bits"
  bits: jax.Array
  units: dict[str, jax.Array]

  def check(self) -> None:
    """Raise a ValueError if a bit is no bit, or a unit has none."""
    keys.require_range(self.bits, 2, "bits")
    for unit in self.units.values():
      keys.require_range(unit, self.bits.size, "units")

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Flip bits that some neuron uses."""
    bits = np.array(self.bits)
    # A bit of a unit without neurons does nothing.
    bits[rng.choice(used_units(self), distance, replace=False)] ^= 1
    return self.replace(bits=jnp.asarray(bits))

  def max_distance(self) -> int:
    """Return the number of bits that some neuron uses."""
    return used_units(self).size

  def neuron_schedule(self) -> Schedule:
    """Return the device's private map, without the bits."""
    units = {path: np.array(unit) for path, unit in self.units.items()}
    return Schedule(units, self.bits.size)

  def rebind(self, new: Self, params: Any) -> Any:
    """Absorb this key into the weights, and the new one out of them."""
    return absorb(new, absorb(self, params))

  def signs(self, path: str) -> jax.Array:
    """Return L of one module, int8[features] of +1 and -1."""
    # [units] gathered at [features] -> [features]
    bit = jnp.take(self.bits, self.units[path], mode="clip")
    return 1 - 2 * bit.astype(jnp.int8)


@keys.key_dataclass
class AfterTrainingKey(HpnnKey):
  """The key of `hpnn(after_training=True)`: opened weights are the plain ones.

  Attributes:
    bits: uint8[units], one bit per multiply-accumulate unit.
    units: for each locked module the units of its neurons, int32[features].
  """

  def rebind(self, new: Self, params: Any) -> Any:
    """Return opened params, which are the same under every key."""
    del new
    return params


def hpnn(
  apply_fn: ApplyFn,
  layers: str | None = None,
  units: int | None = None,
  image: Callable[[Any], Any] = lambda batch: batch["image"],
  compare: bool | None = None,
  after_training: bool = False,
) -> Scheme:
  """Return the HPNN scheme for an unmodified model of flax.linen or flax.nnx.

  Class: *access control by degradation*.

  Guarantees:
    - Capacity: the locked model computes exactly the function of a plain one
      with `absorb(key, params)`, so nothing is lost by locking. `keygen` runs
      both with random weights and signs, and compares the output of every
      module. A layer that fails is left out of the default layers, and the
      warning names it; where `layers` names it, it is locked, and the warning
      says that it cannot be absorbed.
    - A layer is multiplied once for each outermost call of its path: a
      subclass that calls `super().__call__` and modules that share a scope are
      one layer. Layers in `nn.remat`, `nn.scan` and `nn.vmap` have one row of
      signs for all their copies.
    - A pass that runs some of the locked layers only, such as `method="encode"`
      or an early exit, is locked there. It is refused if it reads the weights
      of a locked layer without a call that the lock can see.
    - One compiled program serves every key.
    - With `after_training`, nothing is trained under the key: `encrypt` flips
      sign bits, `decrypt` flips them back, bit for bit, and the authorised pass
      computes the plain function in every bit, on a device that multiplies as
      on one that decrypts. `keygen` refuses what it cannot show to be exact.

  Known breaks:
    - With `after_training`, whoever has the plain model, or one like the public
      base that it was fine-tuned from, compares signs: a column of weights
      gives a neuron's sign at once (`hpnn_base`).
    - The stolen weights alone reveal most signs: trained ReLU neurons are
      mostly off, so the mean of a row has the sign of -L (`hpnn_statistics`).
    - The lock is a change of signs: relaxing each bit to tanh(theta) and
      fitting a few labelled images recovers it; queries to an authorised
      device recover all of it (LLA, AAAI 2026; Li et al., DAC 2024).
    - Few neurons use few bits: a unit that no neuron is scheduled on has a
      bit without effect (`used_units`).
    - Fine-tuning recovers the function: a wrong key is the right network
      with some rows negated.
    - A lock after an identity sum has no weights before it and cannot be
      absorbed; the theorem does not cover it (`keygen` warns). Nor does it
      cover a kernel whose last axis is not the output, LoRA, a kernel that is
      also used transposed, a normalization without scale, and a nonlinearity or
      a sum inside the module.
    - A lock before an even function, such as a square, changes nothing
      (`keygen` warns).
    - The methods of a module other than `__call__` are not locked, nor are
      layers of other libraries inside a linen module, nor a part of the model
      that is jitted (`keygen` warns, or refuses).
    - `keygen` compares the call `apply_fn(params, x)` alone: what a module
      computes otherwise, such as under `train=True`, it does not see.

  Args:
    apply_fn: `model.apply`, or `keyjax.nnx_apply(graphdef)` for a model of
      nnx; plain and not jitted. Called as `apply_fn(params, images)`, traced
      and on random weights.
    layers: Regular expression of module paths such as `block_.*/conv_1`; by
      default every Dense and Conv except the last, whose output is the logits,
      as far as they can be absorbed.
    units: Number of multiply-accumulate units and key bits of a new key; by
      default those of this machine, see `hpnn_units`. A key that exists keeps
      its own number on every machine.
    image: Function from a batch to the model's input, for `keygen`.
    compare: Whether `keygen` compares the locked model with the absorbed one,
      which takes two passes of eight examples and two more copies of the
      params; by default it does for params of up to 2 GiB, and warns above.
    after_training: Whether the signs are written into a trained model.
      `encrypt` and `decrypt` are then `absorb`, and the module's `bind(key,
      apply_fn)` runs the encrypted weights as they are. Layers that cannot be
      absorbed are refused; so are larger models, without `compare=True`, or
      `compare=False` if you know that they can.

  Returns:
    A scheme with `keygen` and `bind`; with `after_training`, with all four.

  Raises:
    ValueError: If `units` is below 1, or `apply_fn` is already jitted.

  Example:
    >>> import flax.linen as nn
    >>> from keyjax import Secret
    >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((1, 4))
    >>> params = model.init(jax.random.key(0), x)
    >>> scheme = hpnn(model.apply)
    >>> key = scheme.keygen(Secret.generate(), params, {"image": x})
    >>> sorted(key.units)
    ['layers_0']
    >>> locked_apply = scheme.bind(key, model.apply)
    >>> plain = model.apply(absorb(key, params), x)
    >>> bool(jnp.allclose(locked_apply(params, x), plain))
    True
    >>> scheme = hpnn(model.apply, after_training=True)
    >>> key = scheme.keygen(Secret.generate(), params, {"image": x})
    >>> locked = scheme.encrypt(key, params)
    >>> device = bind(key, model.apply)  # Never sees the plain weights.
    >>> bool((device(locked, x) == model.apply(params, x)).all())
    True
  """
  if units is not None:
    units = arguments.whole_number(units, "units")
  if layers is not None:
    arguments.require_pattern(layers, f"{NAME}: layers")
  _check_apply(apply_fn)

  def keygen(secret: Secret, params: Any, batch: Any) -> HpnnKey:
    keys.require_secret(secret, NAME)
    x = arguments.from_batch(image, batch, NAME, "the input of the model", "x")
    size = matrix_units() if units is None else units
    sites, inexact, others = hpnn_choice.choose(
      apply_fn, params, x, layers, compare
    )
    if after_training and inexact:
      raise ValueError(f"{NAME}: signs after training: {inexact[0]}")
    for text in (*inexact, *others):
      warnings.warn(f"{NAME}: {text}", stacklevel=2)
    bits = secrets.bits(secret, f"{NAME}/bits", size)
    on = {s.path: schedule(secret, s.path, s.features, size) for s in sites}
    keys.warn_of_identity(
      not any(bits[unit].any() for unit in on.values()), NAME
    )
    return (AfterTrainingKey if after_training else HpnnKey)(
      bits=jnp.asarray(bits),
      units={path: jnp.asarray(unit) for path, unit in on.items()},
    )

  if after_training:
    return Scheme(keygen, absorb, absorb, _bind_opened)
  return Scheme(keygen, bind=bind)


def bind(key: HpnnKey, apply_fn: ApplyFn) -> ApplyFn:
  """Return the forward pass of a device that holds the key.

  There is no hardware key here: the paper's device negates in its accumulators,
  and this pass multiplies the output of each locked layer by a row of +1 and
  -1 that it gathers from the key. That multiplication is part of the compiled
  program, and whoever can read the memory of the machine can read the key. On a
  CPU (compiled HLO, JAX 0.10) XLA fuses it with bias and activation into one
  loop after the matrix product or convolution, which it leaves as it is;
  the gather of each layer's bits is a small loop of its own. Programs of a TPU
  or GPU were not examined.

  Args:
    key: Key of `hpnn`; its arrays may be traced.
    apply_fn: `model.apply`, not jitted, not even inside a wrapper: JAX's cache
      would not see the lock. Jit a function that takes the key:
      `jax.jit(lambda key, p, x: bind(key, model.apply)(p, x))`.

  Raises:
    ValueError: If `apply_fn` is jitted, or does not run a locked module.
  """
  keys.require(key, HpnnKey, NAME)
  keys.require_vector(key.bits, NAME)
  _check_apply(apply_fn)

  def bound(params: Any, *args: Any, **kwargs: Any) -> Any:
    met: set[str] = set()
    with intercept(hpnn_lock.multiply(_rows(key), met)):
      out = apply_fn(params, *args, **kwargs)
    missing = set(key.units) - met
    hpnn_lock.check_unread(apply_fn, params, args, kwargs, missing)
    return out

  return bound


def _bind_opened(key: HpnnKey, apply_fn: ApplyFn) -> ApplyFn:
  """Return the device's pass over plain weights, which `authorize` hands it.

  The signs are written into the weights again, as the file has them.
  """
  bound = bind(key, apply_fn)

  def from_opened(params: Any, *args: Any, **kwargs: Any) -> Any:
    return bound(absorb(key, params), *args, **kwargs)

  return from_opened


def _rows(key: HpnnKey) -> hpnn_lock.Rows:
  return {path: key.signs(path) for path in key.units}


def absorb(key: HpnnKey, params: Any) -> Any:
  """Convert a locked model to an equivalent plain one, or back: phi_k.

  It is exact for the modules that `hpnn` locks by default, and for others
  unless `keygen` warned of them.

  Args:
    key: Key of `hpnn`.
    params: Variables (`{"params": ...}`), the params alone, or a state of nnx.
      Leaves may be in boxes such as `nn.Partitioned`, or quantized by
      `keyjax.quantize`.

  Returns:
    The tree with kernel, bias and scale of each locked neuron negated where
    its sign is -1. Applying it twice returns `params`, bit for bit.

  Raises:
    ValueError: If a locked module has no weights in `params`, or one that is
      not an array.
  """
  keys.require(key, HpnnKey, NAME)
  absorbed, met = hpnn_lock.negate(params, _rows(key))
  missing = sorted(set(key.units) - met)
  if missing:
    raise ValueError(
      f"{NAME}: {', '.join(missing[:4])} has no weights to absorb the lock"
    )
  return absorbed


def _check_apply(apply_fn: ApplyFn) -> None:
  arguments.require_apply(apply_fn, f"{NAME} locks flax models: apply_fn")
  inner: Any = apply_fn
  while isinstance(inner, functools.partial):
    inner = inner.func
  if hasattr(inner, "lower"):
    raise ValueError(
      f"{NAME}: apply_fn is jitted, and JAX's cache would not see the lock; "
      "bind the plain function and jit the result"
    )


def _from_options(
  apply_fn: ApplyFn,
  layers: str | None = None,
  units: int = 0,
  after_training: bool = False,
) -> Scheme:
  # 0 units: as many as this machine's matrix unit has columns.
  return hpnn(apply_fn, layers, units or None, after_training=after_training)


def _known_break(options: registry.Options) -> str:
  found = "60 labelled images, or 32 queries, give nearly all key bits"
  if options.get("after_training"):
    return f"the plain model shows every sign; {found}"
  return found


registry.register(
  NAME,
  _from_options,
  security_class=registry.DEGRADATION,
  known_break=_known_break,
  trains=lambda options: not options.get("after_training"),
)
