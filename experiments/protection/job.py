"""The job that all protections of a config share, and its outcomes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import data, models
from experiments.protection import check, weights
from experiments.protection.lock import Lock, build_all
from experiments.run import encryption, results
from experiments.run.encryption import UNENCRYPTED, Encryption
from experiments.run.workdir import Workdir
from experiments.training import dp
from keyjax import Secret, tasks
from keyjax.tasks import Task

KEYGEN_IMAGES = 1000
KEYGEN_LABELS = 8000  # Each character of a text has one.
# Each pixel of a mask has a label; pairs are for large encoders.
KEYGEN_OF_TASK = {"masks": 64, "pairs": 16}
Rows = list[dict[str, Any]]


class Job(NamedTuple):
  """What all protections of a config share.

  Attributes:
    config: Whole config, without attacks.
    workdir: Folders of the run.
    dataset: Data to train and test on.
    model: Linen module.
    task: What the model is asked to do.
    locks: Protection by label, in the order of `config.schemes`.
    row_base: Fields of every row.
    log: Function that prints a line.
    encryption: Keys of the training checkpoints.
    initial: Variables of `config.weights`, on the host; None to start from
      random ones.
  """

  config: ConfigDict
  workdir: Workdir
  dataset: data.Dataset
  model: nn.Module
  task: Task
  locks: Mapping[str, Lock]
  row_base: dict[str, Any]
  log: Callable[[str], None]
  encryption: Encryption = UNENCRYPTED
  initial: Any = None

  def noise_secret(self, label: str) -> Secret:
    """Return the secret of the batches and the noise of a private training.

    No other run has it, not even one with the same secret: the difference of
    two models with the same noise would show their examples.
    """
    return self.workdir.secret.child(f"dp/{self.workdir.run_id}/{label}")

  @property
  def trains(self) -> bool:
    """Whether the plain model is trained, not taken as it is."""
    return self.initial is None or self.config.train.epochs > 0


class Outcome(NamedTuple):
  """Rows for `results.json`, and figures for the report."""

  rows: Rows
  figures: dict[str, Any]


def open_job(
  config: ConfigDict,
  workdir: str,
  keydir: str,
  secret: Secret | None,
  log: Callable[[str], None],
) -> Job:
  """Load the data, check the config, build the locks, and claim the folders.

  Attacks in the config are ignored: the folders belong to the locked models,
  and attacks may be added later.

  Args:
    config: Config from a file in `configs/`.
    workdir: Folder for results; see `Workdir`.
    keydir: Folder for keys; see `Workdir`.
    secret: Secret that keys are derived from; see `Workdir`.
    log: Function that prints a line.

  Raises:
    ValueError: If the config or a folder is wrong; the message says how.
    FileNotFoundError: If the data set is not on this machine.
  """
  config = ConfigDict({k: v for k, v in config.items() if k != "attacks"})
  dataset = data.from_config(config, weights.tokenizer(config))
  task = tasks.get(dataset.task)
  model = models.from_config(config, dataset)
  # Before the workdir, so that a config with an error claims no folder.
  locks = build_all(config.schemes, model, task)
  check.check_config(config, dataset, model, locks)
  contents = weights.digests(config)
  initial = weights.load(config, dataset, model)
  dataset = weights.answered(config, dataset, model, initial)
  checkpoint_keys = encryption.read(config.encrypt)
  row_base = results.provenance() | {
    "config": config.name,
    "dataset": dataset.name,
    "model": config.model,
    "classes": dataset.num_classes,
    "source": dataset.source,
    "unit_of_labels": dataset.unit,
    "judged_by": task.metric,
    "chance": task.chance(dataset.num_classes),
  }
  if contents:
    row_base["contents"] = contents
  if config.train.dp.on:
    row_base["privacy"] = dp.guarantee(config.train, dataset).fields()
  return Job(
    config=config,
    workdir=Workdir(config, workdir, keydir, secret, contents),
    dataset=dataset,
    model=model,
    task=task,
    locks=locks,
    row_base=row_base,
    log=log,
    encryption=checkpoint_keys,
    initial=initial,
  )


def scheme_base(job: Job, label: str) -> dict[str, Any]:
  """Return the fields of every row of one protection."""
  return job.row_base | results.names(label, job.config.schemes[label])


def keygen_batch(job: Job, limit: int = KEYGEN_IMAGES) -> dict[str, jax.Array]:
  """Return the first training examples, for keys that depend on data.

  Of a private training, random ones: the guarantee does not cover keys.

  Args:
    job: The job.
    limit: Largest number of examples.
  """
  most = max(1, KEYGEN_LABELS // job.dataset.labels_per_example)
  most = KEYGEN_OF_TASK.get(job.dataset.task, most)
  count = min(limit, most, len(job.dataset.train_labels))
  images = job.dataset.train_images[:count]
  labels = job.dataset.train_labels[:count]
  if job.config.train.dp.on:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=images.shape).astype(images.dtype)
    labels = np.zeros_like(labels)
  return {
    "image": data.to_input(jnp.asarray(images)),
    "label": jnp.asarray(labels),
  }
