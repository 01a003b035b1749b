"""Write the golden run of commit 319eb01: a Manager's steps of several items.

    git worktree add old 319eb01 && cd old
    PYTHONPATH=. python ../tests/golden/make_manager.py FOLDER/319eb01_manager
    tar czf ../tests/golden/319eb01_manager.tar.gz -C FOLDER 319eb01_manager

It calls the library as it was at that commit, so it runs in its checkout only.
All secrets in it are for these tests.
"""

import os
import pathlib
import sys


def write(out: pathlib.Path) -> None:
  import grain
  import jax.numpy as jnp
  import orbax.checkpoint as ocp

  from keyjax import Secret, checkpoint, keyring

  out.mkdir(parents=True)
  owner = keyring.as_identity(Secret(bytes(range(32))))
  signer = keyring.SigningKey("ed25519", bytes(range(32)))
  people = {"recipients": owner, "identities": owner, "signer": signer.private}
  for name, options in (("sealed", people | {"run": "golden"}), ("plain", {})):
    source = grain.MapDataset.source(list(range(10)))
    data = iter(source.to_iter_dataset())
    with checkpoint.Manager(
      out / name,
      keep=1,
      best_fn=lambda metrics: metrics["accuracy"],
      metadata={"by": "golden"},
      **options,
    ) as manager:
      for step, accuracy in ((1, 0.5), (2, 0.75), (3, 0.25)):
        next(data)
        manager.save(
          step,
          args=ocp.args.Composite(
            params=ocp.args.StandardSave({"w": jnp.full(3, step, jnp.float32)}),
            opt_state=ocp.args.StandardSave(((), {"count": jnp.int32(step)})),
            config=ocp.args.JsonSave({"layers": [1, {"a": None}]}),
            data=grain.checkpoint.CheckpointSave(data),
          ),
          metrics={"accuracy": accuracy},
          custom_metadata={"step": step},
        )


if __name__ == "__main__":
  os.umask(0o077)
  write(pathlib.Path(sys.argv[1]))
