"""Data sets by name."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments.data import guarded
from experiments.data.dataset import Dataset
from experiments.data.tokenizer import Tokenizer
from experiments.run.registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What to load; each data set reads the fields that concern it.

  Attributes:
    data_dir: Folder of TFDS data sets; see `find_data_dir`.
    guard: How sealed or tagged data are opened and checked.
    num_train: Number of training examples; None for all.
    num_test: Number of test examples; None for all.
    image_size: Side of the images of a data set that is read as it goes.
    text: File of the data set `text`.
    context: Tokens of an example of a text.
    tokenizer: What divides a text into tokens; by default each byte is one.
    shape: Shape of an example of the data set `fake`.
    classes: Number of classes of the data set `fake`.
  """

  data_dir: str | os.PathLike[str] | None = None
  guard: guarded.Guard = guarded.NONE
  num_train: int | None = None
  num_test: int | None = None
  image_size: int = 224
  text: str | os.PathLike[str] = ""
  context: int = 64
  tokenizer: Tokenizer | None = None
  shape: Sequence[int] = (32, 32, 3)
  classes: int = 10


class Preparation(NamedTuple):
  """How `experiments.prepare` makes a folder of TFDS.

  Attributes:
    readers: Modules of TFDS that want TensorFlow to open files.
    archives: Files that users download themselves, after registration.
    website: Where they register.
    builder: Function that returns the builder class, if TFDS has none.
  """

  readers: Sequence[str] = ()
  archives: Sequence[str] = ()
  website: str = ""
  builder: Callable[[], Any] | None = None


class Entry(NamedTuple):
  """A registered data set.

  Attributes:
    load: Function that loads it.
    preparation: How its folder is made; None for a data set without a folder.
    origin: Where a data set without a folder comes from.
    files: Whether it is read from files, which may be sealed or tagged.
  """

  load: Callable[[Options], Dataset]
  preparation: Preparation | None = None
  origin: str = ""
  files: bool = False


DATASETS: Registry[Entry] = Registry("data set", "experiments.data.sets")


def names() -> tuple[str, ...]:
  """Return the names of all data sets."""
  return DATASETS.names()


def load(
  name: str,
  data_dir: str | os.PathLike[str] | None = None,
  num_train: int | None = None,
  num_test: int | None = None,
  **options: Any,
) -> Dataset:
  """Load a data set; nothing is ever downloaded here.

  Args:
    name: One of `names()`.
    data_dir: Folder of TFDS data sets; see `find_data_dir`.
    num_train: Number of training examples; all by default. Of images, a smaller
      number gives a fixed random subset, nested in every larger one; of a text,
      its start.
    num_test: Number of test examples, chosen in the same way.
    **options: Further fields of `Options`.

  Returns:
    The data set: images or text, in memory or read as it goes (ImageNet).

  Raises:
    ValueError: If the name is unknown or a size is out of range.
    MissingDataError: If the data are not on this machine.
  """
  chosen = Options(
    data_dir=data_dir, num_train=num_train, num_test=num_test, **options
  )
  entry = DATASETS.get(name)
  if entry.preparation is None and not entry.files:
    guarded.refuse(name, chosen.guard)
  return entry.load(chosen)


def from_config(
  config: ConfigDict, tokenizer: Tokenizer | None = None
) -> Dataset:
  """Load `config.dataset`; nothing is ever downloaded here.

  Args:
    config: Config made by `experiments.run.config.base`.
    tokenizer: The tokenizer that `config.tokenizer` names.

  Raises:
    ValueError: If the name is unknown or a size is out of range.
    MissingDataError: If the data are not on this machine.
  """
  return load(
    config.dataset,
    data_dir=config.data_dir or None,
    guard=guarded.of_config(config),
    num_train=config.num_train or None,
    num_test=config.num_test or None,
    image_size=config.image_size,
    text=config.text,
    context=config.context,
    tokenizer=tokenizer,
    shape=config.fake.shape,
    classes=config.fake.classes,
  )
