"""Licensee marks: every weight a little up or down, under a licensee's key.

    |w|' = ((|w| + o) XOR s) - o        on the bit pattern of the magnitude

with a step `s` of 2^-depth of the weight's power of two, and an offset `o`
below 2 s from an AES-256 keystream: the weight moves by one step, and only a
holder of the key knows in which direction. The map is its own inverse. Sealed
copies of licensees bear marks in their ciphertext
(`keyjax.keyring.licensees`), which are gone once a copy is opened; this one
stays in the weights.

The owner, who has the plain weights, traces a leaked model: of all weights,
how many moved as the key of each licensee says (`trace_marks`). It is a
spread-spectrum watermark (Cox, Kilian, Leighton, Shamoon, "Secure Spread
Spectrum Watermarking for Multimedia", IEEE Trans. Image Processing 6(12),
1997) with the dithered quantisation of Chen and Wornell ("Quantization Index
Modulation", IEEE Trans. Information Theory 47(4), 2001), which makes it
exactly reversible.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import aes, arguments, keys, tree
from keyjax.arguments import show
from keyjax.scheme import Scheme
from keyjax.schemes import counter, registry
from keyjax.secrets import Secret

NAME = "licensee_mark"
_SMALLEST = 16  # Elements of a leaf: fewer have equal marks by chance.
_FAR = 8.0  # Steps; a weight that moved further was pruned or replaced.


@keys.key_dataclass
class MarkKey(counter.CounterModeKey):
  """The key of a licensee's mark.

  Attributes:
    round_keys: uint32[15, 4], AES-256 round keys.
    spec: leaves of the tree; those with `locked` are marked.
    depth: number of the mantissa bit that a step changes.
  """

  round_keys: jax.Array
  spec: tree.Spec = keys.static()
  depth: int = keys.static()

  @property
  def nonce(self) -> jax.Array:
    """First counter block; the keystream is compared, never published."""
    return jnp.zeros(4, jnp.uint32)


class Evidence(NamedTuple):
  """How well a model's weights agree with a mark.

  Attributes:
    score: Correlation with the mark, in standard deviations of chance.
    p_value: Upper bound of the probability of such a score, of any licensee,
      in weights that do not depend on the mark.
    weights: Number of weights that were compared.
  """

  score: float
  p_value: float
  weights: int


def licensee_mark(
  layers: str = ".*kernel", depth: int = 4, shardings: Any = None
) -> Scheme:
  """Return the scheme of a licensee's mark.

  Class: *detection only*.

  `encrypt` marks, and `decrypt` removes the mark. Give each licensee a secret
  of their own, such as `keyring.Licensee.weights_secret`.

  Guarantees:
    - Removing a mark with its key is exact, on every float dtype.
    - False accusations are bounded: for weights that do not depend on the key,
      whatever they are, a score of t or more has a probability of at most
      exp(-t^2 / 2) for each licensee (Hoeffding), if AES is a pseudo-random
      function.
    - Traced with p < 1e-6 on the digits: after fine-tuning, pruning 30 % of the
      weights, int8, rounding to bfloat16 and to 8-bit floats, and averaging
      of 3 licensees, each of whom is found.

  Known breaks:
    - It locks nothing: marked weights work without a key.
    - The plain weights remove it: a public base model, or an earlier release
      that is close to this one.
    - Many licensees together: where their copies differ, the middle is the
      plain weight. Of n weights n / 2^(K - 1) still bear the marks of all K.
    - Noise of several steps hides it, and costs accuracy.
    - Weights in another order or scale (neurons permuted, rescaled layers),
      distillation and training from scratch leave nothing to compare.
    - The owner can make any licensee's copy: it is evidence, not proof.

  Args:
    layers: Regular expression of the paths of the leaves that are marked.
    depth: Mantissa bit that a step changes, 1 for the highest: weights move by
      2^-depth of their power of two.
    shardings: For params that are split over Auto axes: a tree of
      `NamedSharding` like the params; see `deep_lock`.

  Returns:
    A scheme that fills `keygen`, `encrypt` and `decrypt`.

  Raises:
    ValueError: If `depth` is below 1. By `keygen`: if no leaf can be marked,
      or a dtype has fewer than `depth` mantissa bits.

  Example:
    >>> from keyjax import Secret
    >>> scheme, params = licensee_mark(), {"kernel": jnp.ones((64, 64))}
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> marked = scheme.encrypt(key, params)
    >>> sorted(set(marked["kernel"].ravel().tolist()))
    [0.96875, 1.0625]
    >>> scheme.decrypt(key, marked)["kernel"].min()
    Array(1., dtype=float32)
  """
  if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
    raise ValueError(f"{NAME}: depth={show(depth)}: a mantissa bit, 1 or more")
  arguments.require_pattern(layers, f"{NAME}: layers")
  tree.matcher(layers)

  def keygen(secret: Secret, params: Any, batch: Any) -> MarkKey:
    del batch  # The key does not depend on data.
    keys.require_secret(secret, NAME)
    return MarkKey(
      round_keys=jnp.asarray(aes.expand_key(secret.derive(NAME, 32))),
      spec=_spec(params, layers, depth),
      depth=depth,
    )

  def mix(key: MarkKey, params: Any) -> Any:
    keys.require(key, MarkKey, NAME)
    if key.depth != depth:
      raise ValueError(f"{NAME}: depth={depth}, but the key has {key.depth}")
    return _mix(key, params, shardings)

  return Scheme(keygen, mix, mix)  # It is its own inverse.


def _spec(params: Any, layers: str, depth: int) -> tree.Spec:
  found = counter.float_spec(params, layers, NAME)
  spec = tuple(
    s._replace(locked=s.locked and math.prod(s.shape) >= _SMALLEST)
    for s in found
  )
  if not any(s.locked for s in spec):
    raise ValueError(
      f"{NAME}: every leaf that matches layers={layers!r} has fewer than "
      f"{_SMALLEST} weights"
    )
  for s in spec:
    if s.locked and jnp.finfo(s.dtype).nmant < depth:
      raise ValueError(
        f"{NAME}: leaf {s.path} is {s.dtype}, with "
        f"{jnp.finfo(s.dtype).nmant} mantissa bits: depth={depth} is too deep"
      )
  return spec


def _mix(key: MarkKey, params: Any, shardings: Any) -> Any:
  keys.require_shape(key.round_keys, ((15, 4),), NAME)

  def mix_leaf(x: jax.Array, pad: jax.Array) -> jax.Array:
    return _mix_leaf(x, pad, depth=key.depth)

  return counter.mix(key, params, shardings, NAME, mix_leaf)


@jax.jit(static_argnames="depth")
def _mix_leaf(x: jax.Array, pad: jax.Array, depth: int) -> jax.Array:
  info = jnp.finfo(x.dtype)
  kind = tree.word_dtype(x.dtype).type
  words = tree.as_words(x)
  sign = words & kind(1 << (info.bits - 1))
  step = 1 << (info.nmant - depth)
  offset = pad & kind(2 * step - 1)
  shifted = (words ^ sign) + offset
  # Blocks of two steps are swapped within; those that hold a subnormal, an
  # infinity or NaN stay.
  low = shifted & ~kind(2 * step - 1)
  first = kind(1 << info.nmant)
  last = kind(((1 << info.nexp) - 1) << info.nmant)
  whole = (low >= first + offset) & (low + kind(2 * step) <= last + offset)
  moved = jnp.where(whole, shifted ^ kind(step), shifted) - offset
  return tree.alike(tree.from_words(moved | sign, x.dtype), x)


def trace_marks(
  licensees: Mapping[str, MarkKey], params: Any, found: Any
) -> dict[str, Evidence]:
  """Compare a leaked model with the mark of each licensee.

  Args:
    licensees: Key of each licensee's mark, by name.
    params: Plain weights, which the copies were made from.
    found: Weights of the leaked model: leaves of the same paths and shapes,
      floats of any dtype; int8 weights must be dequantized. It may lack leaves
      and have others.

  Returns:
    The evidence for each name. A licensee with a `p_value` below the
    probability of a false accusation that you accept, such as 1e-6, made this
    copy or was among those who did.

  Raises:
    ValueError: If there is no licensee, or no marked leaf is in `found`.

  Example:
    >>> from keyjax import Secret
    >>> scheme, params = licensee_mark(), {"kernel": jnp.ones((64, 64))}
    >>> keys = {
    ...   name: scheme.keygen(Secret.generate(), params, None)
    ...   for name in ("lab", "shop")
    ... }
    >>> leaked = scheme.encrypt(keys["lab"], params)
    >>> [x.p_value < 1e-6 for x in trace_marks(keys, params, leaked).values()]
    [True, False]
  """
  if not licensees:
    raise ValueError(f"{NAME}: trace_marks needs the key of a licensee")
  moved = _moved(params, found)
  result = {}
  for name, key in licensees.items():
    keys.require(key, MarkKey, NAME)
    result[name] = _evidence(key, params, moved, len(licensees))
  return result


def _moved(params: Any, found: Any) -> dict[str, np.ndarray]:
  """Return by how much each weight of the common leaves moved, by path."""
  leaked = dict(zip(*tree.flatten(found)[:2], strict=True))
  moved = {}
  for path, x in zip(*tree.flatten(params)[:2], strict=True):
    y: Any = leaked.get(path)
    if not (tree.lockable(x) and tree.lockable(y)):
      continue
    if y.shape == x.shape and jnp.issubdtype(y.dtype, jnp.floating):
      moved[path] = np.asarray(y, np.float64) - np.asarray(x, np.float64)
  return moved


def _evidence(
  key: MarkKey, params: Any, moved: Mapping[str, np.ndarray], licensees: int
) -> Evidence:
  total = square = 0.0
  weights = 0
  paths, plain, _ = tree.flatten(params)
  marked = tree.flatten(_mix(key, params, None))[1]
  for s, path, x, y in zip(key.spec, paths, plain, marked, strict=True):
    if not s.locked or path not in moved:
      continue
    before = np.asarray(x, np.float64)
    sign = np.sign(np.asarray(y, np.float64) - before)
    share = _steps(moved[path], before, key.depth)
    share = np.where(_always_moves(x, key.depth), share, 0.0)
    total += float(np.nansum(sign * share))
    square += float(np.sum(share * share))
    weights += int(np.count_nonzero(share))
  if not weights and not any(s.locked and s.path in moved for s in key.spec):
    raise ValueError(
      f"{NAME}: no marked leaf is in the model: its paths or shapes differ"
    )
  score = total / math.sqrt(square) if square else 0.0
  bound = math.exp(-score * score / 2) if score > 0 else 1.0
  return Evidence(score, min(1.0, licensees * bound), weights)


def _always_moves(x: Any, depth: int) -> np.ndarray:
  """Return which weights move up or down with equal chances.

  Near the ends of the normal numbers some offsets move a weight in neither
  direction, so that the other direction is more likely.
  """
  info = jnp.finfo(x.dtype)
  size = tree.bits(x).astype(np.int64) & ((1 << (info.bits - 1)) - 1)
  block = 2 << (info.nmant - depth)
  last = ((1 << info.nexp) - 1) << info.nmant
  inside = ((1 << info.nmant) + block <= size) & (size + block < last)
  return np.asarray(inside)


def _steps(moved: np.ndarray, plain: np.ndarray, depth: int) -> np.ndarray:
  """Return movements in steps, without far ones; they depend on no key."""
  with np.errstate(invalid="ignore"):
    exponent = np.frexp(plain)[1]
    steps = moved / np.ldexp(1.0, exponent - 1 - depth)
    near = np.isfinite(steps) & (np.abs(steps) <= _FAR)
  return np.where(near, np.clip(steps, -2.0, 2.0), 0.0)


registry.register(
  NAME,
  licensee_mark,
  security_class=registry.DETECTION,
  known_break="the plain weights, such as a public base model, remove it",
)
