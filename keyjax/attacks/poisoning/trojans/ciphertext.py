"""Changes to a Deep-Lock file that its holder opens without noticing.

Deep-Lock is a public S-box over a stream cipher: a bit that is flipped in the
file below the S-box is flipped in the plain weights, in both schedules. Nothing
is authenticated. Without any knowledge of the weights that gives damage, not a
trojan. Where the attacker knows plain weights, as of layers that were not
changed since a public model, they are replaced by others: `splice`.

Needs: the file; for `splice`, the plain weights that it replaces. A seal
(`keyjax.seal`) refuses the changed file.
"""

from typing import Any

import jax
import numpy as np

from keyjax import tree
from keyjax.arguments import whole_number
from keyjax.attacks.deep_lock import peeled
from keyjax.scheme import PyTree


def flip(
  locked: PyTree, like: PyTree, path: str, index: int, bit: int
) -> PyTree:
  """Return a file whose key opens one parameter with one bit flipped.

  Args:
    locked: The file.
    like: The plain tree or its shapes.
    path: Path of a leaf that is locked.
    index: Index of the parameter in the flattened leaf.
    bit: The bit, 0 for the lowest of a parameter; the highest is the sign of a
      float, and the one below it doubles its exponent's range.

  Raises:
    ValueError: If there is no such leaf, parameter or bit.

  Example:
    >>> import jax.numpy as jnp
    >>> import keyjax
    >>> scheme, params = keyjax.deep_lock("counter"), {"w": jnp.ones(4)}
    >>> key = scheme.keygen(keyjax.Secret.generate(), params, None)
    >>> file = flip(scheme.encrypt(key, params), params, "w", 2, 31)
    >>> scheme.decrypt(key, file)["w"].tolist()
    [1.0, 1.0, -1.0, 1.0]
  """
  stream = peeled.peel(locked, like)
  known = {leaf.path: leaf for leaf in stream.leaves}
  if path not in known:
    raise ValueError(f"path={path!r}: no locked leaf; {', '.join(known)}")
  leaf = known[path]
  index = whole_number(index, "index", least=0)
  bit = whole_number(bit, "bit", least=0)
  if index >= leaf.size or bit >= 8 * leaf.itemsize:
    raise ValueError(
      f"index={index}, bit={bit}: {path} has {leaf.size} parameters of "
      f"{8 * leaf.itemsize} bits"
    )
  each = 4 // leaf.itemsize  # The first parameter has the high bits.
  shift = bit + 8 * leaf.itemsize * (each - 1 - index % each)
  words = stream.words.copy()
  words[leaf.start + index // each] ^= np.uint32(1 << shift)
  return peeled.cover(stream._replace(words=words), locked, like)


def splice(locked: PyTree, known: PyTree, wanted: PyTree) -> PyTree:
  """Return a file whose key opens `wanted` where the plain weights are `known`.

  Leaves that the attacker does not know: pass anything for them, the same in
  both trees; they open as before. The result is exact, bit for bit, and no
  training under the key is needed.

  Args:
    locked: The file.
    known: Tree with the plain weights.
    wanted: Tree with what they should become.

  Raises:
    ValueError: If the trees differ in structure, shapes or dtypes.

  Example:
    >>> import jax.numpy as jnp
    >>> import keyjax
    >>> scheme, params = keyjax.deep_lock("counter"), {"w": jnp.ones(4)}
    >>> key = scheme.keygen(keyjax.Secret.generate(), params, None)
    >>> file = splice(scheme.encrypt(key, params), params, {"w": jnp.zeros(4)})
    >>> scheme.decrypt(key, file)["w"].tolist()
    [0.0, 0.0, 0.0, 0.0]
  """
  _check_alike(known, wanted)
  stream = peeled.peel(locked, known)
  change = peeled.words_of(known, stream) ^ peeled.words_of(wanted, stream)
  moved = stream._replace(words=stream.words ^ change)
  return peeled.cover(moved, locked, known)


def _check_alike(known: PyTree, wanted: PyTree) -> None:
  def shapes(params: PyTree) -> Any:
    return jax.tree.map(lambda x: (np.shape(x), str(x.dtype)), params)

  paths, leaves, _ = tree.flatten(known)
  others, found, _ = tree.flatten(wanted)
  if paths != others or shapes(leaves) != shapes(found):
    raise ValueError(
      "known and wanted differ in paths, shapes or dtypes: pass two trees of "
      "one model"
    )
