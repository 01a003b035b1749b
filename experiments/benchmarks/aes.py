"""AES: keystream and sealing on a CPU, against OpenSSL and the limits.

Rates are of output bytes, in GB/s. OpenSSL is fastest when it writes 64 KiB
pieces into memory that is mapped and in cache; inside `jit` memory is new as
well, so several sizes are shown. An accelerator runs the bit-sliced circuit; on
a CPU it is measured per second of processor time, that is, per core.
"""

import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from experiments.benchmarks import timing
from experiments.benchmarks.timing import Summary, exact, row
from keyjax import aes, seal
from keyjax.aes import bitslice

MIB = 1 << 20
# 64 int32 operations a clock and SM, 132 SMs, 1.755 GHz.
H200_OPS = 64 * 132 * 1.755e9
# 8 x 128 lanes, 2 units, 2 cores, 1.05 GHz: an assumption about TPU v4.
TPU_V4_OPS = 8 * 128 * 2 * 2 * 1.05e9
H200_BYTES = 4.8e12


def _openssl(buffer: np.ndarray, size: int) -> Callable[[], None]:
  """Return a function by which OpenSSL writes keystream piece by piece."""
  zeros = memoryview(bytes(size))
  view = buffer.data
  mode = modes.CTR(bytes(16))
  key = algorithms.AES(os.urandom(16))

  def run() -> None:
    stream = Cipher(key, mode).encryptor()
    for i in range(0, len(view), size):
      stream.update_into(zeros, view[i : i + size])

  return run


def _stream(size: int, key_bytes: int, impl: Any) -> Callable[[], jax.Array]:
  keys = aes.expand_key(os.urandom(key_bytes))
  zero = jnp.zeros(4, jnp.uint32)
  return lambda: aes.keystream(keys, zero, size // 16, impl=impl)


def keystream_rows(rounds: int) -> list[dict[str, Any]]:
  """Measure keystreams: OpenSSL, inside jit, bit-sliced."""
  small = 16 * MIB
  buffer = np.ones(small, np.uint8)
  encrypt = jax.jit(aes.xor_words)
  words = jnp.ones(4 * MIB, jnp.uint32)
  keys = aes.expand_key(os.urandom(16))
  zero = jnp.zeros(4, jnp.uint32)
  sliced = 4 * MIB
  times = timing.interleaved(
    {
      "openssl": _openssl(buffer, 1 << 16),
      "one call": _openssl(buffer, small),
      "jit 4": _stream(4 * MIB, 16, "auto"),
      "jit 16": _stream(small, 16, "auto"),
      "jit 64": _stream(64 * MIB, 16, "auto"),
      "xor 16": lambda: encrypt(keys, zero, [words]),
      "sliced 128": _stream(sliced, 16, "device"),
      "sliced 256": _stream(sliced, 32, "device"),
    },
    rounds,
  )
  best = times["openssl"].wall / small

  def gbps(name: str, size: int) -> Summary:
    return timing.rate(size / 1e9, times[name].wall)

  def share(name: str, size: int) -> Summary:
    return timing.summary(best / (times[name].wall / size))

  rows = [
    row("OpenSSL AES-128-CTR, 64 KiB pieces", gbps("openssl", small), "GB/s"),
    row("OpenSSL AES-128-CTR, one call", gbps("one call", small), "GB/s"),
  ]
  for mib in (4, 16, 64):
    name = f"in jit on a CPU, {mib} MiB"
    speed = gbps(f"jit {mib}", mib * MIB)
    rows.append(row(f"{name}: keystream", speed, "GB/s"))
    part = share(f"jit {mib}", mib * MIB)
    rows.append(row(f"{name}: of OpenSSL's best", part, "", ">= 0.5"))
  name = "in jit on a CPU, 16 MiB: encryption, of OpenSSL's best"
  rows.append(row(name, share("xor 16", small), "", ">= 0.5"))
  for bits in (128, 256):
    cpu = times[f"sliced {bits}"].cpu
    speed = timing.rate(sliced / 1e9, cpu)
    name = f"bit-sliced AES-{bits} on a CPU, a core"
    rows.append(row(name, speed, "GB/s", ">= 0.3" if bits == 128 else ""))
  return rows


def two_device_rows(rounds: int) -> list[dict[str, Any]]:
  """Measure two devices at once, if this process has two."""
  if jax.local_device_count() < 2:
    return []
  size = 16 * MIB
  buffer = np.ones(size, np.uint8)
  mapped = functools.partial(jax.pmap, devices=jax.local_devices()[:2])
  spread = mapped(lambda x: x)
  keys = spread(jnp.stack([aes.expand_key(os.urandom(16))] * 2))
  zero = spread(jnp.zeros((2, 4), jnp.uint32))
  words = spread(jnp.ones((2, size // 8), jnp.uint32))
  stream = mapped(functools.partial(aes.keystream, num_blocks=size // 32))
  encrypt = mapped(lambda k, c, x: aes.xor_words(k, c, [x])[0])
  times = timing.interleaved(
    {
      "openssl": _openssl(buffer, 1 << 16),
      "keystream": lambda: stream(keys, zero),
      "encryption": lambda: encrypt(keys, zero, words),
    },
    rounds,
  )
  note = "needs cryptography 50, and two idle cores"
  return [
    row(
      f"in jit on 2 devices: {name}, of OpenSSL's best",
      timing.ratio(times[name], times["openssl"]),
      "",
      target=">= 0.9",
      note=note,
    )
    for name in ("keystream", "encryption")
  ]


def seal_rows(rounds: int) -> list[dict[str, Any]]:
  """Measure chunked encryption: on the host, inside jit, bit-sliced."""
  size = 16 * MIB
  sliced = MIB
  key = os.urandom(32)
  data = os.urandom(size)
  sealed = seal.seal(key, data)
  derived = seal.seal_key(key, salt=sealed[:24])
  array = jnp.asarray(np.frombuffer(data, np.uint8))
  sealed_array = jnp.asarray(np.frombuffer(sealed, np.uint8))
  host_to, host_from = _jitted("host")
  device_to, device_from = _jitted("device")
  part = seal.seal_array(derived, array[:sliced], impl="host")
  functions: dict[str, tuple[Callable[[], Any], int]] = {
    "seal, on the host": (lambda: seal.seal(key, data), size),
    "unseal, on the host": (lambda: seal.unseal(key, sealed), size),
    "seal, in jit on a CPU": (lambda: host_to(derived, array), size),
    "unseal, in jit on a CPU": (lambda: host_from(derived, sealed_array), size),
    "seal, bit-sliced": (lambda: device_to(derived, array[:sliced]), sliced),
    "unseal, bit-sliced": (lambda: device_from(derived, part), sliced),
  }
  times = timing.interleaved({n: f for n, (f, _) in functions.items()}, rounds)
  return [
    row(f"Cobblestone-256 {n}", timing.rate(s / 1e9, times[n].wall), "GB/s")
    for n, (_, s) in functions.items()
  ]


def _jitted(impl: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
  return (
    jax.jit(functools.partial(seal.seal_array, impl=impl)),
    jax.jit(functools.partial(seal.unseal_array, impl=impl)),
  )


def compile_rows() -> list[dict[str, Any]]:
  """Measure the compilation for a tree of 200 leaves, and for another key."""
  leaves = [jnp.zeros((64, 8 + i % 7), jnp.uint32) for i in range(200)]
  zero = jnp.zeros(4, jnp.uint32)
  rows: list[dict[str, Any]] = []
  impls: tuple[Any, ...] = ("auto", "device")
  for impl in impls:
    traced: list[str] = []

    @jax.jit
    def fn(keys: jax.Array, leaves: list[jax.Array]) -> list[jax.Array]:
      traced.append(impl)  # noqa: B023
      return aes.xor_words(keys, zero, leaves, impl=impl)  # noqa: B023

    start = time.perf_counter()
    jax.block_until_ready(fn(aes.expand_key(os.urandom(16)), leaves))
    seconds = time.perf_counter() - start
    jax.block_until_ready(fn(aes.expand_key(os.urandom(16)), leaves))
    name = f'200 leaves, impl="{impl}"'
    rows += [
      row(f"{name}: first call", exact(seconds), "s", "<= 3"),
      row(f"{name}: programs for 2 keys", exact(len(traced)), "", "1"),
    ]
  return rows


def _gates(jaxpr: Any) -> int:
  """Count the 32-bit ANDs and XORs of a program, with loops unrolled."""
  total = 0
  for eqn in jaxpr.eqns:
    inner = [
      p.jaxpr
      for p in eqn.params.values()
      if isinstance(p, jax.extend.core.ClosedJaxpr)
    ]
    if eqn.primitive.name in ("and", "xor"):
      total += eqn.outvars[0].aval.size
    times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
    total += times * sum(map(_gates, inner))
  return total


def limit_rows() -> list[dict[str, Any]]:
  """Count operations, and what they allow on hardware that is not here."""
  rows = []
  for bits, rounds in ((128, 10), (256, 14)):
    masks = jnp.zeros((rounds + 1, 8, 16, 1), jnp.uint32)
    state = (jnp.zeros((16, 1), jnp.uint32),) * 8
    gates = _gates(jax.make_jaxpr(bitslice.accelerator_rounds)(masks, state))
    per_byte = gates / 512
    name = f"AES-{bits} circuit"
    rows += [
      row(f"{name}: operations", exact(per_byte), "32-bit op/B"),
      *(
        row(
          f"{name}: limit of {chip}",
          exact(ops / per_byte / 1e9),
          "GB/s",
          note="an estimate, not measured: integer units alone",
        )
        for chip, ops in (("an H200", H200_OPS), ("a TPU v4", TPU_V4_OPS))
      ),
    ]
  note = "an estimate, not measured: each byte written once"
  rows.append(
    row("limit of an H200's memory", exact(H200_BYTES / 1e9), "GB/s", note=note)
  )
  return rows


def rows(rounds: int = 9) -> Iterator[dict[str, Any]]:
  """Yield one row a measurement.

  Args:
    rounds: Number of times that each competitor runs.

  Yields:
    Rows with name, value, unit, low, high (quartiles), target and note.
  """
  yield from keystream_rows(rounds)
  yield from two_device_rows(rounds)
  yield from seal_rows(rounds)
  yield from compile_rows()
  yield from limit_rows()
