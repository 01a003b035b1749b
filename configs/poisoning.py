r"""What poisoned training data does to models, over three seeds.

Digits, 8 x 8:

    python -m experiments.poisoning --config=configs/poisoning.py:digits \
      --workdir=runs/digits_poisoning --copy=results/poisoning_digits.json

MNIST, 6,000 training images:

    python -m experiments.poisoning --config=configs/poisoning.py:mnist \
      --workdir=runs/mnist_poisoning --copy=results/poisoning_mnist.json

Each study is one file of experiments/poisons, and trains its own networks. The
figures are in docs/attacks/poisoning.md.
"""

from ml_collections import ConfigDict

from experiments import poisons
from experiments.claims.measure import configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  scheme,
  set_schemes,
)

_TRAIN = {"digits": 0, "mnist": 6000}  # Training images; 0 is all.


def get_config(dataset: str = "digits") -> ConfigDict:
  """Return the config of a data set: digits or mnist."""
  if dataset not in _TRAIN:
    known = ", ".join(_TRAIN)
    raise ConfigArgumentError(
      f"unknown data set {dataset!r} for configs/poisoning.py: {known}"
    )
  config = base()
  config.name = f"{dataset}_poisoning"
  config.dataset = dataset
  config.model = "mlp"  # Of most studies; titles of rows name others.
  config.num_train = _TRAIN[dataset]
  set_schemes(config, none=scheme("identity", "no lock"))
  studies = [
    name for name in poisons.names() if dataset in poisons.get(name).DATASETS
  ]
  configure(config, "poisoning", studies)
  return config
