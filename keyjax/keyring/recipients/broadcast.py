"""Broadcast encryption: revoke some of very many licensees at once.

The complete subtree method. N licensees are the leaves of a binary tree. Every
node has a key, derived from one root secret by the number of the node; a
licensee holds the keys on the path from their leaf to the root, log2(N) + 1 of
them. To exclude r licensees, the data key is wrapped for the subtrees that
contain none of them: at most r log2(N/r) wrapped keys, whatever the size of the
checkpoint. Nodes are numbered as in a heap: the root is 1, licensee i is the
leaf N + i.

**Guarantees.** Any number of revoked licensees together learn nothing about a
data key that was wrapped after they were revoked.

**Known breaks.** As with every recipient, a licensee who had access may have
kept the data key: a *new* checkpoint is out of reach for the revoked, an old
one that they opened is not. The stanza shows the numbers of the revoked. A
licensee who publishes their device keys gives everyone access until they are
revoked, and a decoder built from the keys of several licensees identifies at
least one of them to anyone who tests it. A rewrap without the tree forgets whom
the tree revoked: a later one that adds the tree again readmits them.

References:
  D. Naor, M. Naor and J. Lotspiech, "Revocation and Tracing Schemes for
  Stateless Receivers", CRYPTO 2001, section 3.1.
"""

import re
import struct
from collections.abc import Iterable

from keyjax.errors import ArgumentError, CannotOpen, KeyringError
from keyjax.keyring.encoding import encode, field
from keyjax.keyring.recipients import (
  Argument,
  KeyReader,
  Kind,
  Private,
  Stanza,
  register,
)
from keyjax.keyring.recipients.symmetric import (
  WRAPPED_BYTES,
  unwrap_key,
  wrap_key,
)
from keyjax.secrets import SECRET_BYTES, Secret

MAX_DEPTH = 30


def cover(depth: int, revoked: Iterable[int]) -> list[int]:
  """Return the roots of the subtrees that contain all but the revoked.

  Time and memory are proportional to r log2(N), not to N.

  Args:
    depth: log2 of the number of licensees, N.
    revoked: r licensees, 0 to N - 1.

  Returns:
    Node numbers in ascending order: at most r log2(N/r) for r > 0, and the
    root of the tree for r = 0.

  Raises:
    KeyringError: If a licensee does not exist.

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
  """All licensees of a tree except the revoked, as one recipient.

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
    """Make the recipient; store the root and the list of the revoked.

    Args:
      root: Secret from which the keys of the nodes are derived. Use another
        one for each tree.
      depth: log2 of the number of licensees, 0 to 30.
      revoked: Licensees who must not open what is wrapped.

    Raises:
      KeyringError: If the depth or a licensee is out of range.
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
    """Return the recipient without some more licensees."""
    made = object.__new__(Broadcast)
    made._root = self._root
    made.depth = self.depth
    made.id = self.id
    made.revoked = self.revoked | set(licensees)
    cover(self.depth, made.revoked)
    return made

  def readmits(self, stanza: Stanza) -> int | None:
    """Return a licensee whom a stanza of this tree excludes, but not this.

    Args:
      stanza: Stanza that `wrap` returned, perhaps for other licensees.

    Returns:
      One such licensee; None if there is none.

    Raises:
      KeyringError: If the stanza is malformed.
    """
    nodes = field(stanza, "nodes", bytes)
    if len(nodes) % 4:
      raise KeyringError("the revoked licensees of a tree cannot be read")
    covered = set(_numbers(nodes))

    def first(node: int) -> int | None:
      if node in covered:
        return None
      if node >= 2**self.depth:
        return node - 2**self.depth
      left = first(2 * node)
      return first(2 * node + 1) if left is None else left

    for node in cover(self.depth, self.revoked):
      above = (node >> up for up in range(self.depth + 1))
      if covered.isdisjoint(above):
        return first(node)
    return None

  def device(self, licensee: int) -> "DeviceKeys":
    """Return the depth + 1 keys to hand to one licensee."""
    leaf = _leaf(self.depth, licensee)
    path = [leaf >> up for up in range(self.depth + 1)]
    return DeviceKeys(self.id, leaf, [self._node(node) for node in path])

  def wrap(self, data_key: bytes, context: bytes) -> Stanza:
    """Wrap a data key for every subtree of the cover.

    Raises:
      KeyringError: If every licensee is revoked.
    """
    nodes = cover(self.depth, self.revoked)
    if not nodes:
      raise KeyringError("every licensee of this tree is revoked")
    wrapped = (wrap_key(self._node(n), data_key, context) for n in nodes)
    return {
      "nodes": encode(struct.pack(f">{len(nodes)}I", *nodes)),
      "wrapped": encode(b"".join(wrapped)),
    }

  def _node(self, node: int) -> Secret:
    return self._root.child(f"node/{node}")


class DeviceKeys(Private):
  """The keys of one licensee: an identity of a `Broadcast`."""

  __slots__ = ("_keys", "id", "leaf")
  kind = "device"

  def __init__(self, tree: str, leaf: int, keys: list[Secret]):
    """Make the identity; users call `Broadcast.device`.

    Args:
      tree: Id of the tree.
      leaf: Node of the licensee.
      keys: Keys of the nodes from the leaf up to the root.

    Raises:
      KeyringError: If their number is not the length of the path.
    """
    if leaf < 1 or len(keys) != leaf.bit_length():
      raise KeyringError("these are not the keys of one licensee")
    self.id = tree
    self.leaf = leaf
    self._keys = keys

  @property
  def licensee(self) -> int:
    """Number of the licensee."""
    return self.leaf - (1 << (self.leaf.bit_length() - 1))

  def reveal(self) -> bytes:
    """Return the keys themselves, for a key file."""
    head = self.leaf.to_bytes(4, "big")
    keys = b"".join(key._bytes for key in self._keys)
    return head + keys + self.id.encode("ascii")

  @classmethod
  def read(cls, data: bytes) -> "DeviceKeys":
    """Read what `reveal` returned; raise a KeyringError for anything else."""
    leaf = int.from_bytes(data[:4], "big")
    end = 4 + SECRET_BYTES * leaf.bit_length()
    if len(data) <= end or not data[end:].isascii():
      raise KeyringError("these are not the keys of one licensee")
    keys = [
      Secret(data[i : i + SECRET_BYTES]) for i in range(4, end, SECRET_BYTES)
    ]
    return cls(data[end:].decode("ascii"), leaf, keys)

  def unwrap(self, stanza: Stanza, context: bytes) -> bytes | None:
    """Return the data key, or None if the stanza is for another tree.

    Raises:
      CannotOpen: If the stanza was altered, or the context is wrong.
      KeyringError: If this licensee was revoked.
    """
    if stanza.get("id") != self.id:
      return None
    nodes = field(stanza, "nodes", bytes)
    wrapped = field(stanza, "wrapped", bytes)
    if len(nodes) % 4 or len(wrapped) != len(nodes) // 4 * WRAPPED_BYTES:
      raise CannotOpen
    place = {node: i for i, node in enumerate(_numbers(nodes))}
    for up, key in enumerate(self._keys):
      if (i := place.get(self.leaf >> up)) is not None:
        at = i * WRAPPED_BYTES
        return unwrap_key(key, wrapped[at : at + WRAPPED_BYTES], context)
    raise KeyringError(f"licensee {self.licensee} was revoked")


def _numbers(nodes: bytes) -> tuple[int, ...]:
  """Return the numbers of nodes, big-endian words of 4 bytes."""
  return struct.unpack(f">{len(nodes) // 4}I", nodes)


_TREE = re.compile(r"(.+)#([0-9]{1,2})((?:-[0-9]{1,10})*)")


def _from_argument(text: str, reader: KeyReader) -> Broadcast:
  """Return the recipient that `broadcast:SOURCE#DEPTH-REVOKED...` names."""
  found = _TREE.fullmatch(text)
  if found is None:
    raise ArgumentError("a tree is named broadcast:SOURCE#DEPTH[-REVOKED...]")
  source, depth, revoked = found.groups()
  root = reader.key(source)
  if not isinstance(root, Secret):
    raise ArgumentError(f"{source} holds another kind of key than a secret")
  try:
    return Broadcast(root, int(depth), map(int, revoked.split("-")[1:]))
  except KeyringError as error:
    raise ArgumentError(str(error)) from None


register(
  Kind(
    name="device",
    key_type=DeviceKeys,
    read=DeviceKeys.read,
    reveal=DeviceKeys.reveal,
    identity=lambda keys: keys,
  )
)
register(
  Kind(
    name="broadcast",
    argument=Argument(
      form="broadcast:SOURCE#DEPTH[-REVOKED...]",
      help="the 2^DEPTH licensees of a tree except the revoked, by number; "
      "SOURCE is the secret at its root",
      recipient=_from_argument,
    ),
  )
)
