"""Permutation lock: rows and columns of each kernel in a secret order.

    W'[i, j] = W[p(i), q(j)]        p, q permutations of inputs and outputs

The locks of today's on-device language models are of this kind: the weights lie
in ordinary memory in another order, and a trusted module puts features in the
order that the next layer expects. Here the key puts the weights back, inside
the compiled pass.

References:
  Li et al., "TransLinkGuard: Safeguarding Transformer Models Against Model
  Stealing in Edge Deployment", ACM MM 2024, arXiv 2404.11121: rows.
  Li et al., "CoreGuard: Safeguarding Foundational Capabilities of LLMs Against
  Model Stealing in Edge Deployment", NeurIPS 2025: rows and columns.
  Wang et al., "Game of Arrows: On the (In-)Security of Weight Obfuscation for
  On-Device TEE-Shielded LLM Partition Algorithms", USENIX Security 2025: the
  break, `keyjax.attacks.permutation_lock.arrow_match`.
"""

from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments, keys, meshes, secrets, tree
from keyjax.scheme import Scheme
from keyjax.schemes import registry
from keyjax.schemes.orders import OrdersKey, stay, taken
from keyjax.secrets import Secret

NAME = "permutation_lock"
AXES = {"inputs": -2, "outputs": -1}  # Of a kernel, [..., inputs, outputs].


@keys.key_dataclass
class PermutationKey(OrdersKey):
  """The orders of the axes of each locked kernel.

  Attributes:
    orders: `PATH:AXIS` -> int32[n], a permutation.
    spec: Leaves of the tree; those with `locked` are in another order.
  """

  orders: dict[str, jax.Array]
  spec: tree.Spec = keys.static()

  def rebind(self, new: Self, params: Any) -> Any:
    """Return the params: the pass is the plain one."""
    del new
    return params


def permutation_lock(
  layers: str = ".*kernel", axes: tuple[str, ...] = ("inputs", "outputs")
) -> Scheme:
  """Return the permutation lock.

  Class: *obfuscation*.

  Guarantees:
    - Decryption is exact, on every dtype, int8 too; shapes, dtypes and finite
      values stay.
    - An attacker without a model like it has all orders to search: the key of
      a kernel [n, m] has log2(n! m!) bits.

  Known breaks:
    - Whoever has the public model that this one was fine-tuned from matches
      rows and columns by their direction, and has the weights bit for bit
      (`arrow_match`; Wang et al., USENIX Security 2025).
    - All values, and the norm of each row and column, are public. Rows that are
      equal, such as zeros, show.
    - No integrity: values may be changed, or moved along.
    - Leaves that are not chosen stay; the attacker fine-tunes from them.

  Args:
    layers: Regular expression of the paths of the kernels, [..., inputs,
      outputs].
    axes: Axes that are permuted, of `inputs` (TransLinkGuard) and `outputs`.

  Returns:
    A scheme that fills `keygen`, `encrypt` and `decrypt`.

  Raises:
    ValueError: If there is no such axis, or none is given.

  Example:
    >>> from keyjax import Secret
    >>> scheme = permutation_lock("w")
    >>> params = {"w": jnp.arange(12.0).reshape(3, 4)}
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> locked = scheme.encrypt(key, params)
    >>> sorted(locked["w"].ravel().tolist()) == params["w"].ravel().tolist()
    True
    >>> bool((scheme.decrypt(key, locked)["w"] == params["w"]).all())
    True
  """
  arguments.require_pattern(layers, f"{NAME}: layers")
  match = tree.matcher(layers)
  axes = _checked_axes(axes)

  def keygen(secret: Secret, params: Any, batch: Any) -> PermutationKey:
    del batch  # The key does not depend on data.
    keys.require_secret(secret, NAME)
    found = tree.make_spec(params, NAME)
    spec = tuple(
      s._replace(locked=s.locked and match(s.path) and _movable(s.shape, axes))
      for s in found
    )
    chosen = [s for s in spec if s.locked]
    if not chosen:
      raise ValueError(
        f"{NAME}: no leaf of layers={layers!r} has two axes with several rows: "
        f"the tree has {', '.join(s.path for s in found[:8])}"
      )
    keys.require_native(spec, NAME)
    orders = {
      f"{s.path}:{axis}": _order(secret, s.path, axis, s.shape)
      for s in chosen
      for axis in axes
    }
    keys.warn_of_identity(stay(orders.values()), NAME)
    arrays = {name: jnp.asarray(order) for name, order in orders.items()}
    return PermutationKey(orders=arrays, spec=spec)

  def encrypt(key: PermutationKey, params: Any) -> Any:
    return _moved(key, params, lambda order: order)

  def decrypt(key: PermutationKey, params: Any) -> Any:
    return _moved(key, params, jnp.argsort)

  return Scheme(keygen, encrypt, decrypt)


def _checked_axes(axes: Any) -> tuple[str, ...]:
  named = (axes,) if isinstance(axes, str) else tuple(axes)
  if not named or set(named) - set(AXES) or len(set(named)) < len(named):
    raise ValueError(f"{NAME}: axes={axes!r}: one or both of {', '.join(AXES)}")
  return named


def _movable(shape: tuple[int, ...], axes: tuple[str, ...]) -> bool:
  """Return whether a leaf is a kernel that some order changes."""
  return len(shape) > 1 and any(shape[AXES[axis]] > 1 for axis in axes)


def _order(
  secret: Secret, path: str, axis: str, shape: tuple[int, ...]
) -> np.ndarray:
  label = f"{NAME}/{path}/{axis}"
  return secrets.permutation(secret, label, shape[AXES[axis]])


def _moved(key: PermutationKey, params: Any, direction: Any) -> Any:
  """Return the tree with each axis of the locked leaves in another order."""
  keys.require(key, PermutationKey, NAME)
  leaves, treedef = tree.check_spec(key.spec, params, NAME, words=False)
  moved = []
  for leaf, spec in zip(leaves, key.spec, strict=True):
    if spec.locked:
      own = {
        axis: direction(key.orders[name])
        for axis in AXES
        if (name := f"{spec.path}:{axis}") in key.orders
      }
      out = _permute(leaf, own)
      if meshes.is_committed(leaf):
        # JAX 0.12 cannot be asked for it within jit: see `tree.alike`.
        out = jax.device_put(out, leaf.sharding)
      leaf = out
    moved.append(leaf)
  return jax.tree.unflatten(treedef, moved)


@jax.jit
def _permute(leaf: jax.Array, orders: Mapping[str, jax.Array]) -> jax.Array:
  def take(leaf: jax.Array, orders: Mapping[str, jax.Array]) -> jax.Array:
    for axis, order in orders.items():
      leaf = taken(leaf, order, AXES[axis])
    return leaf

  return tree.alike(meshes.as_auto(take, leaf, leaf, dict(orders)), leaf)


registry.register(
  NAME,
  permutation_lock,
  security_class=registry.OBFUSCATION,
  known_break="the public base model gives every order (ArrowMatch)",
)
