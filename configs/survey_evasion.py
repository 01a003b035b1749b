r"""Published claims about changed inputs, measured over three seeds.

Digits, 8 x 8:

    python -m experiments.robustness --config=configs/survey_evasion.py:digits \
      --workdir=runs/digits_survey_evasion --copy=results/survey_digits.json

MNIST, 12,000 training images:

    python -m experiments.robustness --config=configs/survey_evasion.py:mnist \
      --workdir=runs/mnist_survey_evasion --copy=results/survey_mnist.json

Each study is one file of experiments/studies, and trains its own networks. The
figures are in docs/robustness.md.
"""

from ml_collections import ConfigDict

from experiments import studies
from experiments.evasion.plan import configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  scheme,
  set_schemes,
)

_TRAIN = {"digits": 0, "mnist": 12_000}  # Training images; 0 is all.


def get_config(dataset: str = "digits") -> ConfigDict:
  """Return the config of a data set: digits or mnist."""
  if dataset not in _TRAIN:
    known = ", ".join(_TRAIN)
    raise ConfigArgumentError(
      f"unknown data set {dataset!r} for configs/survey_evasion.py: {known}"
    )
  config = base()
  config.name = f"{dataset}_survey_evasion"
  config.dataset = dataset
  config.model = "mlp"  # Of most studies; titles of rows name others.
  config.num_train = _TRAIN[dataset]
  set_schemes(config, none=scheme("identity", "no lock"))
  configure(
    config,
    attacks={},
    studies=[
      name for name in studies.names() if dataset in studies.get(name).DATASETS
    ],
    seeds=3,
    audit="",
    matrix="",
  )
  return config
