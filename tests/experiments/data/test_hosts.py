"""Real processes that read one sealed set, each its own rows."""

import json
import os
import pathlib
import signal
import threading

import numpy as np
import pytest

import keyjax
from experiments import data
from keyjax import keyring
from tests import ports
from tests.experiments.data import hosts
from tests.experiments.data.conftest import SIGNER, VERIFY_KEY, write_set

PROGRAM = """
import json, os, runpy, sys
os.environ.update(json.loads(sys.argv.pop()))  # The server may be older.
runpy.run_module(
  "tests.experiments.data.hosts", run_name="__main__", alter_sys=True
)
"""


@pytest.fixture
def folder(key, tmp_path) -> pathlib.Path:
  """Write photographs of several sizes, plain and sealed, and the keys."""
  import tensorflow_datasets as tfds

  rng = np.random.default_rng(0)
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(
        shape=(None, None, 3), encoding_format="png"
      ),
      "label": tfds.features.ClassLabel(num_classes=10),
    }
  )
  sizes = {"train": hosts.RECORDS, "validation": 3}
  examples = {
    split: [
      {
        "image": rng.integers(0, 256, (9 + i % 3, 12, 3), np.uint8),
        "label": i % 10,
      }
      for i in range(size)
    ]
    for split, size in sizes.items()
  }
  place = pathlib.Path(hosts.NAME) / hosts.VERSION
  write_set(tmp_path / "plain" / place, features, examples, shards=3)
  owner = keyring.as_identity(keyring.read_key(key))
  keyjax.data.seal_data(
    tmp_path / "plain" / place,
    tmp_path / "sealed" / place,
    owner,
    signer=SIGNER.private,
  )
  (tmp_path / "signer").write_text(VERIFY_KEY)
  return tmp_path


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("count", [2, 3])
def test_each_of_several_hosts_opens_only_its_records(count, folder, children):
  port, env = ports.free_port(), json.dumps(dict(os.environ))
  started = [
    children.start(PROGRAM, port, i, count, folder, env) for i in range(count)
  ]
  timers = [
    threading.Timer(240, os.kill, (child.pid, signal.SIGKILL))
    for child in started
  ]
  for timer in timers:
    timer.start()
  try:
    codes = [child.wait() for child in started]
  finally:
    for timer in timers:
      timer.cancel()
  for i, child in enumerate(started):
    assert child.out().endswith(f"done {i}\n"), (codes, child.err())

  # The same batches as one process makes of the plain set.
  plain = data.from_config(hosts.config_of(folder / "plain"))
  batches = data.batches(plain, hosts.BATCH, hosts.SEED)
  with np.load(folder / "batches.npz") as found:
    for name in ("image", "label"):
      expected = np.stack([batches[i][name] for i in range(hosts.STEPS)])
      np.testing.assert_array_equal(found[name], expected)

  opened = [
    json.loads((folder / f"opened.{i}.json").read_text()) for i in range(count)
  ]
  epochs = hosts.STEPS * hosts.BATCH // hosts.RECORDS
  share = hosts.RECORDS // count
  for epoch in range(epochs):
    parts = [x[epoch * share : (epoch + 1) * share] for x in opened]
    whole = [tuple(record) for part in parts for record in part]
    # Each record was opened once, by one of the processes.
    assert len(whole) == len(set(whole)) == hosts.RECORDS
  assert {len(x) for x in opened} == {epochs * share}
