"""A run of `experiments.privacy` on few models of few digits."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from experiments import privacy
from experiments.membership import plan
from tests.experiments import small_job
from tests.experiments.small_job import Rows

NAMES = ("gap", "lira_fixed", "rmia")


def tiny(**fields: Any) -> ConfigDict:
  config = small_job.config(hidden=16, epochs=30.0)
  config.num_test = 200
  chosen = {
    "pool": 120,
    "noise": 0.3,
    "models": 9,
    "targets": 1,
    "wrong_keys": 1,
    "attacks": NAMES,
    "replies": ("label",),
    "trainings": {"early": {"epochs": 2.0}},
  }
  plan.configure(config, **{**chosen, **fields})
  return config


def run(config: ConfigDict, folder: pathlib.Path) -> Rows:
  return small_job.run(privacy, config, folder)
