"""A small main job with every kind of scheme."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import jax
import pytest
from ml_collections import ConfigDict

from experiments import main
from experiments.run.config import (
  base,
  scheme,
  set_schemes,
)
from tests import repeatable

LABELS = ("deep_lock", "int8", "adv", "hpnn", "shf", "chain")
WRONG, NEAR = 3, 2


def config() -> ConfigDict:
  made = base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (16,)
  made.num_train = 64  # The search for the report's picture takes as many.
  made.num_test = 50
  made.train.update(batch_size=64, epochs=24.0, checkpoint_every=8)
  made.train.learning_rate = 2e-2
  made.evaluate.update(
    batch_size=32, wrong_keys=WRONG, wrong_images=20, distance_keys=NEAR
  )
  parts = (("hpnn", {"units": 32}), ("deep_lock", {}))
  set_schemes(
    made,
    deep_lock=scheme("deep_lock", "Deep-Lock"),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    adv=scheme("adv_params", "AdvParams", theta=0.5, max_steps=4),
    hpnn=scheme("hpnn", "HPNN", units=32),
    shf=scheme("shf", "SHF", block_size=4),
    chain=scheme("chain", "HPNN, then Deep-Lock", parts=parts),
  )
  return made


class Job(NamedTuple):
  rows: list[dict[str, Any]]
  folder: pathlib.Path
  key_folder: pathlib.Path
  text: str  # what it printed, both streams


@contextlib.contextmanager
def captured(file: IO[str]) -> Iterator[None]:
  """Send both streams to a file: those of Python, and of the process."""
  saved = [os.dup(1), os.dup(2)]
  for stream in (1, 2):
    os.dup2(file.fileno(), stream)
  try:
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
      yield
  finally:
    file.flush()
    for stream, old in zip((1, 2), saved, strict=True):
      os.dup2(old, stream)
      os.close(old)


def job(folder: pathlib.Path) -> Job:
  with (
    tempfile.TemporaryFile("w+") as out,
    repeatable.secrets("main"),
    pytest.MonkeyPatch.context() as patch,
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
    captured(out),
  ):
    patch.setenv("COLUMNS", "200")
    rows = main.run(config(), str(folder))
    out.seek(0)
    text = out.read()
    out.seek(0, os.SEEK_END)
  (key_folder,) = folder.with_name(f"{folder.name}.keys").iterdir()
  return Job(rows, folder, key_folder, text)
