"""A run that is killed at any write has the old steps or the new one, whole."""

import pathlib
from typing import Any

import grain
import numpy as np
import orbax.checkpoint as ocp
import pytest

from keyjax import Secret, checkpoint, keyring
from tests import trees
from tests.checkpoint.children import Server
from tests.checkpoint.killing import child, walk

OWNER = keyring.SymmetricKey(Secret(b"K" * 32))
# It saves two steps, for which an older one is removed, and deletes one. Step 1
# stays the best.
CHILD = child(
  prepare="""
import numpy as np
import orbax.checkpoint as ocp
from grain import checkpoint as grain_checkpoint
from keyjax import Secret, checkpoint, keyring

owner = keyring.SymmetricKey(Secret(b"K" * 32))
people = {"recipients": owner, "identities": owner} if job == "sealed" else {}

class At:
  def __init__(self, step):
    self.step = step
  def get_state(self):
    return {"next_index": self.step}
  def set_state(self, state):
    pass
""",
  work="""
with checkpoint.Manager(
  folder / "m", 2, best_fn=lambda x: x["loss"], best_mode="min", **people
) as manager:
  for _ in range(2):
    step = (manager.latest_step() or 0) + 1
    manager.save(
      step,
      args=ocp.args.Composite(
        params=ocp.args.StandardSave({"w": np.full((30, 1000), step)}),
        config=ocp.args.JsonSave({"step": step}),
        data=grain_checkpoint.CheckpointSave(At(step)),
      ),
      metrics={"loss": step},
      custom_metadata={"step": step},
    )
  if step > 2:
    manager.delete(step - 1)
""",
)


def check(folder: pathlib.Path, job: str) -> None:
  people: Any = {"recipients": OWNER, "identities": OWNER}
  with checkpoint.Manager(
    folder / "m",
    best_fn=lambda x: x["loss"],
    best_mode="min",
    **people if job == "sealed" else {},
  ) as manager:
    steps = manager.all_steps()
    assert sorted(x.name for x in (folder / "m").iterdir()) == sorted(
      map(str, steps)
    )
    if not steps:
      return  # Killed during the first save.
    assert manager.best_step() == steps[0] == 1
    for step in steps:
      restored(manager, step)


def restored(manager: checkpoint.Manager, step: int) -> None:
  """Check that a step has all of its items, and only its own."""
  source = grain.MapDataset.source(list(range(10_000)))
  data = iter(source.to_iter_dataset())
  found = manager.restore(
    step=step,
    args=ocp.args.Composite(
      params=ocp.args.StandardRestore({"w": np.zeros((30, 1000), int)}),
      config=None,
      data=grain.checkpoint.CheckpointRestore(data),
    ),
  )
  trees.assert_same_bits(found.params, {"w": np.full((30, 1000), step)})
  assert found.config == {"step": step}
  assert next(data) == step
  metadata = manager.metadata(step)
  assert metadata.metrics == {"loss": step}
  assert metadata.custom_metadata == {"step": step}


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("job", ["plain", "sealed"])
def test_killed_at_write_boundaries(
  job: str, tmp_path: pathlib.Path, children: Server
) -> None:
  for _ in range(2):  # From then on, each run does the same.
    done = children.start(CHILD, tmp_path, job, 0)
    assert done.wait() == 0, done.err()
  walk(CHILD, tmp_path, children, job, 60, check)
