"""A small network of the digits under three locks, and runs of it."""

import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

import keyjax
from experiments.run import config as configs
from experiments.run.config import scheme, set_schemes

SECRET = keyjax.Secret(bytes([7]) * 32)
Rows = list[dict[str, Any]]


def config(hidden: int, epochs: float) -> ConfigDict:
  """Return the config of an MLP, without a lock and with two."""
  made = configs.base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (hidden,)
  made.train.epochs = epochs
  made.train.batch_size = 32
  made.train.learning_rate = 1e-2
  set_schemes(
    made,
    none=scheme("identity", "no lock"),
    counter=scheme("deep_lock", "Deep-Lock", schedule="counter"),
    hpnn=scheme("hpnn", "HPNN"),
  )
  return made


def run(job: Any, config: ConfigDict, folder: pathlib.Path) -> Rows:
  """Run a command as its users do, with keys that are always the same."""
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    rows: Rows = job.run(config, str(folder), secret=SECRET)
  return rows
