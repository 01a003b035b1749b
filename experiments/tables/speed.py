"""Tables of speed in README and docs, from files of `experiments.benchmark`."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from experiments.tables import headlines, markdown

_AGAINST = re.compile(r"(.*), KeyJAX / (.*): (time|processor time)")
_OURS = "1 GiB in 200 leaves, KeyJAX"
_INSIDE = "decrypts inside: forward pass / plain"
_AHEAD = "decrypted once, ahead: forward pass / plain"
# What README says of speed: what, against what, the name of the row.
_SPEED = (
  ("sealed save, 1 GiB in 200 leaves", "Orbax", f"save {_OURS} / Orbax: time"),
  (
    "",
    "Orbax, uncompressed",
    f"save {_OURS} / Orbax uncompressed: time",
  ),
  (
    "sealed restore, 1 GiB in 200 leaves",
    "Orbax",
    f"restore {_OURS} / Orbax: time",
  ),
  (
    "",
    "Orbax, uncompressed",
    f"restore {_OURS} / Orbax uncompressed: time",
  ),
  (
    "sealed save, 5,000 leaves of 64 KiB",
    "Orbax",
    "save 5,000 leaves of 64 KiB, KeyJAX / Orbax: time",
  ),
  (
    "sealed restore, 5,000 leaves of 64 KiB",
    "Orbax",
    "restore 5,000 leaves of 64 KiB, KeyJAX / Orbax: time",
  ),
  *(
    (
      f"Deep-Lock, counter mode, decrypts inside a pass: {net}",
      "plain pass",
      f"{net}: Deep-Lock counter, float32, {_INSIDE}",
    )
    for net in (
      "ResNet-18, batch 128",
      "MNIST CNN, batch 128",
      "MNIST CNN, batch 1",
      "MLP of 10 M, batch 128",
      "MLP of 10 M, batch 1",
    )
  ),
  (
    "... decrypted once, ahead: MLP of 10 M, batch 1",
    "plain pass",
    f"MLP of 10 M, batch 1: Deep-Lock counter, float32, {_AHEAD}",
  ),
  (
    "training step under HPNN: ResNet-18 width 16, batch 32",
    "plain step",
    "ResNet-18 width 16, batch 32: HPNN step / plain step",
  ),
)


def speed(results: pathlib.Path) -> list[str]:
  """Return the short table of what a lock costs on a CPU."""
  names = ("peers", "overhead_inference", "overhead_small", "overhead_training")
  found: dict[str, Mapping[str, Any]] = {}
  origins = []
  for name in names:
    rows = headlines.read(results / f"{name}.json")
    found |= {row["name"]: row for row in rows}
    origins += [_origin(row) for row in rows[:1]]
  made = [
    [what, against, _span(found[name])]
    for what, against, name in _SPEED
    if name in found
  ]
  head = ("on a CPU", "against", "times")
  return [*markdown.lines(head, made), "", *origins] if made else []


def peers(results: pathlib.Path) -> list[str]:
  """Return the table of sealed checkpoints against what else there is."""
  rows = headlines.read(results / "peers.json")
  ratios: dict[tuple[str, str], str] = {}
  for row in rows:
    if found := _AGAINST.fullmatch(row["name"]):
      action, tool, kind = found.groups()
      ratios[tool, f"{action}: {kind}"] = _span(row)
  tools = dict.fromkeys(tool for tool, _ in ratios)
  kinds = dict.fromkeys(kind for _, kind in ratios)
  made = [
    [tool, *(ratios.get((tool, kind), "") for kind in kinds)] for tool in tools
  ]
  head = ("KeyJAX, times", *kinds)
  return [*markdown.lines(head, made), "", *map(_origin, rows[:1])]


def data(results: pathlib.Path) -> list[str]:
  """Return the table of sealed and tagged records against plain ones."""
  rows = headlines.read(results / "data.json")
  cells = [
    [*row["name"].removeprefix("data, ").split(", "), _span(row)]
    for row in rows
    if row["unit"] == "x"
  ]
  head = ("records", "images", "images a second, times")
  return [*markdown.lines(head, cells), "", *map(_origin, rows[:1])]


def _span(row: Mapping[str, Any]) -> str:
  return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def _origin(row: Mapping[str, Any]) -> str:
  return (
    f"- `{row['command']}`: commit {row['commit']}; {row['hardware']}; "
    f"{row['date'][:10]}; medians and quartiles of the rounds' ratios."
  )
