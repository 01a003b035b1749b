"""A run of `experiments.privacy` on few models of few digits."""

import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

import keyjax
from experiments import privacy as job
from experiments.membership import plan
from experiments.run import config as configs
from experiments.run.config import scheme, set_schemes

SECRET = keyjax.Secret(bytes([7]) * 32)
NAMES = ("gap", "lira_fixed", "rmia")
Rows = list[dict[str, Any]]


def tiny(**fields: Any) -> ConfigDict:
  config = configs.base()
  config.name = "tiny"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs = 30.0
  config.train.batch_size = 32
  config.train.learning_rate = 1e-2
  config.num_test = 200
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    counter=scheme("deep_lock", "Deep-Lock", schedule="counter"),
    hpnn=scheme("hpnn", "HPNN"),
  )
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
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    return job.run(config, str(folder), secret=SECRET)
