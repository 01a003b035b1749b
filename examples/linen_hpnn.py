"""Train a model of flax.linen under HPNN, in a training loop of your own.

Every neuron of the hidden layers is multiplied by a secret sign. The weights
learn under these signs and are worth little without them. `absorb` writes the
key into a copy of the weights, for machines that multiply by no signs.

    python examples/linen_hpnn.py --workdir=runs/linen_hpnn

It takes about 5 s on two cores, and downloads nothing.

HPNN is access control by degradation: 60 labelled images give nearly all of its
key bits (docs/attacks/hpnn.md). What must stay secret is sealed or encrypted:
`sealed_manager.py`, `nnx_counter_mode.py`.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keyjax
from keyjax import checkpoint


class Net(nn.Module):
  """An ordinary MLP: no part of it knows of a key."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return logits."""
    x = nn.relu(nn.Dense(64)(x))
    x = nn.relu(nn.Dense(64)(x))
    return nn.Dense(10)(x)


def main(argv: Sequence[str] | None = None) -> None:
  """Train, write the locked and the exported model, and compare."""
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
  model = Net()
  params = model.init(jax.random.key(0), x[:1])
  scheme = keyjax.hpnn(model.apply)
  # Keys are made of the operating system's random bytes, never of a seed.
  secret = keyjax.Secret.generate()
  key = scheme.keygen(secret, params, {"image": x[:8]})

  # The key is an argument: one compiled program serves every key.
  def forward(key: Any, params: Any, x: Any) -> Any:
    return keyjax.authorize(scheme, key, model.apply)(params, x)

  optimizer = optax.adam(1e-2)
  opt_state = optimizer.init(params)

  @jax.jit
  def train_step(key: Any, params: Any, opt_state: Any, x: Any, y: Any) -> Any:
    def loss_fn(params: Any) -> jax.Array:
      logits = forward(key, params, x)
      loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
      return loss.mean()

    grads = jax.grad(loss_fn)(params)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  rng = np.random.default_rng(0)
  for _ in range(args.steps):
    i = rng.integers(len(x), size=64)
    params, opt_state = train_step(key, params, opt_state, x[i], y[i])

  # The key has a file of its own, outside of the checkpoint; mode 600.
  keyjax.keys.save(workdir / "hpnn.key", key)
  checkpoint.save_plain(workdir / "locked", params)  # Hand this out.
  exported = keyjax.absorb(key, params)  # Keep this: it works without the key.
  checkpoint.write_weights(workdir / "exported.safetensors", exported)

  # A user of the model has its file and the key's file.
  key = keyjax.keys.load(workdir / "hpnn.key")
  params = checkpoint.restore_plain(workdir / "locked", like=params)
  plain = jax.jit(model.apply)
  for name, logits in {
    "with the key": jax.jit(forward)(key, params, x_test),
    "without the key": plain(params, x_test),
    "exported": plain(exported, x_test),
  }.items():
    accuracy = jnp.mean(logits.argmax(-1) == y_test, dtype=jnp.float32)
    print(f"accuracy {name}: {accuracy:.3f}")
  print(f"files: {workdir}")


if __name__ == "__main__":
  main()
