"""Any data source, each element of which is checked by its tag."""

import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

from keyjax.arguments import describe, show
from keyjax.data.tagger import Tagger
from keyjax.data.tags import RecordTags
from keyjax.errors import ArgumentError, ContentError
from keyjax.keyring.recipients import Private
from keyjax.secrets import Secret

_PLAIN = bool | int | float | complex | str | bytes | bytearray | memoryview


class Checked(Private):
  """Any data source, each element of which is checked as it is read.

  Example:
    >>> import numpy as np
    >>> source = [{"image": np.zeros(4), "label": i} for i in range(3)]
    >>> secret = Secret.generate()
    >>> tags = tag_source(source, secret, "zeros")
    >>> checked = Checked(source, tags, secret)
    >>> checked[2]["label"]
    2
    >>> source[1], source[2] = source[2], source[1]
    >>> checked[2]
    Traceback (most recent call last):
    ...
    keyjax.errors.ContentError: record 2 of zeros is not what was tagged: \
it was changed or moved, or is of another set
  """

  def __init__(
    self,
    source: Any,
    tags: RecordTags,
    secret: Secret,
    *,
    encode: Callable[[Any], bytes] | None = None,
  ):
    """Wrap a source.

    Args:
      source: Sequence, or random-access data source of Grain.
      tags: What `tag_source` returned.
      secret: Secret that they were made with.
      encode: Function from an element to bytes; `record_bytes` by default.

    Raises:
      ContentError: If the source has another number of elements.
    """
    if len(source) != len(tags):
      raise ContentError(
        f"{tags.name} has {len(source)} records, and {len(tags)} were tagged"
      )
    self.id = tags.name
    self._source = source
    self._tags = tags.of()
    self._tagger = Tagger(secret, tags.name)
    self._encode = encode or record_bytes

  def __len__(self) -> int:
    return len(self._tags)

  def __getitem__(self, index: SupportsIndex) -> Any:
    """Return an element.

    Raises:
      IndexError: If there is none.
      ContentError: If it is not what was tagged; the message has its index.
    """
    i = operator.index(index)
    if not 0 <= i < len(self):
      raise IndexError(f"record {i} of {len(self)}")
    found = self._source[i]
    if not self._tagger.is_right(self._tags[i], self._encode(found), i):
      raise ContentError(refused(i, self._tagger.name))
    return found


def tag_source(
  source: Any,
  secret: Secret,
  name: str,
  *,
  tags: RecordTags | None = None,
  encode: Callable[[Any], bytes] | None = None,
) -> RecordTags:
  """Return the tags of a data source's elements, for `Checked`.

  Args:
    source: Sequence, or random-access data source of Grain.
    secret: Secret that tags are made and checked with.
    name: Name of the set.
    tags: Tags of its first elements, to which those of the others are added.
    encode: Function from an element to bytes; `record_bytes` by default.
  """
  if tags is not None and tags.name != name:
    raise ArgumentError(
      f"these are tags of {show(tags.name)}, not {show(name)}"
    )
  tagger = Tagger(secret, name)
  found = tags or RecordTags(name, {"": 0})
  encode = encode or record_bytes
  new = (
    tagger.tag(encode(source[i]), i) for i in range(len(found), len(source))
  )
  return found.extended(new)


def record_bytes(element: Any) -> bytes:
  """Return an element as bytes, which differ for different elements.

  Args:
    element: Bytes, which are returned as they are; or a pytree of arrays,
      numbers and text: their paths, dtypes, shapes and values count. Lists and
      tuples are the same; None, what is empty and static fields of a node do
      not count.

  Raises:
    TypeError: If it holds something else, such as an image of Pillow, whose
      pixels alone do not say what is seen, or an array with a mask.

  Example:
    >>> record_bytes({"label": 1}) == record_bytes({"label": 2})
    False
  """
  if isinstance(element, bytes):
    return element
  import jax  # Not at the top: files of records need none of it.
  import numpy as np

  parts = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(element):
    known = isinstance(leaf, np.ndarray | jax.Array | np.generic | _PLAIN)
    # A mask, or a key of JAX, is not in the values.
    hidden = isinstance(leaf, np.ma.MaskedArray) or (
      isinstance(leaf, jax.Array) and not isinstance(leaf.dtype, np.dtype)
    )
    array = np.asarray(leaf) if known and not hidden else None
    if array is None or array.dtype.hasobject:
      raise TypeError(f"a record holds {describe(leaf)}: give an `encode`")
    head = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
    parts += [head.encode(), np.ascontiguousarray(array).tobytes()]
  return b"".join(len(x).to_bytes(8, "big") + x for x in parts)


def refused(index: int, name: str) -> str:
  """Return why a record is refused."""
  return (
    f"record {index} of {name} is not what was tagged: it was changed or "
    "moved, or is of another set"
  )
