"""Measure speed, in one run so that ratios hold on a noisy machine.

    python -m experiments.benchmark                  all but the last ten
    python -m experiments.benchmark schemes          ciphers, and many keys
    python -m experiments.benchmark overhead         of steps and forward passes
    python -m experiments.benchmark overhead.inference    one part of it
    python -m experiments.benchmark checkpoint       sealed and plain, 5 minutes
    python -m experiments.benchmark aes --json=FILE  AES alone, rows to a file
    python -m experiments.benchmark data             sealed and tagged data sets
        against plain ones, read and trained on: 2 minutes
    python -m experiments.benchmark inputs           images a second of the host
    python -m experiments.benchmark release          unwraps a second, by TLS
    python -m experiments.benchmark scaling          1 to 8 virtual devices
    python -m experiments.benchmark tpu              estimates for TPUs, 1 hour
    python -m experiments.benchmark peers            sealed checkpoints against
        Orbax, safetensors, age, openssl, tensorizer and CryptoTensors, which it
        installs apart from KeyJAX: 10 minutes, 1 GB, the network the first time
    python -m experiments.benchmark parity           attacks on inputs against
        AutoAttack and Foolbox in PyTorch, installed in the same way: 1 hour
    python -m experiments.benchmark gridworlds       the off-switch gridworld
        against the original, step for step: a minute
    python -m experiments.benchmark membership       scores of LiRA and RMIA
        against the authors' code (`membership.scores`); shadow models side by
        side against one after another (`membership.speed`): 10 minutes
    python -m experiments.benchmark pretrained       SmolLM2 against llama.cpp,
        installed in the same way: tokens, logits, answers, speed; MiniLM, MTCNN
        and PP-OCR against PyTorch and ONNX Runtime (`pretrained.others`):
        outputs; the file of SmolLM2, encrypted, against age
        (`pretrained.ciphers`); 20 minutes

Each row is a median over rounds in which competing functions run in turn; the
range is the quartiles. Targets are shown next to the measurements, reached or
not. Medians are printed as they are measured, the table at the end.

What to type next:
    --rounds=21       more rounds, narrower ranges
    --json=FILE       rows with command, commit, hardware and date
    --programs=bfloat16    only the programs of `tpu` whose names match
    --networks=mnist,gtsrb    networks of `parity`
    --reference=DIR   checkout of AutoAttack for `parity`, without a network
    --lira=DIR --rmia=DIR    checkouts for `membership.scores`, likewise
    --original=DIR    checkout of ai-safety-gridworlds for `gridworlds`
"""

import pathlib
import sys

import jax
import rich.console
import rich.table
from absl import app, flags

from experiments.benchmarks import (
  aes,
  checkpoint,
  data,
  inputs,
  overhead,
  release,
  scaling,
  schemes,
  tpu,
)
from experiments.benchmarks.gridworlds import comparison as gridworlds
from experiments.benchmarks.membership import comparison as membership
from experiments.benchmarks.parity import comparison as parity
from experiments.benchmarks.peers import comparison as peers
from experiments.benchmarks.pretrained import comparison as pretrained
from experiments.run import results

_JSON = flags.DEFINE_string("json", "", "File for the rows; none by default.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds, at least 3.", 3)
SECTIONS = {
  "schemes": schemes.rows,
  **{f"schemes.{name}": rows for name, rows in schemes.PARTS.items()},
  "overhead": overhead.rows,
  **{f"overhead.{name}": rows for name, rows in overhead.PARTS.items()},
  "aes": aes.rows,
  "checkpoint": checkpoint.rows,
  "data": data.rows,
  "inputs": inputs.rows,
  "release": release.rows,
  "scaling": scaling.rows,
  "tpu": tpu.rows,
  "peers": peers.rows,
  "parity": parity.rows,
  "gridworlds": gridworlds.rows,
  "membership": membership.rows,
  **{f"membership.{name}": rows for name, rows in membership.PARTS.items()},
  "pretrained": pretrained.rows,
  **{f"pretrained.{name}": rows for name, rows in pretrained.PARTS.items()},
}
# Not those whose packages are installed separately, nor the speeds of virtual
# devices and of the host, which few users need.
DEFAULT = ("schemes", "overhead", "aes", "checkpoint")


def main(argv: list[str]) -> None:
  """Run the sections that are named, or those of `DEFAULT`."""
  names = argv[1:] or list(DEFAULT)
  unknown = sorted(set(names) - set(SECTIONS))
  if unknown:
    known = ", ".join(SECTIONS)
    sys.exit(f"error: unknown section {', '.join(unknown)}; known: {known}")
  if "aes" in names:  # One of its measurements needs two devices.
    jax.config.update("jax_num_cpu_devices", 2)
  base = results.provenance()
  rows = []
  console = rich.console.Console()
  for name in names:
    for made in SECTIONS[name](_ROUNDS.value):
      rows.append(base | {"section": name} | made)
      console.print(f"{made['name']}: {_median(made)}", highlight=False)
      if _JSON.value:  # Row by row: a section may take an hour.
        results.write_json(pathlib.Path(_JSON.value), rows)
  console.print(_table(rows))


def _table(rows: list[dict]) -> rich.table.Table:
  title = f"{rows[0]['hardware']}, commit {rows[0]['commit']}"
  table = rich.table.Table(title=title)
  for name in ("what", "median", "quartiles", "target"):
    table.add_column(
      name, justify="left" if name == "what" else "right", overflow="fold"
    )
  for r in rows:
    span = f"{r['low']:.3g} - {r['high']:.3g}"
    table.add_row(r["name"], _median(r), span, r["target"])
  return table


def _median(row: dict) -> str:
  return f"{row['value']:.3g} {row['unit']}"


if __name__ == "__main__":
  app.run(main)
