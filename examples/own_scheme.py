"""A scheme of your own in one file, checked by the laws of KeyJAX.

The scheme shuffles the rows of every kernel by a secret order. It is a toy:
whoever has a similar public model finds the order.

    python examples/own_scheme.py

It takes about 4 s on two cores. `keyjax.laws.check` makes keys and tries what
every scheme promises: exact decryption, one compilation for all keys, `vmap`
over keys, wrong keys that open nothing. The same checks find the mistake of a
second scheme, whose decryption forgets the inverse order.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from keyjax import Scheme, Secret, keys, laws, secrets, tree
from keyjax.schemes import registry

NAME = "row_shuffle"


@keys.key_dataclass
class RowKey(keys.Key):
  """A pytree with a file format, whose values are never shown.

  Methods such as `near` are optional: see `keyjax.keys.Key`.

  Attributes:
    orders: int32[rows] of each kernel, by the path of the leaf.
  """

  orders: dict[str, jax.Array]


def row_shuffle(layers: str = ".*kernel", wrong: bool = False) -> Scheme:
  """Return the scheme.

  Class: *access control by degradation*.

  Guarantees:
    - Decryption is exact, on every dtype.

  Known breaks:
    - A similar public model gives every order. Values and norms of rows stay.

  Args:
    layers: Regular expression of the paths of the leaves that are shuffled.
    wrong: Whether decryption has a mistake, which the laws find.
  """
  match = tree.matcher(layers)

  def keygen(secret: Secret, params: Any, batch: Any) -> RowKey:
    del batch  # Only schemes that look at data use it.
    paths, leaves, _ = tree.flatten(params)
    orders = {
      path: jnp.asarray(secrets.permutation(secret, path, len(leaf)))
      for path, leaf in zip(paths, leaves, strict=True)
      if match(path) and tree.lockable(leaf)
    }
    return RowKey(orders=orders)

  def encrypt(key: RowKey, params: Any) -> Any:
    return _take_rows(key.orders, params)

  def decrypt(key: RowKey, params: Any) -> Any:
    inverse = jax.tree.map(jnp.argsort, key.orders)
    return _take_rows(key.orders if wrong else inverse, params)

  return Scheme(keygen, encrypt, decrypt)


def _take_rows(orders: dict[str, jax.Array], params: Any) -> Any:
  """Return the rows of each leaf in the order of its path, if it has one."""
  paths, leaves, treedef = tree.flatten(params)
  out = [
    leaf[orders[path]] if path in orders else leaf
    for path, leaf in zip(paths, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


# From here on configs, attacks, cards and reports know it by its name.
registry.register(
  NAME,
  row_shuffle,
  security_class=registry.DEGRADATION,
  known_break="a similar public model gives every order",
)


def main() -> None:
  """Check the scheme, a chain with it, and a scheme with a mistake."""
  rng = np.random.default_rng(0)  # Of the weights; keys never have a seed.
  shapes = {"kernel": (16, 8), "bias": (8,)}
  params = {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in shapes.items()
  }
  for title, scheme in {
    NAME: row_shuffle(),
    "in a chain": keyjax.chain(row_shuffle(), keyjax.deep_lock("counter")),
    "with a mistake": row_shuffle(wrong=True),
  }.items():
    try:
      laws.check(scheme, params)
      print(f"{title}: keeps the laws")
    except laws.LawError as error:
      print(f"{title}: {error}")


if __name__ == "__main__":
  main()
