"""Encrypt a model of flax.nnx with AES, and decrypt it inside `jax.jit`.

The file holds the ciphertext of AES-256 in counter mode, as unsigned words.
`authorize` decrypts it within the compiled forward pass, so that on the machine
that answers, plain weights are only temporary buffers of one program.

    python examples/nnx_counter_mode.py --workdir=runs/nnx_counter_mode

It takes about 5 s on two cores, and downloads nothing.

Counter mode keeps the weights confidential, and no more: a flipped bit of the
file is a flipped bit of the weights. Seal what must also be unchanged
(`hugging_face_folder.py`).
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keyjax
from keyjax import checkpoint


class Net(nnx.Module):
  """An ordinary MLP."""

  def __init__(self, rngs: nnx.Rngs) -> None:
    """Create two layers."""
    self.hidden = nnx.Linear(64, 64, rngs=rngs)
    self.head = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    """Return logits."""
    return self.head(nnx.relu(self.hidden(x)))


@nnx.jit
def train_step(model: Net, optimizer: nnx.Optimizer, x: Any, y: Any) -> None:
  """Change a model and its optimizer by one step."""

  def loss_fn(model: Net) -> jax.Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(model(x), y)
    return loss.mean()

  optimizer.update(model, nnx.grad(loss_fn)(model))


def main(argv: Sequence[str] | None = None) -> None:
  """Train a plain model, encrypt it, and run it with right and wrong keys."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", help="new folder; a temporary one if absent")
  parser.add_argument("--steps", type=int, default=300)
  args = parser.parse_args(argv)
  workdir = pathlib.Path(args.workdir or tempfile.mkdtemp() + "/keyjax")
  workdir.mkdir(parents=True)

  images, labels = load_digits(return_X_y=True)
  x, x_test, y, y_test = train_test_split(
    np.float32(images / 16), np.int32(labels), test_size=360, random_state=0
  )
  model = Net(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
  rng = np.random.default_rng(0)
  for _ in range(args.steps):
    i = rng.integers(len(x), size=64)
    train_step(model, optimizer, x[i], y[i])

  # A model of nnx is split into what it computes and a tree of arrays.
  graphdef, params = nnx.split(model)
  apply_fn = keyjax.nnx_apply(graphdef)
  scheme = keyjax.deep_lock("counter", key_bits=256)
  # A key of counter mode has a nonce: it encrypts one tree, once.
  key = scheme.keygen(keyjax.Secret.generate(), params, batch=None)
  keyjax.keys.save(workdir / "model.key", key)  # Mode 600, never overwritten.
  checkpoint.save_plain(workdir / "locked", scheme.encrypt(key, params))

  # A server reads both files. Shapes suffice to read the model.
  shapes = jax.eval_shape(scheme.encrypt, key, params)
  locked = checkpoint.restore_plain(workdir / "locked", like=shapes)
  key = keyjax.keys.load(workdir / "model.key")

  @jax.jit
  def forward(key: Any, locked: Any, x: Any) -> Any:
    return keyjax.authorize(scheme, key, apply_fn)(locked, x)

  wrong = scheme.keygen(keyjax.Secret.generate(), params, batch=None)
  stolen = keyjax.tree.as_floats(locked, like=params)
  for name, logits in {
    "right key": forward(key, locked, x_test),
    "wrong key": forward(wrong, locked, x_test),
    "no key": jax.jit(apply_fn)(stolen, x_test),
  }.items():
    accuracy = jnp.mean(logits.argmax(-1) == y_test, dtype=jnp.float32)
    # The argmax of NaN is class 0: an "accuracy" of 10 % proves nothing.
    finite = jnp.isfinite(logits).all(-1).mean(dtype=jnp.float32)
    print(f"{name}: accuracy {accuracy:.3f}, finite outputs {finite:.3f}")
  exact = jnp.array_equal(forward(key, locked, x_test), model(x_test))
  print(f"right key, bit for bit the plain model: {exact}")
  print(f"files: {workdir}")


if __name__ == "__main__":
  main()
