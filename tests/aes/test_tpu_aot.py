"""The public functions compile for TPU slices, on a machine without a TPU.

Run by hand: `pip install "jax[tpu]"`, then `pytest -m tpu_aot tests/aes`.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from keyjax import aes, seal
from keyjax.aes import bitslice, block, prng, tpu
from keyjax.secrets import Secret

pytestmark = pytest.mark.tpu_aot
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
TOPOLOGIES = ("v5e:4x4", "v6e:4x4")
# Rates of a chip a second: 32-bit operations (4 units of 8 x 128 lanes at the
# clock implied by the peak of its matrix units, an assumption), bytes of HBM.
CHIPS = {
  "TPU v5 lite": (4 * 1024 * 1.5e9, 819e9),
  "TPU v6 lite": (4 * 1024 * 1.75e9, 1640e9),
}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def mesh(request):
  pytest.importorskip("libtpu")
  try:
    topology = topologies.get_topology_desc(
      platform="tpu", topology_name=request.param
    )
  except Exception as error:  # No libtpu, or one without this slice.
    pytest.skip(f"no compiler for {request.param}: {error}")
  return Mesh(np.array(topology.devices).reshape(-1), "x")


def compiled(mesh, fn, *shapes):
  """Compile `fn` with its arguments on every chip."""
  whole = NamedSharding(mesh, P())
  args = [
    jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shape
    )
    for shape in shapes
  ]
  return jax.jit(fn).lower(*args).compile()


KEYS = jax.ShapeDtypeStruct((11, 4), jnp.uint32)
KEYS_256 = jax.ShapeDtypeStruct((15, 4), jnp.uint32)
COUNTER = jax.ShapeDtypeStruct((4,), jnp.uint32)


def u8(n):
  return jax.ShapeDtypeStruct((n,), jnp.uint8)


FUNCTIONS = {
  "expand_key": (aes.expand_key, u8(32)),
  "keystream": (
    functools.partial(aes.keystream, num_blocks=1 << 18),
    KEYS,
    COUNTER,
  ),
  "keystream 256": (
    functools.partial(aes.keystream, num_blocks=1 << 18),
    KEYS_256,
    COUNTER,
  ),
  "decrypt_blocks": (
    aes.decrypt_blocks,
    KEYS,
    jax.ShapeDtypeStruct((64, 4), jnp.uint32),
  ),
  "gcm_seal": (aes.gcm_seal, KEYS, u8(12), u8(1000), u8(5)),
  "gcm_open": (aes.gcm_open, KEYS, u8(12), u8(1000), u8(16), u8(5)),
  "derive": (lambda k: aes.derive(k, "label", 40), KEYS),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiles_for_a_slice(mesh, name):
  fn, *shapes = FUNCTIONS[name]
  program = compiled(mesh, fn, *shapes)
  text = program.as_text()
  assert not any(x in text for x in COLLECTIVES)
  assert "callback" not in text


def costs(mesh, fn, *shapes):
  """Return operations and bytes of a program, counting loop bodies once."""
  found = compiled(mesh, fn, *shapes).cost_analysis()
  return np.array([found["flops"], found["bytes accessed"]])


def test_estimated_rate(mesh, capsys):
  lanes, rounds = block.ACCELERATOR_LANES, 10
  tile = functools.partial(aes.keystream, num_blocks=32 * lanes)
  planes = [jax.ShapeDtypeStruct((16, lanes), jnp.uint32)] * 8

  def two_rounds(masks, *state):
    return bitslice.accelerator_rounds(masks, state)

  masks = jax.ShapeDtypeStruct((3, 8, 16, 1), jnp.uint32)
  # Half of two rounds approximates a body of the loop, which is counted once.
  body = costs(mesh, two_rounds, masks, *planes) / 2
  total = costs(mesh, tile, KEYS, COUNTER) + (rounds - 2) * body
  kind = mesh.devices.flat[0].device_kind
  size = 512 * lanes
  ops, memory = size / (total / CHIPS[kind]) / 1e9
  assert 1 < min(ops, memory) < 1000
  with capsys.disabled():
    print(
      f"\n{kind}, AES-128-CTR, an estimate, not measured: at most {ops:.0f} "
      f"GB/s by {total[0] / size:.0f} operations a byte, {memory:.0f} GB/s "
      f"if all {total[1] / size:.0f} bytes a byte went through HBM"
    )


def kernel_bytes(text):
  """Return the bytes of the inputs and outputs of the kernels of a program."""
  shape_of = dict(re.findall(r"%([\w.\-]+) = u32\[([\d,]+)\]", text))
  total = 0
  for name, args in re.findall(
    r'%([\w.\-]+) = .* custom-call\((.*?)\), custom_call_target="tpu_custom',
    text,
  ):
    for x in (name, *re.findall(r"%([\w.\-]+)", args)):
      total += 4 * math.prod(map(int, shape_of[x].split(",")))
  return total


def draw(data):
  key = jax.random.wrap_key_data(data, impl=prng.impl)
  return jax.random.bits(key, (1 << 24,))


# Functions, the shapes of their inputs, and the bytes they have to move.
MOVED = {
  "keystream": (
    functools.partial(aes.keystream, num_blocks=1 << 22),
    (KEYS, COUNTER),
    1 << 26,
  ),
  "keystream 256": (
    functools.partial(aes.keystream, num_blocks=1 << 22),
    (KEYS_256, COUNTER),
    1 << 26,
  ),
  "pads": (
    lambda k, c: aes.pads(k, c, [jax.ShapeDtypeStruct((1 << 24,), jnp.uint32)]),
    (KEYS, COUNTER),
    1 << 26,
  ),
  "random bits": (draw, (jax.ShapeDtypeStruct((8,), jnp.uint32),), 1 << 26),
  "encrypt_blocks": (
    tpu.encrypt_blocks,
    (KEYS, jax.ShapeDtypeStruct((1 << 22, 4), jnp.uint32)),
    2 << 26,
  ),
}


@pytest.mark.parametrize("name", MOVED)
def test_the_state_stays_on_the_chip(mesh, name, capsys):
  fn, shapes, least = MOVED[name]
  chip = Mesh(mesh.devices[:1], "x")
  program = compiled(chip, fn, *shapes)
  # XLA counts no bytes for a kernel.
  rest = program.cost_analysis()["bytes accessed"]
  moved = kernel_bytes(program.as_text())
  with capsys.disabled():
    kind = chip.devices.flat[0].device_kind
    print(f"\n{kind}, {name}: {(moved + rest) / least:.3f} of {least} bytes")
  assert least <= moved
  assert moved + rest < 1.1 * least


def test_sealing_compiles_for_a_slice(mesh):
  key = jax.eval_shape(lambda: seal.seal_key(bytes(32), salt=bytes(24)))
  program = compiled(mesh, seal.seal_array, key, u8(100_000))
  assert not any(x in program.as_text() for x in COLLECTIVES)


def test_random_bits_compile_for_a_slice(mesh):
  rng = prng.from_secret(Secret(bytes(32)), "test")
  data = jax.ShapeDtypeStruct((8,), jnp.uint32)

  def draw(data):
    key = jax.random.wrap_key_data(data, impl=prng.impl)
    return jax.random.normal(jax.random.fold_in(key, 1), (1000,))

  assert jax.random.key_data(rng).shape == data.shape
  compiled(mesh, draw, data)


def test_a_sharded_tree_needs_no_communication(mesh):
  shardings = [NamedSharding(mesh, P("x")), NamedSharding(mesh, P(None, "x"))]
  leaves = [
    jax.ShapeDtypeStruct((64, 128), jnp.uint32, sharding=shardings[0]),
    jax.ShapeDtypeStruct((3, 256), jnp.uint16, sharding=shardings[1]),
  ]
  whole = NamedSharding(mesh, P())
  args = [
    jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole)
    for x in (KEYS, COUNTER)
  ]
  fn = jax.jit(functools.partial(aes.xor_words, shardings=shardings))
  text = fn.lower(*args, leaves).compile().as_text()
  assert not any(x in text for x in COLLECTIVES)
