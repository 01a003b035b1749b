"""The program of each of several processes; see test_hosts.py.

Run as `python -m tests.experiments.data.hosts PORT PROCESS COUNT FOLDER`: a
sealed and signed set and its keys are in FOLDER, where each process writes
which records it opened, and the first one the batches of all.
"""

import json
import os
import pathlib
import sys

from tests import flags

if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = flags.with_devices(2)

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from experiments import data  # noqa: E402
from experiments.run.config import base  # noqa: E402
from keyjax import parallel, processes  # noqa: E402
from keyjax.data.opened import SealedRecordFile  # noqa: E402

NAME, VERSION = "imagenet2012", "5.1.0"
RECORDS, BATCH, STEPS, SEED = 24, 12, 4, 5  # Two epochs.


def config_of(folder: pathlib.Path) -> ConfigDict:
  """Return a config that reads a set in a folder."""
  config = base()
  config.dataset = NAME
  config.data_dir = str(folder)
  config.image_size = 8
  return config


def count_records(found: list[tuple[str, int]]) -> None:
  """Append the file and the index of each record that is opened."""
  read = SealedRecordFile.read

  def counted(self, indices):
    found.extend((self.name, int(i)) for i in indices)
    return read(self, indices)

  SealedRecordFile.read = counted


def main(port: str, process: str, count: str, place: str) -> None:
  folder = pathlib.Path(place)
  processes.initialize(f"localhost:{port}", int(count), int(process))
  assert jax.process_count() == int(count)
  config = config_of(folder / "sealed")
  config.data_key = f"file:{folder / 'data.key'}"
  config.data_verify_key = (folder / "signer").read_text()
  dataset = data.from_config(config)
  found: list[tuple[str, int]] = []
  count_records(found)
  batches = data.batches(
    dataset, BATCH, SEED, jax.process_index(), jax.process_count()
  )
  made = []
  for step in range(STEPS):
    own = parallel.put(batches[step], "shard_map").batch
    assert own["image"].shape == (BATCH, 8, 8, 3)  # The global batch.
    made.append(multihost_utils.process_allgather(own, tiled=True))
  (folder / f"opened.{process}.json").write_text(json.dumps(found))
  if processes.is_first():
    np.savez(
      folder / "batches.npz",
      **{k: np.stack([np.asarray(x[k]) for x in made]) for k in made[0]},
    )
  print("done", process, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
