r"""Which layers learn the key: what it changes inside a locked network.

    python -m experiments.interpret --config=configs/hpnn.py:mnist \
      --workdir=runs/mnist_hpnn

The workdir is that of `experiments.main` with the same config, or a new one:
missing models are trained. For every scheme it compares activations with the
right key and without it (CKA), reads the label from each layer (linear
probes), retrains one layer of the stolen file alone, and compares saliency
maps. It appends rows to WORKDIR/interpret.jsonl, skips those that exist, and
draws WORKDIR/interpret.html. docs/interpretability.md explains the figures.
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
from experiments.interpretation import layers
from experiments.interpretation.conditions import conditions, saliency_maps
from experiments.interpretation.demonstration import demonstration
from experiments.interpretation.layers import Sizes
from experiments.protection.job import Job, Rows, open_job, scheme_base
from experiments.report import interpret as report
from experiments.run import flags as run_flags
from experiments.run import results
from keyjax.attacks.game import Target

_PICTURES = 6
_DEFAULT = Sizes()


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
  sizes: Sizes = _DEFAULT,
) -> list[dict[str, Any]]:
  """Measure every locked model of a config, and return the rows.

  Args:
    config: Config from a file in `configs/`; its attacks are ignored.
    workdir: Folder for rows and trained models; no key is ever stored in it.
    keydir: Folder for keys; `<workdir>.keys` by default.
    secret: Secret that keys are derived from; see `experiments.main.run`.
    sizes: Sizes of the measurements.

  Raises:
    ValueError: If the config or a folder is wrong, or if the data are text.
    FileNotFoundError: If the data set is not on this machine.
  """
  console = rich.console.Console()
  if not config.train.epochs:
    raise ValueError(
      "train.epochs=0: saliency maps are of a model that is trained for them, "
      "as they would show those of the locked one"
    )
  job = open_job(config, workdir, keydir, secret, console.print)
  if job.dataset.is_text:
    raise ValueError(
      f"dataset={job.dataset.name} is text, and saliency and probes here are "
      "of images: choose a config with images"
    )
  targets = Targets(job)
  file = job.workdir.path / "interpret.jsonl"
  rows = results.read_rows(file)
  pictures = {}
  for label in job.locks:
    for new in _missing_rows(job, targets, label, sizes, rows):
      rows |= {row["row"]: row for row in new}
      results.append_rows(file, new)
    pictures[label] = _pictures(job, targets, label)
  page = job.workdir.path / "interpret.html"
  report.write(page, list(rows.values()), pictures)
  console.print(f"Rows:   {file}")
  console.print(f"Report: {page}")
  return list(rows.values())


def _missing_rows(
  job: Job,
  targets: Targets,
  label: str,
  sizes: Sizes,
  rows: dict[str, Any],
) -> Iterator[Rows]:
  """Measure what the file does not have yet, one metric at a time."""
  measures = layers.measures(job.dataset.num_classes)
  names = {metric: f"{label}/{metric}/{tuple(sizes)}" for metric in measures}
  existing = {name.rpartition("/")[0] for name in rows}
  missing = [m for m in measures if names[m] not in existing]
  if not missing:
    job.log(f"{label}: measured before")
    return
  target = targets.get(label)
  found = conditions(job, label, target, sizes.wrong)
  base = scheme_base(job, label) | {"sizes": sizes._asdict()}
  for metric in missing:
    start = time.monotonic()
    new = layers.with_base(base, measures[metric](target, found, sizes))
    job.log(f"{label}: {metric}, {time.monotonic() - start:.0f} s")
    yield [r | {"row": f"{names[metric]}/{i}"} for i, r in enumerate(new)]


def _pictures(job: Job, targets: Targets, label: str) -> dict[str, Any]:
  """Return saliency maps of a model that was made only for them."""
  file = job.workdir.folder(label) / "saliency.json"
  if not file.exists():
    model = demonstration(job, label, targets.get(label))
    results.write_json(file, _draw(job, label, model))
  return json.loads(file.read_text())


def _draw(job: Job, label: str, model: Target) -> dict[str, Any]:
  images = model.test.image[:_PICTURES]
  labels = model.test.label[:_PICTURES]
  drawn: dict[str, Any] = {
    "image": job.dataset.test_images[:_PICTURES].tolist()
  }
  for condition in conditions(job, label, model, wrong=1):
    maps = saliency_maps(model, condition, images, labels)
    drawn[condition.name] = _grey(maps["smooth_grad"]).tolist()
  return drawn


def _grey(maps: np.ndarray) -> np.ndarray:
  """Scale each map from 0 to its largest value.

  Args:
    maps: float[n, h, w]; values that are not finite become black.

  Returns:
    uint8[n, h, w, 1].
  """
  maps = np.nan_to_num(maps, nan=0, posinf=0, neginf=0).astype(np.float64)
  most = maps.max((1, 2), keepdims=True)
  scaled = maps / np.where(most > 0, most, 1)
  return np.round(255 * scaled).astype(np.uint8)[..., None]


def main(argv: list[str]) -> None:
  """Run from the command line."""
  run_flags.run_command(argv, run)


if __name__ == "__main__":
  app.run(main, flags_parser=run_flags.parse_flags)
