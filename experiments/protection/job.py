"""What all protections of a run share, and what it comes to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments import data, models
from experiments.protection import check
from experiments.run import encryption as people
from experiments.run import results
from experiments.run.encryption import NOBODY, People
from experiments.run.workdir import Workdir
from keyjax import Secret

KEYGEN_IMAGES = 1000
KEYGEN_LABELS = 8000  # Each character of a text has one.
Rows = list[dict[str, Any]]
Say = Callable[[str], None]


class Run(NamedTuple):
  """What all protections of a run share.

  Attributes:
    config: the whole config.
    workdir: the run's folders.
    dataset: the data.
    model: the linen module.
    base: fields of every row.
    say: prints a line.
    people: whom training checkpoints are sealed for.
  """

  config: ConfigDict
  workdir: Workdir
  dataset: data.Dataset
  model: nn.Module
  base: dict[str, Any]
  say: Say
  people: People = NOBODY


class Outcome(NamedTuple):
  """Rows for `results.json`, and what the report draws."""

  rows: Rows
  figures: dict[str, Any]


def start(
  config: ConfigDict,
  workdir: str,
  keydir: str,
  secret: Secret | None,
  say: Say,
) -> Run:
  """Loads the data, checks the config, and claims the folders.

  What the config says of attacks is left out: the folders belong to the locked
  models, and attacks may be added later.

  Raises:
    ValueError: the config or a folder is wrong; the message says how.
    FileNotFoundError: the data set is not on this machine.
  """
  config = ConfigDict({k: v for k, v in config.items() if k != "attacks"})
  dataset = data.from_config(config)
  model = models.from_config(config, dataset)
  # Before the workdir, so that a config with an error claims no folder.
  check.config(config, dataset, model)
  readers = people.read(config.encrypt)
  folders = Workdir(config, workdir, keydir, secret)
  base = results.provenance() | {
    "config": config.name,
    "dataset": dataset.name,
    "model": config.model,
    "classes": dataset.num_classes,
    "source": dataset.source,
  }
  return Run(config, folders, dataset, model, base, say, readers)


def keygen_batch(run: Run) -> dict[str, jax.Array]:
  """Returns the first examples, for schemes whose keys look at data."""
  most = max(1, KEYGEN_LABELS // run.dataset.labels_per_example)
  count = min(KEYGEN_IMAGES, most, len(run.dataset.train_labels))
  return {
    "image": data.to_input(jnp.asarray(run.dataset.train_images[:count])),
    "label": jnp.asarray(run.dataset.train_labels[:count]),
  }


def value(base: dict[str, Any], metric: str, value: float) -> dict[str, Any]:
  """Returns the row of one number without an interval."""
  return results.row(base, metric=metric, value=value)
