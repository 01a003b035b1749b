"""Train with sealed checkpoints; after a kill, run the same command to resume.

Every checkpoint of the run is sealed for two recipients: Alice, who trains, and
Bob, who gets the model. No plaintext of the state reaches the disk. Their key
files outlive the run and are outside of the checkpoints' folder.

    python examples/sealed_manager.py --workdir=runs/sealed --keys=runs/keys

It takes about 6 s on two cores, and downloads nothing. Kill it at any time:
a checkpoint is complete or absent, and batches depend on the step alone, so the
resumed run computes the same bits as one that was never killed.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keyjax import checkpoint, keyring

MODEL = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
OPTIMIZER = optax.adam(1e-2)


def kept_key(path: pathlib.Path) -> keyring.HpkePrivateKey:
  """Read a private key; the first run makes it, in a file of mode 600."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    key = keyring.HpkePrivateKey.generate("mlkem768x25519")
    keyring.write_key(path, key, plain=True)  # Yours: give a passphrase.
  return keyring.read_key(path)


@jax.jit
def train_step(state: Any, x: Any, y: Any) -> Any:
  """Return the state after a step on images, [n, 64], and labels, [n]."""

  def loss_fn(params: Any) -> jax.Array:
    logits = MODEL.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  grads = jax.grad(loss_fn)(state["params"])
  updates, opt_state = OPTIMIZER.update(grads, state["opt_state"])
  params = optax.apply_updates(state["params"], updates)
  return {"params": params, "opt_state": opt_state}


def main(argv: Sequence[str] | None = None) -> None:
  """Train, or resume, and let Bob open the last checkpoint."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", default="runs/sealed_manager")
  parser.add_argument("--keys", default="runs/sealed_manager.keys")
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--save_every", type=int, default=50)
  args = parser.parse_args(argv)
  workdir, keys = pathlib.Path(args.workdir), pathlib.Path(args.keys)

  images, labels = load_digits(return_X_y=True)
  x, x_test, y, y_test = train_test_split(
    np.float32(images / 16), np.int32(labels), test_size=360, random_state=0
  )
  params = MODEL.init(jax.random.key(0), x)
  state = {"params": params, "opt_state": OPTIMIZER.init(params)}

  alice = kept_key(keys / "alice.key")
  # Bob's key is on another machine, and only this line is sent.
  bob_line = keyring.format_recipient(kept_key(keys / "bob.key").public)

  with checkpoint.Manager(
    workdir,
    keep=2,
    save_interval_steps=args.save_every,
    recipients=[alice.public, keyring.parse_recipient(bob_line)],
    identities=alice,
    name="digits",
  ) as manager:
    start = manager.latest_step() or 0
    if start:
      state = manager.restore(state)
      print(f"resumed from step {start}")
    for step in range(start + 1, args.steps + 1):
      i = np.random.default_rng(step).integers(len(x), size=64)
      state = train_step(state, x[i], y[i])
      # A step that is due is sealed now, and written in the background.
      if manager.save(step, state, force=step == args.steps):
        print(f"saved step {step}", flush=True)
    manager.wait_until_finished()
    last = manager.latest_step()

  # Bob needs the key file and a copy of one checkpoint.
  bob = keyring.read_key(keys / "bob.key")
  opened = checkpoint.restore(
    workdir / str(last), bob, like=state, name="digits", step=last
  )
  logits: Any = MODEL.apply(opened["params"], x_test)
  accuracy = jnp.mean(logits.argmax(-1) == y_test, dtype=jnp.float32)
  print(f"step {last}, opened by Bob: accuracy {accuracy:.3f}")


if __name__ == "__main__":
  main()
