"""Short runs of the trainer on a few digits."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.run.config import base
from experiments.training import train

DIGITS = data.load("digits", num_train=128, num_test=10)


def create(name: str = "mlp", **options: Any) -> models.Classifier:
  options = options or {"hidden": (12,)}
  return models.create(name, 10, DIGITS.mean, DIGITS.std, **options)


def settings(**fields: Any) -> ConfigDict:
  """Return six steps of 64 rows, and a checkpoint after every second one."""
  config = base().train
  config.update(batch_size=64, epochs=3.0, checkpoint_every=2, log_every=1)
  config.update(fields)
  return config


def fit(
  folder: pathlib.Path,
  config: ConfigDict,
  model: models.Classifier,
  scheme: keyjax.Scheme | None = None,
  key: Any = (),
) -> Any:
  scheme = scheme or keyjax.identity()
  return train.train(
    config,
    dataset=DIGITS,
    model=model,
    scheme=scheme,
    key=key,
    folder=folder,
  )
