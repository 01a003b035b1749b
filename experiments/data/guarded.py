"""Folders of TFDS that are sealed, or whose records have tags.

Both are read record by record, and each record is checked just before it is
decoded; see `keyjax.data`. Nothing that was opened is written to a disk.
"""

import functools
import getpass
import json
import types
from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

from etils import epath
from ml_collections import ConfigDict

import keyjax
from keyjax import keyring

_DESCRIPTION, _FEATURES = "dataset_info.json", "features.json"


class Guard(NamedTuple):
  """How data are opened and checked; names of keys, never keys.

  Attributes:
    key: Source of the key that opens a sealed set, or that checks tags:
      `file:PATH`, `env:NAME` or `fd:NUMBER`; empty for data that are neither.
    tags: File of tags of a set that is not sealed.
    verify_key: Public key whose signature is required, as `keyjax-KIND:...`;
      empty to require none.
  """

  key: str = ""
  tags: str = ""
  verify_key: str = ""


NONE = Guard()


def of_config(config: ConfigDict) -> Guard:
  """Return how a config's data are opened and checked.

  Args:
    config: Config with the fields of `run.config.set_data_fields`.
  """
  return Guard(config.data_key, config.data_tags, config.data_verify_key)


class Folder:
  """A sealed or tagged folder of TFDS, as its builder would be.

  Attributes:
    name: Name of the data set.
    info: Its `features`, `splits`, `version` and `description`.
  """

  def __init__(self, opened: Any):
    """Read the description of an opened set.

    Args:
      opened: `keyjax.data.SealedData` or `TaggedData`.

    Raises:
      ContentError: If the description is not the one that was sealed.
      ValueError: If it is none of TFDS, or the files are not array_record.
    """
    # Here, because the digits and the models do not need TFDS.
    import tensorflow_datasets as tfds

    self._opened = opened
    described = _parsed(opened, _DESCRIPTION)
    if described.get("fileFormat") != "array_record":
      raise ValueError(f"{opened.path} has no files of array_record")
    try:
      self.name = described["name"]
      self.info = types.SimpleNamespace(
        splits={s["name"]: _split(s) for s in described["splits"]},
        version=described["version"],
        description=described.get("description", ""),
      )
    except (KeyError, TypeError, ValueError, AttributeError):
      raise _refused(opened, _DESCRIPTION) from None
    fields = _parsed(opened, _FEATURES)
    try:
      self.info.features = tfds.features.FeaturesDict.from_json(fields)
    except Exception as error:  # What TFDS raises, it does not say.
      raise _refused(opened, _FEATURES) from error
    self._read_names(self.info.features)

  def check_place(self, name: str, version: str) -> None:
    """Refuse another set of the same owner, or another version.

    Args:
      name: Name that the description should have.
      version: Version that it should have.

    Raises:
      ContentError: If it has another.
    """
    if (self.name, self.info.version) != (name, version):
      raise keyjax.errors.ContentError(
        f"{self._opened.path} holds {self.name} {self.info.version}, not "
        f"{name} {version}"
      )

  def _read_names(self, features: Any, place: str = "") -> None:
    """Read the names of classes, of which each feature has a file."""
    for name, feature in features.items():
      path = f"{place}{name}"
      feature = getattr(feature, "feature", feature)  # Of a sequence.
      if hasattr(feature, "items"):
        self._read_names(feature, f"{path}-")
      elif hasattr(feature, "names") and hasattr(feature, "num_classes"):
        try:
          text = self._opened.read(f"{path}.labels.txt").decode()
        except keyjax.errors.ArgumentError:  # They are numbers.
          text = "\n".join(map(str, range(feature.num_classes)))
        feature.names = [x.strip() for x in text.split("\n") if x.strip()]

  def as_data_source(self, split: str) -> "Decoded":
    """Return the decoded records of a split.

    Raises:
      ContentError: If there are more or fewer than the description says.
    """
    records = self._opened.records(f"{self.name}-{split}.array_record*")
    expected = self.info.splits[split].num_examples
    if len(records) != expected:
      raise keyjax.errors.ContentError(
        f"{self.name}: split {split} has {len(records)} records, not {expected}"
      )
    return Decoded(records, self.info.features)


def _parsed(opened: Any, name: str) -> dict[str, Any]:
  """Return a description, which any recipient may have written."""
  content = opened.read(name)
  try:
    found = json.loads(content)
  except (ValueError, RecursionError):
    raise _refused(opened, name) from None
  if not isinstance(found, dict):
    raise _refused(opened, name)
  return found


def _refused(opened: Any, name: str) -> ValueError:
  return ValueError(f"{name} of {opened.path} is not one of TFDS")


def _split(described: dict[str, Any]) -> types.SimpleNamespace:
  lengths = map(int, described.get("shardLengths", ()))
  return types.SimpleNamespace(num_examples=sum(lengths))


class Decoded:
  """Records as dictionaries of arrays, decoded as they are read."""

  def __init__(self, records: keyjax.data.Records, features: Any):
    """Keep the records, and how to decode them."""
    self._records = records
    self._features = features

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: SupportsIndex) -> Any:
    return self.__getitems__([index])[0]

  def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Any]:
    """Return records, checked and decoded.

    Raises:
      ContentError: If one is refused; the message has its index.
    """
    found = self._records.__getitems__(indices)
    return [self._features.deserialize_example_np(x) for x in found]


def open_files(
  path: epath.Path, guard: Guard
) -> keyjax.data.SealedData | keyjax.data.TaggedData:
  """Open a folder or a file whose content is sealed, or has tags.

  Args:
    path: Folder, for instance of a version of a data set; or a tagged file.
    guard: Its key, and its tags if it is not sealed.

  Raises:
    ValueError: If a key cannot be read or does not open it, or the folder is
      neither sealed nor tagged; the message names the field of the config.
    ContentError: If it is damaged, or not signed as required.
  """
  verify_key = _verify_key(guard.verify_key)
  try:
    key = _read_key(guard.key)
  except (keyring.KeyringError, OSError) as error:
    raise ValueError(f"data_key={guard.key}: {error}") from None
  try:
    if not guard.tags:
      identity = keyring.as_identity(key)
      return keyjax.data.open_data(path, identity, verify_key=verify_key)
  except (keyring.KeyringError, FileNotFoundError) as error:
    raise ValueError(f"data_key={guard.key}: {error}") from None
  if not isinstance(key, keyjax.Secret):
    raise ValueError(f"data_key={guard.key}: tags are checked with a secret")
  try:
    tags = keyjax.data.RecordTags.read(guard.tags, verify_key)
  except FileNotFoundError:
    raise ValueError(f"data_tags={guard.tags}: there is no such file") from None
  return keyjax.data.open_tagged(path, tags, key)


@functools.cache  # A passphrase is asked for once, a descriptor has it once.
def _read_key(source: str) -> keyring.PrivateKey:
  ask = lambda: getpass.getpass(f"Passphrase of {source}: ")  # noqa: E731
  return keyring.read_key(source, ask)


def _verify_key(line: str) -> keyring.VerifyKey | None:
  try:
    return keyring.parse_verify_key(line) if line else None
  except keyring.KeyringError as error:
    raise ValueError(f"data_verify_key: {error}") from None


def check(path: Any, guard: Guard) -> None:
  """Raise a ValueError unless a folder and a guard fit.

  Args:
    path: Folder of a version of a data set.
    guard: How it is to be opened.
  """
  _check_source(guard.key)
  sealed = keyjax.data.is_sealed(path)
  if not guard.key:
    for name, value in guard._asdict().items():
      if value:
        raise ValueError(f"data_{name}={value}: give --config.data_key, too")
    if sealed:
      raise ValueError(
        f"{path} is sealed: give --config.data_key=file:PATH of a key that "
        "opens it"
      )
  elif not sealed and not guard.tags:
    raise ValueError(
      f"data_key={guard.key}: {path} is not sealed; to check tags of its "
      "records, give --config.data_tags"
    )
  elif sealed and guard.tags:
    raise ValueError(
      f"data_tags={guard.tags}: {path} is sealed; tags are of sets that are not"
    )


def refuse(name: str, guard: Guard) -> None:
  """Raise a ValueError if a data set without a folder has a guard."""
  _check_source(guard.key)
  if guard != NONE:
    raise ValueError(
      f"data_key={guard.key}: {name} has no folder that could be sealed or "
      "tagged"
    )


def _check_source(key: str) -> None:
  """Refuse what is no source, and do not show it: it might be a key."""
  if key and key.partition(":")[0] not in ("file", "env", "fd"):
    raise ValueError(
      "data_key: give file:PATH, env:NAME or fd:NUMBER, not the key itself"
    )
