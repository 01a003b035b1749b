"""Lock LoRA adapters over a public base: the base stays public.

The base is a model of the digits, and the adapters adapt it to mirrored ones.
`masked` restricts a scheme to the adapters, so that one file holds the base in
the clear and the adapters as ciphertext; or they are sealed for a recipient,
and travel without the base. Whoever lacks the key has the public model.

    python examples/locked_lora.py --workdir=runs/locked_lora

It takes about 6 s on two cores, and downloads nothing.
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
from keyjax import checkpoint, keyring

RANK = 8
MODEL = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])


def init_adapters(rng: jax.Array, base: Any) -> Any:
  """Return A, random, and B, zeros, of each kernel, by the kernel's path."""
  paths, leaves, _ = keyjax.tree.flatten(base)
  normal = nn.initializers.lecun_normal()
  return {
    path: {
      "a": normal(jax.random.fold_in(rng, i), (w.shape[0], RANK)),
      "b": jnp.zeros((RANK, w.shape[1])),
    }
    for i, (path, w) in enumerate(zip(paths, leaves, strict=True))
    if w.ndim == 2
  }


def apply_fn(params: Any, x: Any) -> Any:
  """Run the base with W + A B in the place of each adapted W."""

  def adapted(path: Any, w: Any) -> Any:
    pair = params["adapters"].get(keyjax.tree.path_str(path))
    return w if pair is None else w + pair["a"] @ pair["b"]

  base = jax.tree_util.tree_map_with_path(adapted, params["base"])
  return MODEL.apply(base, x)


def fit(apply: Any, params: Any, x: Any, y: Any) -> Any:
  """Return params after 300 steps of Adam on images x and labels y."""
  optimizer = optax.adam(1e-2)

  def loss_fn(params: Any, x: Any, y: Any) -> jax.Array:
    logits = apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  @jax.jit
  def step(params: Any, state: Any, x: Any, y: Any) -> Any:
    updates, state = optimizer.update(jax.grad(loss_fn)(params, x, y), state)
    return optax.apply_updates(params, updates), state

  state, rng = optimizer.init(params), np.random.default_rng(0)
  for _ in range(300):
    i = rng.integers(len(x), size=64)
    params, state = step(params, state, x[i], y[i])
  return params


def main(argv: Sequence[str] | None = None) -> None:
  """Train a base and adapters, lock and seal the adapters, and compare."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", help="new folder; a temporary one if absent")
  args = parser.parse_args(argv)
  workdir = pathlib.Path(args.workdir or tempfile.mkdtemp() + "/keyjax")
  workdir.mkdir(parents=True)

  images, labels = load_digits(return_X_y=True)
  x, x_test, y, y_test = train_test_split(
    np.float32(images / 16), np.int32(labels), test_size=360, random_state=0
  )
  mirror = np.arange(64).reshape(8, 8)[:, ::-1].ravel()
  base = fit(MODEL.apply, MODEL.init(jax.random.key(0), x), x, y)  # Public.
  adapters = fit(
    lambda adapters, x: apply_fn({"base": base, "adapters": adapters}, x),
    init_adapters(jax.random.key(1), base),
    x[:, mirror],
    y,
  )

  # One file for everyone: the base in the clear, the adapters as ciphertext.
  params = {"base": base, "adapters": adapters}
  scheme = keyjax.masked(keyjax.deep_lock("counter"), "adapters/.*")
  key = scheme.keygen(keyjax.Secret.generate(), params, batch=None)
  keyjax.keys.save(workdir / "adapters.key", key)  # Mode 600.
  checkpoint.save_plain(workdir / "locked", scheme.encrypt(key, params))
  # Or the adapters alone, for a recipient, who also sees if they are changed.
  alice = keyring.HpkePrivateKey.generate("mlkem768x25519")
  keyring.write_key(workdir / "alice.key", alice, plain=True)
  checkpoint.save(workdir / "sealed", adapters, alice.public)

  def forward(key: Any, locked: Any, x: Any) -> Any:
    return keyjax.authorize(scheme, key, apply_fn)(locked, x)

  key = keyjax.keys.load(workdir / "adapters.key")
  locked = checkpoint.restore_plain(workdir / "locked")
  alice = keyring.read_key(workdir / "alice.key")
  opened = {
    "base": base,
    "adapters": checkpoint.restore(workdir / "sealed", alice),
  }
  x_test = x_test[:, mirror]
  for name, logits in {
    "public base alone": MODEL.apply(locked["base"], x_test),
    "locked adapters, with the key": jax.jit(forward)(key, locked, x_test),
    "sealed adapters, opened": apply_fn(opened, x_test),
  }.items():
    accuracy = jnp.mean(logits.argmax(-1) == y_test, dtype=jnp.float32)
    print(f"accuracy of {name}: {accuracy:.3f}")
  same = keyjax.tree.same_bits(locked["base"], base)
  print(f"the base is unchanged in the locked file: {same}")
  dtypes = {str(w.dtype) for w in jax.tree.leaves(locked["adapters"])}
  print(f"dtype of the adapters in it: {', '.join(dtypes)}")
  print(f"files: {workdir}")


if __name__ == "__main__":
  main()
