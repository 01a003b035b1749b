"""AdvParams: a few parameters pushed along the gradient of the loss.

The published search, on a batch of training images:

1. choose at most `max_layers` layers at random (from the secret);
2. in a layer l, let R = max W_l - min W_l, and, if beta is given, bounds
   [min W_l + beta R, max W_l - beta R], all fixed before the layer is edited;
3. at most `max_steps` times: take the parameter with the largest |dLoss/dw|
   that is neither at a bound nor changed `max_changes` times, and step
   w <- w + theta sign(dLoss/dw) R, clipped to the bounds;
4. stop when the loss exceeds `loss_threshold`; else go to the next layer.

Without beta the steps are unbounded, and most changed weights end outside the
range of their layer. The search "in_range" is ours. It keeps every weight in
[min W_l + beta R, max W_l - beta R], where, to first order, the best value of a
weight w is at one end: the gain is the larger of g (high - w) and g (low - w).

1. choose at most `max_layers` layers at random; in them, each weight may change
   with probability 1/2 (all from the secret);
2. take the 8 weights of all layers with the largest gain, at most `max_steps`
   of a layer, and compute the loss with each of them moved;
3. keep the move with the largest loss. The weight goes to a random place in
   the outer share theta of the range (from the secret): few values repeat;
4. after `max_params` moves, take each back in turn for the best one with all
   others in place, twice: early moves were chosen without the later;
5. stop when the loss exceeds `loss_threshold`, or when no move raises the loss;
   below the threshold, `keygen` warns.

A bounded loss needs fewer weights: `keyjax.schemes.range_search.margin_loss`.

The key is positions and the XOR of the bit patterns before and after, so that
decryption is exact: `(w + d) - d == w` holds for only 3 of 4 floats.

Source: Xue, Wu, Wang, Zhang, Liu, "AdvParams: An Active DNN Intellectual
Property Protection Technique via Adversarial Perturbation Based Parameter
Encryption", arXiv 2105.13697, 2021. Its Algorithm 1 is published without
defaults; those here are from a public re-implementation where it has them.
"""

import math
import warnings
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import arguments, keys, meshes, secrets, tree
from keyjax.scheme import Scheme
from keyjax.schemes import gradient_search, range_search, registry
from keyjax.schemes.gradient_search import (
  IN_RANGE,
  PUBLISHED,
  LossFn,
  Options,
  State,
)
from keyjax.secrets import Secret

NAME = "adv_params"
SLOT_BYTES = 12  # int32 leaf, int32 index, uint32 flip


@keys.key_dataclass
class AdvKey(keys.Key):
  """Positions and XOR values, padded to a fixed length K.

  Attributes:
    leaf: int32[K], index into `spec`; -1 where unused.
    index: int32[K], index into the flattened leaf.
    flip: uint32[K], XOR of the bit patterns before and after.
    spec: leaves of the tree.
  """

  distance_unit = "positions"
  leaf: jax.Array
  index: jax.Array
  flip: jax.Array
  spec: tree.Spec = keys.static()

  def check(self) -> None:
    """Raise a ValueError if a position is outside its leaf."""
    used = np.asarray(self.leaf) >= 0
    keys.require_range(self.leaf[used], len(self.spec), "leaf")
    sizes = np.array([math.prod(s.shape) for s in self.spec])
    index = np.asarray(self.index)[used]
    keys.require_range(index // sizes[self.leaf[used]], 1, "index")

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Move positions to other parameters of the same leaf."""
    index = np.array(self.index)
    leaf = np.asarray(self.leaf)
    used = np.flatnonzero(np.asarray(self.flip))
    for k in rng.choice(used, distance, replace=False):
      size = math.prod(self.spec[leaf[k]].shape)
      free = np.setdiff1d(np.arange(size), index[leaf == leaf[k]])
      if not free.size:
        raise ValueError(f"no other place in leaf {self.spec[leaf[k]].path}")
      index[k] = rng.choice(free)
    return self.replace(index=jnp.asarray(index))

  def max_distance(self) -> int:
    """Return the number of changed parameters."""
    return num_changes(self)

  def rebind(self, new: Self, params: Any) -> Any:
    """Return the params: the pass is the plain one."""
    del new
    return params

  def entropy_bits(self) -> float:
    """Return the bits of the positions; those of the values are not counted."""
    leaf = np.asarray(self.leaf)[np.asarray(self.flip) != 0]
    total = 0.0
    for i in np.unique(leaf):
      size = math.prod(self.spec[i].shape)
      total += math.log2(math.comb(size, int((leaf == i).sum())))
    return total

  def size_in_bytes(self) -> int:
    """Return the size of the slots in use."""
    return SLOT_BYTES * num_changes(self)


class Trace(NamedTuple):
  """Outcome of a search, for reports.

  Attributes:
    num_params: Number of parameters that differ.
    num_steps: Number of steps.
    loss_before: Loss of the plain params.
    loss_after: Loss of the encrypted params.
    key_bytes: Size of the used part of the key.
  """

  num_params: int
  num_steps: int
  loss_before: float
  loss_after: float
  key_bytes: int


def adv_params(
  loss_fn: LossFn,
  layers: str = ".*kernel",
  theta: float = 0.1,
  beta: float | None = None,
  max_layers: int = 25,
  max_steps: int = 25,
  max_changes: int = 25,
  max_params: int = 48,
  loss_threshold: float = 10.0,
  search: str = PUBLISHED,
) -> Scheme:
  """Return the AdvParams scheme.

  Class: *access control by degradation*.

  Guarantees:
    - Decryption is exact, on every float dtype.
    - Encrypted params are finite and differ in at most `max_params` elements.

  Known breaks:
    - The key is model-specific data of a few hundred bytes, not a short key:
      no key agility, no key per user.
    - Only tens of scalars are wrong: unbounded steps leave outliers (clip
      them), bounds leave duplicates of `min + beta R`; a few hundred labelled
      images and a line search along the largest gradients undo the rest, of
      either search.
    - A public copy of the base model shows every change.

  Args:
    loss_fn: Mean loss, `loss_fn(params, batch) -> float32[]`.
    layers: Regular expression of leaf paths that may be changed.
    theta: Step, as a fraction of the layer's range; in range, the share of it
      at either end where weights go.
    beta: Margin inside the layer's range; None: no bounds, or in range no
      margin.
    max_layers: Number of layers to choose, L.
    max_steps: Largest number of steps in a layer, P.
    max_changes: Largest number of changes of one parameter, n; in range, a
      parameter changes once.
    max_params: Largest number of changed parameters, and length of the key.
    loss_threshold: Loss at which to stop, in the units of `loss_fn`.
    search: "published", or "in_range" for a search that keeps every weight
      inside the range of its layer.

  Returns:
    A scheme with `keygen`, `encrypt` and `decrypt`. `keygen` uses the values
    of `params` and `batch`.

  Raises:
    ValueError: If an argument is out of range.
  """
  options = Options(
    theta=theta,
    beta=beta,
    max_layers=max_layers,
    max_steps=max_steps,
    max_changes=max_changes,
    max_params=max_params,
    loss_threshold=loss_threshold,
    search=search,
  )
  arguments.require_function(
    loss_fn,
    f"{NAME}: loss_fn",
    "a function loss_fn(params, batch) that returns the mean loss",
  )
  arguments.require_pattern(layers, f"{NAME}: layers")
  _check_options(options)

  def keygen(secret: Secret, params: Any, batch: Any) -> AdvKey:
    keys.require_secret(secret, NAME)
    return find(secret, params, batch, loss_fn, layers, options)[0]

  return Scheme(keygen, encrypt, decrypt)


def _check_options(options: Options) -> None:
  counts = ("max_layers", "max_steps", "max_changes", "max_params")
  for name in counts:
    if getattr(options, name) < 1:
      raise ValueError(f"{NAME}: {name}={getattr(options, name)}: at least 1")
  if options.theta <= 0:
    raise ValueError(f"{NAME}: theta={options.theta}: above 0")
  if options.beta is not None and not 0 <= options.beta < 0.5:
    raise ValueError(f"{NAME}: beta={options.beta}: from 0 to below 0.5")
  if options.search not in (PUBLISHED, IN_RANGE):
    raise ValueError(
      f"{NAME}: search={options.search!r}: {PUBLISHED!r} or {IN_RANGE!r}"
    )
  room = 1 - 2 * (options.beta or 0.0)
  if options.search == IN_RANGE and options.theta > room:
    raise ValueError(
      f"{NAME}: theta={options.theta}: at most 1 - 2 beta = {room:g} in range"
    )


def encrypt(key: AdvKey, params: Any) -> Any:
  """Flip the key's bits; `decrypt` is the same function.

  Raises:
    TypeError: If the key belongs to another scheme.
    ValueError: If the key is for another tree.
  """
  keys.require(key, AdvKey, NAME)
  keys.require_vector(key.index, NAME)
  leaves, treedef = tree.check_spec(key.spec, params, NAME, words=False)
  out = [
    _flip(key, np.int32(i), x) if s.locked else x
    for i, (x, s) in enumerate(zip(leaves, key.spec, strict=True))
  ]
  return jax.tree.unflatten(treedef, out)


decrypt = encrypt


@jax.jit
def _flip(key: AdvKey, i: jax.Array, leaf: jax.Array) -> jax.Array:
  words = tree.as_words(leaf)
  words = meshes.as_auto(_flip_words, words, key, i, words)
  return tree.alike(tree.from_words(words, leaf.dtype), leaf)


def _flip_words(key: AdvKey, i: jax.Array, words: jax.Array) -> jax.Array:
  # Flattening would gather a leaf that is sharded along a later axis.
  grid = words.reshape(words.shape or (1,))
  first, *others = jnp.unravel_index(key.index, grid.shape)
  # Slots of other leaves point past the end, where updates are dropped.
  first = jnp.where(key.leaf == i, first, grid.shape[0])
  # Gather and scatter K slots: [...] -> [K] -> [...].
  slots = grid.at[(first, *others)]
  new = slots.get(mode="fill", fill_value=0) ^ key.flip.astype(words.dtype)
  return slots.set(new, mode="drop").reshape(words.shape)


def find(
  secret: Secret,
  params: Any,
  batch: Any,
  loss_fn: LossFn,
  layers: str,
  options: Options,
) -> tuple[AdvKey, Trace]:
  """Find the perturbations; see `adv_params` for the arguments.

  Returns:
    The key and the outcome of the search.

  Raises:
    ValueError: If no float leaf matches `layers`, the loss is not finite, or it
      exceeds the threshold before any step.
  """
  spec = tree.make_spec(params, NAME)
  chosen = _matching(spec, layers)
  order = secrets.permutation(secret, f"{NAME}/layers", len(chosen))
  _check_loss(loss_fn, params, batch)
  given = (tuple(chosen), loss_fn, options, order)
  if options.search == IN_RANGE:
    state = range_search.run(*given, secret, params, batch)
  else:
    state = gradient_search.run(*given, params, batch)
  _check_finite(state)
  key = _make_key(state, np.asarray(chosen), params, spec, options)
  trace = _trace(state, key)
  if not trace.num_params:
    raise ValueError(
      f"{NAME}: nothing was changed: either the loss, {trace.loss_before:.3g} "
      f"before any step, exceeds loss_threshold={options.loss_threshold:g}, "
      "or no gradient differs from 0"
    )
  if (
    options.search == IN_RANGE and not trace.loss_after > options.loss_threshold
  ):
    warnings.warn(
      f"{NAME}: the loss is {trace.loss_after:.3g} after {trace.num_params} "
      f"changes in range, below loss_threshold={options.loss_threshold:g}: "
      "measure the accuracy without the key, or raise max_params or max_steps",
      stacklevel=3,
    )
  return key, trace


def _check_loss(loss_fn: LossFn, params: Any, batch: Any) -> None:
  """Raise a ValueError unless the loss of these params and batch is a float."""
  loss = arguments.check_runs(
    lambda: jax.eval_shape(loss_fn, tree.reveal(params), batch),
    f"{NAME}: loss_fn(params, batch)",
    batch,
  )
  found = loss.dtype if arguments.is_array(loss) and not loss.shape else None
  if found is None or not jnp.issubdtype(found, jnp.floating):
    raise ValueError(
      f"{NAME}: loss_fn(params, batch) returns {arguments.describe(loss)}, not "
      "one float: return the mean loss alone"
    )


def _matching(spec: tree.Spec, layers: str) -> list[int]:
  """Return the indices of the float leaves that match.

  Raises:
    ValueError: If there is none.
  """
  match = tree.matcher(layers)
  floating = [
    s.locked and jnp.issubdtype(jnp.dtype(s.dtype), jnp.floating) for s in spec
  ]
  chosen = [i for i, s in enumerate(spec) if floating[i] and match(s.path)]
  if not chosen:
    raise ValueError(f"{NAME}: {tree.no_floats(layers, spec)}")
  return chosen


def check(params: Any, layers: str = ".*kernel", **others: Any) -> None:
  """Raise a ValueError unless a float leaf of `params` matches `layers`."""
  del others
  _matching(tree.make_spec(params, NAME), layers)


def _check_finite(state: State) -> None:
  if not np.isfinite(state.loss):
    raise ValueError(
      f"{NAME}: the loss is not finite after {int(state.steps)} steps; "
      "check the batch and the params, or choose a smaller theta"
    )


def _make_key(
  state: State,
  chosen: np.ndarray,
  params: Any,
  spec: tree.Spec,
  options: Options,
) -> AdvKey:
  before = [tree.bits(x) for x in _at(params, chosen)]
  after = [tree.bits(x) for x in state.leaves]
  layer = np.asarray(state.slot_layer)
  index = np.asarray(state.slot_index)
  flip = np.zeros(options.max_params, np.uint32)
  for k in range(options.max_params):
    if layer[k] >= 0:
      at = (layer[k], index[k])
      flip[k] = (
        before[at[0]].reshape(-1)[at[1]] ^ after[at[0]].reshape(-1)[at[1]]
      )
  leaf = np.where(layer >= 0, chosen[layer], -1).astype(np.int32)
  return AdvKey(
    leaf=jnp.asarray(leaf),
    index=jnp.asarray(index),
    flip=jnp.asarray(flip),
    spec=spec,
  )


def num_changes(key: AdvKey) -> int:
  """Return how many parameters a key changes; other slots are padding."""
  return int((np.asarray(key.flip) != 0).sum())


def _at(params: Any, chosen: np.ndarray) -> list[Any]:
  leaves = tree.flatten(params)[1]
  return [leaves[i] for i in chosen]


def _trace(state: State, key: AdvKey) -> Trace:
  used = num_changes(key)
  return Trace(
    num_params=used,
    num_steps=int(state.steps),
    loss_before=float(state.first_loss),
    loss_after=float(state.loss),
    key_bytes=key.size_in_bytes(),
  )


registry.register(
  NAME,
  adv_params,
  security_class=registry.DEGRADATION,
  known_break="a line search with 200 labelled images finds the changes",
  key_source=registry.KeySource.PARAMS,
  check=check,
  picture="weights",
)
