"""HPNN on modules of every kind: a lock that `absorb` undoes, or a warning."""

from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import keyjax
from keyjax import Secret, quantize
from keyjax.schemes import hpnn
from tests import trees
from tests.schemes.locked_models import (
  SECRET,
  Net,
  Sub,
  X,
  assert_locked_and_absorbed,
  drawn,
  keygen,
)

PLANES = jax.random.normal(jax.random.key(6), (3, 4, 4, 2))
TOKENS = jnp.arange(12).reshape(3, 4) % 9
NORMAL = nn.initializers.normal(1.0)
PER_COPY = {"split_rngs": {"params": True}, "in_axes": 0}


@pytest.fixture(autouse=True)
def allow_promotion() -> Iterator[None]:
  """Models of others broadcast as they like."""
  with jax.numpy_dtype_promotion("standard"):
    with jax.numpy_rank_promotion("allow"):
      yield


class SubSub(Sub):
  def __call__(self, x: jax.Array) -> jax.Array:
    return super().__call__(x)


class SubConv(nn.Conv):
  def __call__(self, x: jax.Array) -> jax.Array:
    return super().__call__(x)


class Shared(nn.Module):
  """A wrapper in the scope of what it wraps."""

  base: nn.Module

  def setup(self) -> None:
    nn.share_scope(self, self.base)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.base(x)


class Standardized(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param("kernel", NORMAL, (x.shape[-1], 8))
    return x @ ((kernel - kernel.mean(0)) / kernel.std(0))


boxed = nn.with_logical_partitioning
GOOD: dict[str, Callable[[], nn.Module]] = {
  "subclass": lambda: Sub(8, name="d"),
  "subclass of a subclass": lambda: SubSub(8, name="d"),
  "share_scope": lambda: Shared(SubSub(8, name="d")),
  "remat": lambda: nn.remat(Sub)(8, name="d"),
  "vmap": lambda: nn.vmap(Sub, variable_axes={"params": 0}, **PER_COPY)(
    8, name="d"
  ),
  "logical kernel": lambda: nn.Dense(
    8, name="d", kernel_init=boxed(NORMAL, ("in", "out"))
  ),
  "kernel and bias in boxes": lambda: nn.Dense(
    8,
    name="d",
    kernel_init=nn.with_partitioning(NORMAL, (None, "m")),
    bias_init=nn.with_partitioning(NORMAL, ("m",)),
  ),
  "einsum": lambda: nn.Einsum((8, 6), "bi,io->bo", name="d"),
  "several output axes": lambda: nn.DenseGeneral((2, 4), name="d"),
  "weight norm": lambda: nn.WeightNorm(nn.Dense(8, name="d"), name="w"),
  "weight standardization": lambda: Standardized(name="d"),
  "nnx": lambda: nnx.bridge.ToLinen(nnx.Linear, args=(8, 8), name="d"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_layer_is_multiplied_once_and_absorbed(name: str) -> None:
  model = Net(GOOD[name])
  variables = drawn(model, X)
  key, found = keygen(model, variables)
  assert list(key.units) == ["d"] and not found
  assert_locked_and_absorbed(model, key, variables)


@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions(transposed: bool) -> None:
  class Up(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      x = nn.relu(SubConv(3, (2, 2), name="conv")(x))
      up = nn.ConvTranspose(3, (2, 2), transpose_kernel=transposed, name="up")
      return up(x)

  model = Net(lambda: Up(name="net"))
  variables = drawn(model, PLANES)
  key, found = keygen(model, variables, PLANES)
  want = {"net/conv"} if transposed else {"net/conv", "net/up"}
  assert set(key.units) == want
  assert len(found) == transposed and all("net/up" in text for text in found)
  assert_locked_and_absorbed(model, key, variables, PLANES)


def test_attention_and_embeddings() -> None:
  class Text(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      embed = nn.Embed(9, 8, name="embed")
      x = nn.MultiHeadDotProductAttention(2, name="a")(embed(x))
      x = nn.relu(nn.Dense(8, name="d")(x))
      return embed.attend(nn.Dense(8, name="last")(x))

  model = Text()
  variables = drawn(model, TOKENS)
  key, found = keygen(model, variables, TOKENS)
  parts = {f"a/{part}" for part in ("query", "key", "value", "out")}
  assert set(key.units) == parts | {"d"} and not found
  assert_locked_and_absorbed(model, key, variables, TOKENS)


def test_a_layer_called_twice_is_locked_twice() -> None:
  class Twice(nn.Module):
    def setup(self) -> None:
      self.d = Sub(8)
      self.head = nn.Dense(4)

    def __call__(self, x: jax.Array) -> jax.Array:
      return self.head(nn.relu(self.d(nn.relu(self.d(x)))))

  variables = drawn(Twice(), X)
  key, found = keygen(Twice(), variables)
  assert not found
  assert_locked_and_absorbed(Twice(), key, variables)


# -------------------------------------------------- what cannot be absorbed


def kernel_of(module: nn.Module, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  return (
    module.param("kernel", NORMAL, (x.shape[-1], 8)),
    module.param("bias", NORMAL, (8,)),
  )


class OwnRelu(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel, bias = kernel_of(self, x)
    return nn.relu(x @ kernel + bias)


class OwnSum(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel, bias = kernel_of(self, x)
    return x + x @ kernel + bias


class Lora(nn.Module):
  """Adapters that start at zero, in the scope of their layer."""

  base: nn.Dense

  def setup(self) -> None:
    nn.share_scope(self, self.base)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    down = self.param("down", NORMAL, (x.shape[-1], 2))
    up = self.param("up", nn.initializers.zeros, (2, 8))
    return self.base(x) + x @ down @ up


class Adapted(nn.Module):
  """The same, in a collection of its own."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel, bias = kernel_of(self, x)
    zeros = nn.initializers.zeros
    more = self.variable("lora", "kernel", zeros, None, kernel.shape).value
    return x @ kernel + bias + x @ more


class Tied(nn.Module):
  """A kernel that is used again, transposed."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = nn.Dense(6, name="d")
    hidden = nn.relu(dense(x))
    return hidden @ dense.variables["params"]["kernel"].T


BAD: dict[str, tuple[Callable[[], nn.Module], str]] = {
  "another axis": (
    lambda: nn.Einsum((8, 8), "bi,oi->bo", name="d"),
    "d",
  ),
  "another axis, without a bias": (
    lambda: nn.Einsum((6, 8), "bi,oi->bo", use_bias=False, name="d"),
    "d",
  ),
  "vmap, copies last": (
    lambda: nn.vmap(nn.Dense, variable_axes={"params": -1}, **PER_COPY)(
      8, name="d"
    ),
    "d",
  ),
  "a nonlinearity": (lambda: OwnRelu(name="d"), "d"),
  "a residual": (lambda: OwnSum(name="d"), "d"),
  "LoRA": (lambda: Lora(nn.Dense(8, name="d")), "d"),
  "LoRA in a collection": (lambda: Adapted(name="d"), "d"),
  "tied": (lambda: Tied(name="t"), "t/d"),
}


@pytest.mark.parametrize(
  ("name", "shapes"), [*((name, False) for name in BAD), ("LoRA", True)]
)
def test_a_layer_that_cannot_be_absorbed_is_left_out(
  name: str, shapes: bool
) -> None:
  make, path = BAD[name]
  model = Net(make, first=True)
  # LoRA as it starts, at zero: its values do not count.
  variables = model.init(jax.random.key(0), X)
  made_of = jax.eval_shape(lambda: variables) if shapes else variables
  key, (text,) = keygen(model, made_of)
  assert list(key.units) == ["first"]
  assert f"scale of {path} does not negate" in text
  assert_locked_and_absorbed(model, key, drawn(model, X))
  # By name it is locked all the same.
  named, (text,) = keygen(model, made_of, layers=f"first|{path}")
  assert set(named.units) == {"first", path}
  assert f"scale of {path} " in text and "cannot be absorbed" in text


def test_a_model_without_a_layer_that_can_be_absorbed() -> None:
  model = Net(lambda: OwnRelu(name="d"))
  variables = model.init(jax.random.key(0), X)
  with pytest.raises(ValueError, match="nothing is left to lock: .* of d "):
    keyjax.hpnn(model.apply).keygen(SECRET, variables, {"image": X})


class Step(nn.Module):
  bad: bool

  @nn.compact
  def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
    x = nn.relu(Sub(8, name="ok")(x))
    if self.bad:
      x = x + nn.Einsum((8, 8), "bi,oi->bo", name="bad")(x)
    return x, None


@pytest.mark.parametrize("bad", [False, True])
def test_inside_a_scan(bad: bool) -> None:
  class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
      lifted = nn.scan(
        Step,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=2,
      )
      x, _ = lifted(bad, name="scan")(x, None)
      return nn.Dense(4, name="head")(x)

  variables = drawn(Scanned(), X)
  key, found = keygen(Scanned(), variables)
  assert list(key.units) == ["scan/ok"] and len(found) == bad
  assert_locked_and_absorbed(Scanned(), key, variables)


@pytest.mark.parametrize(
  ("norm", "fine"),
  [
    (lambda: nn.BatchNorm(use_running_average=True, name="n"), True),
    (
      lambda: nn.BatchNorm(use_running_average=True, use_bias=False, name="n"),
      True,
    ),
    (
      lambda: nn.BatchNorm(use_running_average=True, use_scale=False, name="n"),
      False,
    ),
    (lambda: nn.LayerNorm(use_scale=False, name="n"), False),
    (lambda: nn.GroupNorm(2, use_scale=False, name="n"), False),
  ],
)
def test_normalizations(norm: Callable[[], nn.Module], fine: bool) -> None:
  model = Net(norm, first=True)
  variables = drawn(model, X)
  key, found = keygen(model, variables, layers="first|n")
  if fine:
    assert not found
    assert_locked_and_absorbed(model, key, variables)
    return
  assert "n has no kernel or scale of its own" in "".join(found)
  with pytest.raises(ValueError, match="n has no weights to absorb"):
    hpnn.absorb(key, variables)


# -------------------------------------------------------- forms of weights


def test_quantized_weights_are_absorbed() -> None:
  model = Net(GOOD["subclass"])
  variables = quantize.quantize(drawn(model, X))
  floats = quantize.dequantize(variables)
  key, _ = keygen(model, floats)
  twin = quantize.dequantize(hpnn.absorb(key, variables))
  trees.assert_same_bits(twin, hpnn.absorb(key, floats))


def test_weights_in_another_form_are_refused() -> None:
  model = Net(GOOD["subclass"])
  variables = drawn(model, X)
  key, _ = keygen(model, variables)
  for kernel, message in (
    ((jnp.ones((8, 8)), jnp.ones(8)), "d/kernel is not an array"),
    (jnp.ones((8, 8), jnp.uint32), "d/kernel is uint32"),
    (jnp.ones((8, 8), jnp.int8), "d/kernel is int8"),
    (jnp.ones((8, 8), jnp.float8_e4m3fnuz), "float8_e4m3fnuz"),
    (np.ones((8, 8)), "d/kernel is float64: .* cast it"),
  ):
    variables["params"]["d"]["kernel"] = kernel
    with pytest.raises(ValueError, match=message):
      hpnn.absorb(key, variables)


def test_warnings_and_choice_do_not_depend_on_the_key() -> None:
  model = Net(BAD["tied"][0], first=True)
  variables = model.init(jax.random.key(0), X)
  texts = set()
  for secret in (Secret.generate(), Secret.generate()):
    scheme = keyjax.hpnn(model.apply, units=16)
    with pytest.warns(UserWarning) as found:
      key = scheme.keygen(secret, variables, {"image": X})
    assert list(key.units) == ["first"]
    texts |= {str(w.message) for w in found}
  assert len(texts) == 1
