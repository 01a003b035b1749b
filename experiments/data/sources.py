"""From a config to its data set."""

from ml_collections import ConfigDict

from experiments.data import datasets, fake, streamed, text
from experiments.data.datasets import Dataset
from experiments.data.folders import TFDS_NAMES

NAMES = ("digits", *TFDS_NAMES, *text.NAMES, fake.NAME)


def from_config(config: ConfigDict) -> Dataset:
  """Loads `config.dataset`; nothing is ever downloaded here.

  Args:
    config: from `experiments.run.config.base`.

  Returns:
    The data set: images, or text; in memory, or read as it goes (ImageNet).

  Raises:
    ValueError: the name is unknown, or a size is out of range.
    MissingDataError: the data are not on this machine.
  """
  name, folder = config.dataset, config.data_dir or None
  sizes = config.num_train or None, config.num_test or None
  if name not in NAMES:
    raise ValueError(
      f"Unknown data set {name!r}: choose from {', '.join(NAMES)}."
    )
  if name == fake.NAME:
    return fake.load(config.fake.shape, config.fake.classes, *sizes)
  if name in text.NAMES:
    return text.load(name, config.text, config.context, folder, *sizes)
  if name in streamed.NAMES:
    return streamed.load(name, config.image_size, folder, *sizes)
  return datasets.load(name, folder, *sizes)
