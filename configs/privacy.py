r"""Who was in the training data, asked of plain and of locked models.

Digits, 8 x 8, with one label in five wrong, so that models must memorise:

    python -m experiments.privacy --config=configs/privacy.py:digits \
      --workdir=runs/digits_privacy

The same with right labels:

    python -m experiments.privacy --config=configs/privacy.py:clean \
      --workdir=runs/clean_privacy

CNNs of 5,000 MNIST images:

    python -m experiments.privacy --config=configs/privacy.py:mnist \
      --workdir=runs/mnist_privacy

Locks: none, Deep-Lock, AdvParams, HPNN, SHF, NP and FFX. Three models of each
are judged, with 64 shadow models.
"""

from ml_collections import ConfigDict

from experiments.membership.plan import configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  mnist,
  one_of_each,
  set_schemes,
)

_REPLIES = ("temperature:20", "top:3", "top:1", "round:3", "round:1", "label")
_WORDS = ("digits", "clean", "mnist")


def get_config(word: str = "digits") -> ConfigDict:
  """Return the config of some data: digits, clean or mnist."""
  if word not in _WORDS:
    known = ", ".join(_WORDS)
    raise ConfigArgumentError(
      f"unknown data {word!r} for configs/privacy.py: {known}"
    )
  config = _mnist() if word == "mnist" else _digits(word)
  set_schemes(config, **one_of_each())
  trainings = {
    "weight_decay": {"weight_decay": 1.0, "title": "weight decay 1"},
    "early": {"epochs": config.train.epochs / 10, "title": "a tenth as long"},
  }
  if word == "mnist":
    configure(config, pool=5000, side_by_side=16)
  else:
    noise = 0.2 if word == "digits" else 0.0
    configure(config, noise=noise, trainings=trainings, replies=_REPLIES)
  return config


def _digits(word: str) -> ConfigDict:
  config = base()
  config.name = f"{word}_privacy"
  config.model = "mlp"
  config.model_args.hidden = (256,)
  config.train.batch_size = 64
  config.train.epochs = 128.0  # 600 steps.
  config.train.learning_rate = 3e-3
  return config


def _mnist() -> ConfigDict:
  config = mnist("mnist_privacy")
  config.num_test = 2000
  config.train.epochs = 10.0
  config.train.pad = 0  # Shadow models see their images as they are.
  return config
