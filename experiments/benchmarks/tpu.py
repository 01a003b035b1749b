"""Estimates for TPU slices: programs compiled ahead of time, without a TPU.

XLA's TPU compiler (`pip install "jax[tpu]"`) compiles for a slice that is not
attached, and reports what a chip would compute, hold and send. With the
published peaks of a chip this gives lower bounds on a step's time, not times.
`pytest -m tpu_aot` checks all programs (`experiments.benchmarks.programs`).

References:
  Google Cloud, "TPU v4", "v5e", "v5p", "v6e" (peaks of a chip), 2026.
"""

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.experimental import topologies

from experiments.benchmarks import programs

_PROGRAMS = flags.DEFINE_string(
  "programs", "", "Pattern of names of TPU programs; all by default."
)
# Slices of 256 chips, and the network compiled for each: XLA takes a minute or
# more for a ResNet-18, and the smaller network shows the same collectives.
SLICES = {
  "v5e:16x16": "resnet18",
  "v6e:16x16": "cnn",
  "v4:4x8x8": "cnn",
  "v5p:4x8x8": "cnn",
}
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}


class Chip(NamedTuple):
  """Peak operations, memory bytes and sent bytes a second of a chip."""

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
  """What the compiler reports about a program, per chip.

  Attributes:
    flops: Operations.
    read: Bytes that its kernels read and write.
    held: Bytes of memory: arguments, results and temporaries.
    collectives: Bytes that each kind of collective sends.
  """

  flops: float
  read: float
  held: int
  collectives: dict[str, int]


def devices(name: str) -> list[jax.Device]:
  """Return the chips of a slice such as `v5e:16x16`.

  Raises:
    RuntimeError: If there is no TPU compiler, or it does not know the slice.
  """
  try:
    found = topologies.get_topology_desc(platform="tpu", topology_name=name)
  except Exception as error:
    raise RuntimeError(
      f'no compiler for {name}: pip install "jax[tpu]"; {error}'
    ) from None
  return list(found.devices)


def figures(compiled: Any) -> Figures:
  """Return the figures of a compiled program."""
  cost = compiled.cost_analysis()
  memory = compiled.memory_analysis()
  held = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
    - memory.alias_size_in_bytes
  )
  sent = dict(collectives(compiled.as_text()))
  return Figures(
    flops=cost["flops"],
    read=cost["bytes accessed"],
    held=held,
    collectives=sent,
  )


def collectives(text: str) -> Iterator[tuple[str, int]]:
  """Yield the kinds of collectives in a program, and their bytes.

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


def bounds(figures: Figures, chip: Chip, count: int) -> dict[str, float]:
  """Return the least seconds that each limit leaves a program.

  A ring sends every byte of an all-reduce twice, less one share.
  """
  share = (count - 1) / count
  sent = sum(
    (2 if kind == "all-reduce" else 1) * share * size
    for kind, size in figures.collectives.items()
  )
  return {
    "compute": figures.flops / chip.flops,
    "memory": figures.read / chip.memory,
    "network": sent / chip.network,
  }


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Compile all programs for all slices."""
  del rounds  # Unused: nothing is timed.
  for name, net in SLICES.items():
    chips = devices(name)
    for title, make in programs.shown(chips, net).items():
      title = f"{name} {net}: {title}"
      if not re.search(_PROGRAMS.value, title):
        continue
      start = time.perf_counter()
      found = figures(make())
      seconds = time.perf_counter() - start
      limits = bounds(found, CHIPS[name.split(":")[0]], len(chips))
      which = max(limits, key=lambda k: limits[k])
      ms = 1e3 * limits[which]
      sent = ", ".join(f"{k} {v:,}" for k, v in found.collectives.items())
      yield {
        "name": title,
        "value": ms,
        "low": ms,
        "high": ms,
        "unit": "ms at least",
        "target": f"{which} bound; {sent or 'no collective'}",
        "note": "estimate from the compiled program, not a time",
        "chips": len(chips),
        "compile_seconds": seconds,
        "bounds": limits,
        **found._asdict(),
      }
