"""What all protections of a run share, and what it comes to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import check, data, models, results
from experiments.workdir import Workdir
from keyjax import keys, tree

KEYGEN_IMAGES = 1000
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
  """

  config: ConfigDict
  workdir: Workdir
  dataset: data.Dataset
  model: nn.Module
  base: dict[str, Any]
  say: Say


class Outcome(NamedTuple):
  """Rows for `results.json`, and what the report draws."""

  rows: Rows
  figures: dict[str, Any]


def start(
  config: ConfigDict,
  workdir: str,
  keydir: str,
  secret: keys.Secret | None,
  say: Say,
) -> Run:
  """Loads the data, checks the config, and claims the folders.

  Raises:
    ValueError: the config or a folder is wrong; the message says how.
    FileNotFoundError: the data set is not on this machine.
  """
  dataset = data.load(
    config.dataset,
    config.data_dir or None,
    config.num_train or None,
    config.num_test or None,
  )
  model = models.create(
    config.model,
    dataset.num_classes,
    dataset.mean,
    dataset.std,
    **dict(config.model_args),
  )
  # Before the workdir, so that a config with an error claims no folder.
  check.config(config, dataset, model)
  folders = Workdir(config, workdir, keydir, secret)
  base = results.provenance() | {
    "config": config.name,
    "dataset": dataset.name,
    "model": config.model,
    "classes": dataset.num_classes,
    "source": dataset.source,
  }
  return Run(config, folders, dataset, model, base, say)


def keygen_batch(run: Run) -> dict[str, jax.Array]:
  """Returns the first training images, for schemes whose keys look at data."""
  count = min(KEYGEN_IMAGES, len(run.dataset.train_labels))
  return {
    "image": data.to_float(jnp.asarray(run.dataset.train_images[:count])),
    "label": jnp.asarray(run.dataset.train_labels[:count]),
  }


def words(x: Any) -> np.ndarray:
  """Returns a leaf's bit patterns on the host."""
  if tree.lockable(x):
    x = tree.as_words(x)
  return np.asarray(x)


def same_bits(a: Any, b: Any) -> bool:
  """Tells whether two trees have the same dtypes and bit patterns."""
  same = [
    x.dtype == y.dtype and np.array_equal(words(x), words(y))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  ]
  return all(same)


def value(base: dict[str, Any], metric: str, value: float) -> dict[str, Any]:
  """Returns the row of one number without an interval."""
  return results.row(base, metric=metric, value=value)
