"""Feature maps whose channels a key permutes, for segmentation and detection.

    x'_{h, w, k} = x_{h, w, p(k)}

x is the output of a chosen layer, before what follows it, and p the same at
every position. The model trains under the permutation. Unlike a transformed
image, a permuted feature map keeps the place of everything, so that models
that answer for each pixel lose nothing.

A permutation of a layer's outputs is one of the columns of its kernel, bias and
scale: `F_locked(theta; p) = F_plain(phi_p(theta))`. `absorb` is phi_p, exact to
the bit. For the owner that is a convenience: a key can be changed without
training (`rebind`). It is no break by itself, because it takes the key; but
whoever has the key once can publish an unlocked model, and whoever finds some
permutation that works needs no other secret.

Source: Ito, MaungMaung, Kiya, "Access Control Using Spatially Invariant
Permutation of Feature Maps for Semantic Segmentation Models", APSIPA ASC 2021,
arXiv 2109.01332; the same, "Access control of semantic segmentation models
using encrypted feature maps", APSIPA Trans. SIP 11, 2022, arXiv 2206.05422.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from keyjax import arguments, keys, secrets, tree
from keyjax.interception import intercept
from keyjax.scheme import ApplyFn, Scheme
from keyjax.schemes import feature_layers, hpnn_lock, registry
from keyjax.schemes.orders import OrdersKey, stay, taken
from keyjax.secrets import Secret

NAME = feature_layers.NAME


@keys.key_dataclass
class FeatureKey(OrdersKey):
  """A permutation for each locked layer, int32[features]."""

  orders: dict[str, jax.Array]

  def rebind(self, new: Self, params: Any) -> Any:
    """Absorb this key into the weights, and take the new one out of them."""
    inverse = {path: jnp.argsort(x) for path, x in new.orders.items()}
    return absorb(self.replace(orders=inverse), absorb(self, params))


def feature_permutation(
  apply_fn: ApplyFn,
  layers: str | None = None,
  image: Callable[[Any], Any] = lambda batch: batch["image"],
) -> Scheme:
  """Return the scheme for an unmodified model of flax.linen or flax.nnx.

  Class: *access control by degradation*.

  Guarantees:
    - The locked model computes what a plain one does with `absorb(key,
      params)`, to the bit of each weight, so nothing is lost by locking.
    - Positions are kept: a mask or a box stays where it is.
    - One compiled program serves every key.

  Known breaks:
    - Batch normalisation after a locked layer stores the mean and variance of
      each channel after the permutation. A few images without labels give those
      before it, and matching the two gives the key of one layer; of all layers
      of a larger model it gives a part, because what is wrong in one layer
      misleads the next.
    - Nearly right keys are nearly right models: two channels that are swapped
      change little, so a search by swaps on a few labelled images finds a key
      that works, where few channels are locked.
    - Fine-tuning learns the permutation: a wrong key is the right network with
      its columns in another order.
    - One layer of few channels is a small key: 15.3 bits for 8, 117.7 for 32.

  Args:
    apply_fn: `model.apply`, or `keyjax.nnx_apply(graphdef)`; not jitted.
    layers: Regular expression of module paths, such as `up_0_conv_1`; the paper
      takes one. By default every Dense and Conv except the last.
    image: Function from a batch to the model's input, for `keygen`.

  Returns:
    A scheme with `keygen` and `bind`.

  Raises:
    ValueError: If `apply_fn` is already jitted.

  Example:
    >>> import flax.linen as nn
    >>> from keyjax import Secret
    >>> model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
    >>> x = jnp.ones((1, 4))
    >>> params = model.init(jax.random.key(0), x)
    >>> scheme = feature_permutation(model.apply)
    >>> key = scheme.keygen(Secret.generate(), params, {"image": x})
    >>> sorted(key.orders), round(key.entropy_bits(), 1)
    (['layers_0'], 15.3)
    >>> locked = scheme.bind(key, model.apply)(params, x)
    >>> bool((locked == model.apply(absorb(key, params), x)).all())
    True
  """
  if layers is not None:
    arguments.require_pattern(layers, f"{NAME}: layers")
  _check_apply(apply_fn)

  def keygen(secret: Secret, params: Any, batch: Any) -> FeatureKey:
    keys.require_secret(secret, NAME)
    x = arguments.from_batch(image, batch, NAME, "the input of the model", "x")
    chosen = feature_layers.choose(apply_fn, params, x, layers)
    if all(layer.features == 1 for layer in chosen):
      raise ValueError(
        f"{NAME}: {', '.join(x.path for x in chosen[:4])}: one channel has one "
        "order alone, a key of 0 bits: lock wider layers"
      )
    orders = {
      layer.path: secrets.permutation(
        secret, f"{NAME}/{layer.path}", layer.features
      )
      for layer in chosen
    }
    keys.warn_of_identity(stay(orders.values()), NAME)
    return FeatureKey(orders={x: jnp.asarray(o) for x, o in orders.items()})

  return Scheme(keygen, bind=bind)


def bind(key: FeatureKey, apply_fn: ApplyFn) -> ApplyFn:
  """Return the forward pass of a key holder.

  Args:
    key: Key of `feature_permutation`; its arrays may be traced.
    apply_fn: `model.apply`, not jitted: jit a function that takes the key.

  Raises:
    ValueError: If `apply_fn` is jitted, or does not run a locked layer.
  """
  keys.require(key, FeatureKey, NAME)
  for order in key.orders.values():
    keys.require_vector(order, NAME)
  _check_apply(apply_fn)

  def bound(params: Any, *args: Any, **kwargs: Any) -> Any:
    met: set[str] = set()
    with intercept(_permute(key.orders, met)):
      out = apply_fn(params, *args, **kwargs)
    missing = sorted(set(key.orders) - met)
    if missing:
      raise ValueError(
        f"{NAME}: the forward pass did not run {', '.join(missing[:4])}: the "
        "key is for another model, or a part of the model is jitted"
      )
    return out

  return bound


def absorb(key: FeatureKey, params: Any) -> Any:
  """Convert a locked model to an equivalent plain one.

  Args:
    key: Key of `feature_permutation`.
    params: Variables, the params alone, or a state of nnx.

  Returns:
    The tree with the columns of each locked layer's kernel, bias and scale
    permuted.

  Raises:
    ValueError: If a locked layer has no weights in `params`, or others.
  """
  keys.require(key, FeatureKey, NAME)
  paths, leaves, treedef = tree.flatten(params)
  out, met = [], set()
  for path, leaf in zip(paths, leaves, strict=True):
    module, name = hpnn_lock.module_of(path)
    if module in key.orders and name in hpnn_lock.WEIGHTS:
      met.add(module)
      _check_channels(leaf, key.orders[module], path)
      leaf = taken(leaf, key.orders[module], axis=-1)
    out.append(leaf)
  missing = sorted(set(key.orders) - met)
  if missing:
    raise ValueError(
      f"{NAME}: {', '.join(missing[:4])} has no weights to absorb the lock"
    )
  return jax.tree.unflatten(treedef, out)


def _permute(
  orders: Mapping[str, jax.Array], met: set[str]
) -> Callable[..., Any]:
  """Return an interceptor that permutes the outputs of layers."""
  calls = hpnn_lock.Outermost()

  def interceptor(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
    path = hpnn_lock.path_of(context)
    if context.method_name != "__call__" or path not in orders:
      return next_fn(*args, **kwargs)
    out, outermost = calls.call(path, lambda: next_fn(*args, **kwargs))
    if not outermost:
      return out
    met.add(path)
    return _taken(out, orders[path], path)

  return interceptor


def _taken(x: Any, order: jax.Array, path: str) -> jax.Array:
  _check_channels(x, order, path)
  return jnp.take(x, order, axis=-1, mode="clip")


def _check_channels(x: Any, order: jax.Array, path: str) -> None:
  if not hpnn_lock.is_array(x) or x.shape[-1] != order.shape[-1]:
    raise ValueError(
      f"{NAME}: {path} is {arguments.describe(x)}, where the key has "
      f"{order.shape[-1]} channels: it is for another model"
    )


def _check_apply(apply_fn: ApplyFn) -> None:
  arguments.require_apply(apply_fn, f"{NAME} locks flax models: apply_fn")
  if hasattr(apply_fn, "lower"):
    raise ValueError(
      f"{NAME}: apply_fn is jitted, and JAX's cache would not see the lock; "
      "bind the plain function and jit the result"
    )


def _from_options(apply_fn: ApplyFn, layers: str | None = None) -> Scheme:
  return feature_permutation(apply_fn, layers)


registry.register(
  NAME,
  _from_options,
  security_class=registry.DEGRADATION,
  known_break="the stored statistics of batch normalisation, and 32 unlabelled "
  "images, give the key of one layer, and much of that of all layers",
)
