"""Broadcast encryption: revoke some of very many licensees, weights untouched.

The complete subtree method. N licensees are the leaves of a binary tree; every
node has a key, derived from one root secret by the node's number; a licensee
holds the keys on the path from their leaf to the root, log2(N) + 1 of them. To
shut out r licensees the data key is wrapped for the subtrees that hold no one
of them: at most r log2(N/r) wraps, however large the checkpoint is. Nodes are
numbered as in a heap: the root is 1, licensee i is the leaf N + i.

**Guarantees.** Any number of revoked licensees together learn nothing of a data
key that was wrapped after they were revoked.

**Known breaks.** As with every recipient, whoever had access once may have kept
the data key: a *new* checkpoint is out of reach for the revoked, an old one
that they opened is not. The stanza shows the numbers of those revoked. A
licensee who publishes their device keys gives everybody access until they are
revoked, and a box built of several licensees' keys names at least one of them
to who tries it.

References:
  D. Naor, M. Naor and J. Lotspiech, "Revocation and Tracing Schemes for
  Stateless Receivers", CRYPTO 2001, section 3.1.
"""

from collections.abc import Iterable

import numpy as np

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring.encoding import encode, field
from keyjax.keyring.recipients.base import Private, Stanza, unwrap_key, wrap_key
from keyjax.keys import SECRET_BYTES, Secret

MAX_DEPTH = 30
_WRAPPED = SECRET_BYTES + 8
_NODE = np.dtype(">u4")


def cover(depth: int, revoked: Iterable[int]) -> list[int]:
  """Returns the roots of the subtrees that hold everybody but the revoked.

  Takes time and memory in proportion to r log2(N), not to N.

  Args:
    depth: log2 of the number of licensees, N.
    revoked: r licensees, 0 to N - 1.

  Returns:
    Node numbers in ascending order: at most r log2(N/r) for r > 0, and the
    root of the tree for r = 0.

  Raises:
    KeyringError: a licensee does not exist.

  Example:
    >>> cover(3, []), cover(3, [0])
    ([1], [3, 5, 9])
  """
  leaves = {_leaf(depth, i) for i in revoked}
  if not leaves:
    return [1]
  above = {leaf >> up for leaf in leaves for up in range(depth + 1)}
  children = (2 * node + side for node in above - leaves for side in (0, 1))
  return sorted(node for node in children if node not in above)


def _leaf(depth: int, index: int) -> int:
  if not 0 <= index < 2**depth:
    raise KeyringError(f"licensee {index}: there are 0 to {2**depth - 1}")
  return 2**depth + index


class Broadcast(Private):
  """All licensees of a tree but the revoked, as one recipient.

  Example:
    >>> tree = Broadcast(Secret.generate(), depth=20)
    >>> device = tree.device(7)
    >>> stanza = tree.wrap(bytes(32), b"context") | {"id": tree.id}
    >>> device.unwrap(stanza, b"context") == bytes(32)
    True
    >>> stanza = tree.revoke([7]).wrap(bytes(32), b"context") | {"id": tree.id}
    >>> device.unwrap(stanza, b"context")
    Traceback (most recent call last):
    keyjax.errors.KeyringError: licensee 7 was revoked
  """

  __slots__ = ("_root", "depth", "id", "revoked")

  def __init__(self, root: Secret, depth: int, revoked: Iterable[int] = ()):
    """Makes the recipient; keep the root and the list of the revoked.

    Args:
      root: what the nodes' keys are derived from; another tree, another root.
      depth: log2 of the number of licensees, 0 to 30.
      revoked: licensees who shall not open what is wrapped.

    Raises:
      KeyringError: the depth or a licensee is out of range.
    """
    if not 0 <= depth <= MAX_DEPTH:
      raise KeyringError(f"a tree has a depth of 0 to {MAX_DEPTH}, not {depth}")
    self._root = root.child(f"broadcast/{depth}")
    self.depth = depth
    self.revoked = frozenset(revoked)
    self.id = f"broadcast:{self._root.fingerprint()}"
    for index in self.revoked:
      _leaf(depth, index)

  def revoke(self, licensees: Iterable[int]) -> "Broadcast":
    """Returns the recipient without some more licensees."""
    made = object.__new__(Broadcast)
    made._root, made.depth, made.id = self._root, self.depth, self.id
    made.revoked = self.revoked | set(licensees)
    cover(self.depth, made.revoked)
    return made

  def device(self, licensee: int) -> "DeviceKeys":
    """Returns what one licensee is given: depth + 1 keys."""
    leaf = _leaf(self.depth, licensee)
    path = [leaf >> up for up in range(self.depth + 1)]
    return DeviceKeys(self.id, leaf, [self._node(node) for node in path])

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wraps a data key for every subtree of the cover.

    Raises:
      KeyringError: every licensee is revoked.
    """
    nodes = cover(self.depth, self.revoked)
    if not nodes:
      raise KeyringError("every licensee of this tree is revoked")
    wrapped = (wrap_key(self._node(n), data_key, context) for n in nodes)
    return {
      "nodes": encode(np.asarray(nodes, _NODE).tobytes()),
      "wrapped": encode(b"".join(wrapped)),
    }

  def _node(self, node: int) -> Secret:
    return self._root.child(f"node/{node}")


class DeviceKeys(Private):
  """The keys of one licensee: the identity of a `Broadcast`."""

  __slots__ = ("_keys", "id", "leaf")

  def __init__(self, tree: str, leaf: int, keys: list[Secret]):
    """Not for users; see `Broadcast.device`.

    Args:
      tree: the tree's id.
      leaf: the licensee's node.
      keys: of the nodes from the leaf up to the root.

    Raises:
      KeyringError: the number of keys is not that of the path.
    """
    if leaf < 1 or len(keys) != leaf.bit_length():
      raise KeyringError("these are not the keys of one licensee")
    self.id = tree
    self.leaf = leaf
    self._keys = keys

  @property
  def licensee(self) -> int:
    """The licensee's number."""
    return self.leaf - (1 << (self.leaf.bit_length() - 1))

  def reveal(self) -> bytes:
    """Returns the keys themselves, for a key file."""
    head = self.leaf.to_bytes(4, "big")
    keys = b"".join(key._bytes for key in self._keys)
    return head + keys + self.id.encode("ascii")

  @classmethod
  def read(cls, data: bytes) -> "DeviceKeys":
    """Reads what `reveal` returned; a KeyringError if it is not that."""
    leaf = int.from_bytes(data[:4], "big")
    end = 4 + SECRET_BYTES * leaf.bit_length()
    if len(data) <= end or not data[end:].isascii():
      raise KeyringError("these are not the keys of one licensee")
    keys = [
      Secret(data[i : i + SECRET_BYTES]) for i in range(4, end, SECRET_BYTES)
    ]
    return cls(data[end:].decode("ascii"), leaf, keys)

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Returns the data key; None when the stanza is another tree's.

    Raises:
      CannotOpen: the stanza was altered, or the context is wrong.
      KeyringError: this licensee was revoked.
    """
    if stanza.get("id") != self.id:
      return None
    nodes = field(stanza, "nodes", bytes)
    wrapped = field(stanza, "wrapped", bytes)
    if len(nodes) % 4 or len(wrapped) != len(nodes) // 4 * _WRAPPED:
      raise CannotOpen
    numbers = np.frombuffer(nodes, _NODE)
    for up, key in enumerate(self._keys):
      found = np.flatnonzero(numbers == np.uint32(self.leaf >> up))
      if found.size:
        at = int(found[0]) * _WRAPPED
        return unwrap_key(key, wrapped[at : at + _WRAPPED], context)
    raise KeyringError(f"licensee {self.licensee} was revoked")
