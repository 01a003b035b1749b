r"""Which layers learn the key: what it changes inside a locked network.

    python -m experiments.interpret --config=configs/hpnn.py:mnist \
      --workdir=runs/mnist_hpnn

On a workdir of `experiments.main` with the same config, or a new one: what is
not trained yet is trained. For every scheme it compares activations with the
right key and without it (CKA), reads the label from each layer (linear
probes), retrains one layer of the stolen file alone, and compares saliency
maps. It appends rows to WORKDIR/interpret.jsonl, skips what is there, and draws
WORKDIR/interpret.html. docs/interpretability.md says what the figures mean.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import rich.console
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.attacking.targets import Targets
from experiments.interpretation import layers, subject
from experiments.interpretation.layers import Sizes
from experiments.protection import job as context
from experiments.protection.job import Rows, Run
from experiments.report import interpret as report
from experiments.run import flags as cli
from experiments.run import results
from keyjax.attacks.game import Target

_SHOWN = 6
_DEFAULT = Sizes()


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  sizes: Sizes = _DEFAULT,
) -> list[dict[str, Any]]:
  """Looks into every locked model of a config, and returns rows.

  Args:
    config: from a file in `configs/`; attacks in it are left alone.
    workdir: for rows and trained models; no key ever lies in it.
    keydir: for keys; `<workdir>.keys` by default.
    secret: see `experiments.main.run`.
    sizes: how much to measure.

  Raises:
    ValueError: the config or a folder is wrong, or its data are text.
    FileNotFoundError: the data set is not on this machine.
  """
  console = rich.console.Console()
  this = context.start(config, workdir, keydir, secret, console.print)
  if this.dataset.is_text:
    raise ValueError(
      f"dataset={this.dataset.name} is text; saliency and probes here are of "
      "images: choose a config with images"
    )
  targets, file = Targets(this), this.workdir.path / "interpret.jsonl"
  rows, drawn = results.read_rows(file), {}
  for label, spec in config.schemes.items():
    for new in _missing(this, targets, label, spec, sizes, rows):
      rows |= {row["row"]: row for row in new}
      results.append_rows(file, new)
    drawn[label] = _pictures(this, targets, label, spec)
  found = list(rows.values())
  page = this.workdir.path / "interpret.html"
  report.write(page, found, drawn)
  console.print(f"Rows:   {file}")
  console.print(f"Report: {page}")
  return found


def _missing(
  run: Run,
  targets: Targets,
  label: str,
  spec: ConfigDict,
  sizes: Sizes,
  rows: dict[str, Any],
) -> Iterator[Rows]:
  """Measures what the file does not hold yet, a metric at a time."""
  measures = layers.measures(run.dataset.num_classes)
  names = {metric: f"{label}/{metric}/{tuple(sizes)}" for metric in measures}
  begun = {name.rpartition("/")[0] for name in rows}
  wanted = [m for m in measures if names[m] not in begun]
  if not wanted:
    run.say(f"{label}: measured before")
    return
  target = targets.get(label)
  found = subject.conditions(run, spec, target, sizes.wrong)
  base = run.base | results.names(label, spec) | {"sizes": sizes._asdict()}
  for metric in wanted:
    start = time.monotonic()
    new = layers.complete(base, measures[metric](target, found, sizes))
    run.say(f"{label}: {metric}, {time.monotonic() - start:.0f} s")
    yield [r | {"row": f"{names[metric]}/{i}"} for i, r in enumerate(new)]


def _pictures(
  run: Run, targets: Targets, label: str, spec: ConfigDict
) -> dict[str, Any]:
  """Returns saliency maps of a model that was made for them alone."""
  file = run.workdir.folder(label) / "saliency.json"
  if not file.exists():
    target = targets.get(label)
    demo = subject.demonstration(run, label, spec, target)
    results.write_json(file, _maps(run, spec, demo))
  return json.loads(file.read_text())


def _maps(run: Run, spec: ConfigDict, demo: Target) -> dict[str, Any]:
  images, labels = demo.test.image[:_SHOWN], demo.test.label[:_SHOWN]
  shown: dict[str, Any] = {"image": run.dataset.test_images[:_SHOWN].tolist()}
  for condition in subject.conditions(run, spec, demo, wrong=1):
    found = subject.maps(demo, condition, images, labels)["smooth_grad"]
    shown[condition.name] = _grey(found).tolist()
  return shown


def _grey(maps: np.ndarray) -> np.ndarray:
  """Returns uint8[n, h, w, 1], each map from 0 to its largest value.

  A map that is not finite is black.
  """
  maps = np.nan_to_num(maps, nan=0, posinf=0, neginf=0).astype(np.float64)
  most = maps.max((1, 2), keepdims=True)
  scaled = maps / np.where(most > 0, most, 1)
  return np.round(255 * scaled).astype(np.uint8)[..., None]


def main(argv: list[str]) -> None:
  """Runs from the command line."""
  cli.serve(argv, run)


if __name__ == "__main__":
  app.run(main, flags_parser=cli.parse_flags)
