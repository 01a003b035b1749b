"""The Merkle tree over a growing list of entries.

References:
  B. Laurie, A. Langley and E. Kasper, RFC 6962, "Certificate Transparency",
  2013, section 2.1.
"""

import hashlib
from collections.abc import Iterable


class Tree:
  r"""The Merkle tree over a growing list of entries.

  Example:
    >>> tree = Tree()
    >>> tree.append(b"first")
    >>> tree.size, tree.root() == hashlib.sha256(b"\x00first").digest()
    (1, True)
  """

  def __init__(self, size: int = 0, roots: Iterable[bytes] = ()):
    """Make a tree; without arguments, one of no entries.

    Args:
      size: Number of entries.
      roots: Roots of the complete subtrees over them, the largest first.
    """
    self.size = size
    self._roots = list(roots)

  def copy(self) -> "Tree":
    """Return another tree over the same entries."""
    return Tree(self.size, self._roots)

  def append(self, entry: bytes) -> None:
    """Add an entry."""
    node = hashlib.sha256(b"\x00" + entry).digest()
    before = self.size
    while before & 1:
      node = _parent(self._roots.pop(), node)
      before >>= 1
    self._roots.append(node)
    self.size += 1

  def root(self) -> bytes:
    """Return the root, 32 bytes."""
    if not self._roots:
      return hashlib.sha256().digest()
    node = self._roots[-1]
    for left in reversed(self._roots[:-1]):
      node = _parent(left, node)
    return node


def _parent(left: bytes, right: bytes) -> bytes:
  return hashlib.sha256(b"\x01" + left + right).digest()
