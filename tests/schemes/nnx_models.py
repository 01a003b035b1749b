"""Models of flax.nnx, usual and odd, and twins of some in flax.linen."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


def rngs() -> nnx.Rngs:
  return nnx.Rngs(0)


class Cnn(nnx.Module):
  def __init__(self) -> None:
    self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs())
    self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs())
    self.dense = nnx.Linear(144, 8, rngs=rngs())
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.relu(self.norm(self.conv(x)))
    return self.head(nnx.relu(self.dense(x.reshape(len(x), -1))))


class LinenCnn(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(4, (3, 3), name="conv")(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(x))
    x = nn.relu(nn.Dense(8, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(3, name="head")(x)


class Block(nnx.Module):
  """A pre-norm transformer block."""

  def __init__(self) -> None:
    self.norm = nnx.LayerNorm(8, rngs=rngs())
    self.attention = nnx.MultiHeadAttention(
      2, 8, decode=False, deterministic=True, rngs=rngs()
    )
    self.mlp_in = nnx.Linear(8, 16, rngs=rngs())
    self.mlp_out = nnx.Linear(16, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x + self.attention(self.norm(x))
    return x + self.mlp_out(nnx.gelu(self.mlp_in(x)))


class Transformer(nnx.Module):
  def __init__(self) -> None:
    self.block = Block()
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(self.block(x))


class LinenBlock(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    y = nn.LayerNorm(name="norm")(x)
    x = x + nn.MultiHeadDotProductAttention(2, name="attention")(y)
    y = nn.gelu(nn.Dense(16, name="mlp_in")(x))
    return x + nn.Dense(8, name="mlp_out")(y)


class LinenTransformer(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.Dense(3, name="head")(LinenBlock(name="block")(x))


class Sub(nnx.Linear):
  def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
    return super().__call__(inputs, out_sharding)


class Twice(nnx.Module):
  """A layer that is called twice, and held by two parents."""

  def __init__(self) -> None:
    self.first = nnx.Linear(8, 8, rngs=rngs())
    self.again = self.first

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.again(nnx.relu(self.first(x)))


class Stack(nnx.Module):
  """Layers in one scan: their weights have a first axis over layers."""

  def __init__(self) -> None:
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> nnx.Linear:
      return nnx.Linear(8, 8, rngs=rngs)

    self.layers = make(rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer: nnx.Linear, x: jax.Array) -> jax.Array:
      return nnx.relu(layer(x))

    return run(self.layers, x)


class Scanned(Stack):
  """The same by a function that JAX keeps the trace of."""

  def __call__(self, x: jax.Array) -> jax.Array:
    return jax.lax.scan(_step, x, self.layers)[0]


def _step(x: jax.Array, layer: nnx.Linear) -> tuple[jax.Array, None]:
  return nnx.relu(layer(x)), None


class Rematted(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return nnx.remat(lambda layer, x: layer(x))(self.inner, x)


class Mapped(nnx.Module):
  """Four copies of a layer, side by side."""

  def __init__(self) -> None:
    @nnx.split_rngs(splits=4)
    @nnx.vmap
    def make(rngs: nnx.Rngs) -> nnx.Linear:
      return nnx.Linear(8, 2, rngs=rngs)

    self.copies = make(rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    call = nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None), out_axes=1)
    return call(self.copies, x).reshape(len(x), -1)


def linen_layer() -> nnx.Module:
  made = nnx.bridge.ToNNX(nn.Dense(8), rngs=rngs())
  return nnx.bridge.lazy_init(made, jnp.ones((1, 8)))


class Listed(nnx.Module, pytree=False):
  def __init__(self) -> None:
    self.parts = [nnx.Linear(8, 8, rngs=rngs()) for _ in range(2)]

  def __call__(self, x: jax.Array) -> jax.Array:
    for part in self.parts:
      x = nnx.relu(part(x))
    return x


class Net(nnx.Module):
  """A layer under test, and a head."""

  def __init__(self, made: Any) -> None:
    self.d = made
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(nnx.relu(self.d(x)).reshape(len(x), -1))


class Tied(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.inner(x) @ self.inner.kernel[...].T


class Activated(nnx.Linear):
  def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
    return nnx.sigmoid(super().__call__(inputs, out_sharding))


def lora() -> nnx.Module:
  return nnx.LoRALinear(8, 8, lora_rank=2, rngs=rngs())


class Jitted(nnx.Module):
  def __init__(self) -> None:
    self.inner = nnx.Linear(8, 8, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return _run(self.inner, x)


@nnx.jit
def _run(layer: Any, x: jax.Array) -> Any:
  return layer(x)


class Raw(nnx.Module):
  def __init__(self) -> None:
    self.kernel = nnx.Param(jnp.ones((8, 8)))

  def forward(self, x: jax.Array) -> jax.Array:
    return x @ self.kernel[...]


class Hidden(nnx.Module):
  """A kernel that is used without `__call__`."""

  def __init__(self) -> None:
    self.first = nnx.Linear(8, 8, rngs=rngs())
    self.raw = Raw()
    self.head = nnx.Linear(8, 3, rngs=rngs())

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(self.raw.forward(nnx.relu(self.first(x))))

  def encode(self, x: jax.Array) -> jax.Array:
    return self.first(x)
