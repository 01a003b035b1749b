"""Steps of several items that an earlier version saved open unchanged.

`319eb01_manager.tar.gz` holds what `make_manager.py` wrote in a checkout of
that commit. The last test opens it without KeyJAX, by
docs/formats/checkpoints.md. All of its secrets were made for these tests and
protect nothing.
"""

import json
import pathlib
import shutil
from typing import Any

import grain
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from examples import read_sealed
from keyjax import Secret, checkpoint, keyring
from tests.golden import archives

RAW = bytes(range(32))
OWNER = keyring.as_identity(Secret(RAW))
SIGNER = keyring.SigningKey("ed25519", RAW)
KEYS: Any = {
  "recipients": OWNER,
  "identities": OWNER,
  "signer": SIGNER.private,
  "run": "golden",
}
CONFIG = {"layers": [1, {"a": None}]}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return archives.unpacked("319eb01_manager", tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", ["plain", "sealed"])
def test_a_run_with_items_continues(
  name: str, golden: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  folder = shutil.copytree(golden / name, tmp_path / "run")
  people = KEYS if name == "sealed" else {}
  with checkpoint.Manager(
    folder, keep=1, best_fn=lambda x: x["accuracy"], **people
  ) as manager:
    assert (manager.all_steps(), manager.best_step()) == ([2, 3], 2)
    for step, accuracy in ((2, 0.75), (3, 0.25)):
      source = grain.MapDataset.source(list(range(10)))
      data = iter(source.to_iter_dataset())
      restore = ocp.args.StandardRestore
      found = manager.restore(
        step=step,
        args=ocp.args.Composite(
          params=restore({"w": jnp.zeros(3)}),
          opt_state=restore(((), {"count": jnp.int32(0)})),
          config=ocp.args.JsonRestore(),
          data=grain.checkpoint.CheckpointRestore(data),
        ),
      )
      np.testing.assert_array_equal(found.params["w"], np.full(3, step))
      assert int(found.opt_state[1]["count"]) == step
      assert found.config == CONFIG and next(data) == step
      metadata = manager.metadata(step)
      assert metadata.metrics == {"accuracy": accuracy}
      assert metadata.custom_metadata == {"by": "golden", "step": step}
    manager.save(4, {"w": jnp.zeros(2)}, metrics={"accuracy": 0.5})
  assert {file.name for file in folder.iterdir()} == {"2", "4"}


def test_a_second_reader_finds_the_items(golden: pathlib.Path) -> None:
  path = golden / "sealed/2"
  manifest, leaves = read_sealed.open_checkpoint(
    (path / "header/metadata").read_bytes(),
    read_sealed.container(path),
    [("secret", RAW)],
    ("ed25519", SIGNER.public.public_bytes_raw()),
  )
  assert (manifest["step"], manifest["run"]) == (2, "golden")
  assert manifest["metadata"] == {
    "keyjax.step": {
      "items": {
        "config": "json",
        "data": "iterator",
        "opt_state": "tree",
        "params": "tree",
      },
      "metrics": {"accuracy": 0.75},
      "custom_metadata": {"by": "golden", "step": 2},
    }
  }
  data = {path: data for path, (_, _, data) in leaves.items()}
  assert json.loads(data["config"]) == CONFIG
  assert json.loads(data["data/process_0-of-1"]) == {"next_index": 2}
  assert data["params/w"] == np.full(3, 2, np.float32).tobytes()
