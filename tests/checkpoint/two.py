"""The program of each of two processes; see test_processes.py.

Run as `python -m tests.checkpoint.two PORT PROCESS FOLDER JOB WHERE`: the key
is in FOLDER, the checkpoints in WHERE, which may be in a bucket.
"""

import os
import pathlib
import sys
from typing import Any

from tests import flags

if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["XLA_FLAGS"] = flags.with_devices(4)

import grain  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import orbax.checkpoint as ocp  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from keyjax import Secret, checkpoint, tiers  # noqa: E402
from keyjax.keyring import SymmetricKey  # noqa: E402

SPECS = {
  "rows": PartitionSpec("a"),
  "columns": PartitionSpec(None, "b"),
  "both": PartitionSpec("b", "a"),
  "everywhere": PartitionSpec(),
}


def values() -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  out = {n: rng.normal(size=(24, 8)).astype(np.float32) for n in SPECS}
  out["everywhere"] = out["everywhere"].astype(jnp.bfloat16)
  return out


def tree(mesh: jax.sharding.Mesh, filled: bool = True) -> dict[str, Any]:
  """Return the values on a mesh, and an array that all processes hold."""
  made: dict[str, Any] = {}
  for name, x in values().items():
    sharding = NamedSharding(mesh, SPECS[name])
    made[name] = (
      jax.make_array_from_callback(x.shape, sharding, lambda i, x=x: x[i])
      if filled
      else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    )
  return made | {"count": np.arange(5)}


def assert_equal(found: dict[str, Any]) -> None:
  for name, x in values().items():
    for shard in found[name].addressable_shards:
      want = x[shard.index]
      assert np.asarray(shard.data).tobytes() == want.tobytes(), name
  np.testing.assert_array_equal(found["count"], np.arange(5))


class Data:
  """An iterator, at another place in each process."""

  def __init__(self, at: int):
    self.at = at

  def get_state(self) -> bytes:
    return b"%d" % self.at

  def set_state(self, state: bytes) -> None:
    self.at = int(state)


def save_items(folder: str, mesh: jax.sharding.Mesh, **people: Any) -> None:
  """Save several items in a step, and restore those of this process."""
  # States of different sizes.
  at = 10 ** (3 * jax.process_index())
  args = ocp.args.Composite(
    params=ocp.args.StandardSave(tree(mesh)),
    config=ocp.args.JsonSave({"a": 1}),
    data=grain.checkpoint.CheckpointSave(Data(at)),
  )
  best: Any = {"best_fn": lambda x: x["loss"], "best_mode": "min"}
  with checkpoint.Manager(folder, 1, **best, **people) as manager:
    for step in (1, 2, 3):
      manager.save(step, args=args, metrics={"loss": float(step)})
    manager.delete(3)
    assert manager.all_steps() == [1]
  with checkpoint.Manager(folder, **best, **people) as manager:
    data = Data(0)
    found = manager.restore(
      step=manager.best_step(),
      args=ocp.args.Composite(
        params=ocp.args.StandardRestore(tree(mesh, False)),
        config=None,
        data=grain.checkpoint.CheckpointRestore(data),
      ),
    )
    assert_equal(found.params)
    assert found.config == {"a": 1} and data.at == at


def main(port: str, process: str, folder: str, job: str, where: str) -> None:
  jax.distributed.initialize(f"localhost:{port}", 2, int(process))
  assert jax.device_count() == 8 and jax.local_device_count() == 4
  owner = SymmetricKey(Secret.load(pathlib.Path(folder, "key")))
  mesh = jax.make_mesh((2, 4), ("a", "b"))
  if job == "save":
    from cryptography.hazmat.primitives.asymmetric import ed25519

    signer = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    checkpoint.save(f"{where}/c", tree(mesh), owner, step=7, signer=signer)
    parts = [tiers.Tier("top", "both", owner), tiers.Tier("low", ".*", owner)]
    tiers.save(f"{where}/tiers", tree(mesh), parts, signer=signer)
    with checkpoint.Manager(
      f"{where}/m", recipients=owner, identities=owner
    ) as manager:
      manager.save(1, tree(mesh))
      manager.wait_until_finished()
      assert_equal(manager.restore(tree(mesh, False)))
    save_items(f"{where}/items", mesh, recipients=owner, identities=owner)
    save_items(f"{where}/plain", mesh)
  other = jax.make_mesh((8, 1), ("a", "b"))
  for again in (mesh, other):
    like = tree(again, False)
    assert_equal(checkpoint.restore(f"{where}/c", owner, like, step=7))
  print("done", process, flush=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
