r"""What queries, or data and a recipe, tell of plain and locked models.

Digits, 8 x 8 (1,339 seconds in all, summed over what was measured, with other
jobs beside it on two cores):

    python -m experiments.copies --config=configs/copies.py:digits \
      --workdir=runs/digits_copies

CNNs of MNIST (with images of another data set 8,049 seconds in all, on one
core):

    python -m experiments.copies --config=configs/copies.py:mnist \
      --workdir=runs/mnist_copies

Locks: none, Deep-Lock, AdvParams, HPNN, SHF, NP and FFX. Three victims of each,
each with its own half of the data, weights and key. Images of another data set
are asked with `--config.copies.other=NAME` as well.
"""

from ml_collections import ConfigDict

from experiments.copying.plan import configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  mnist,
  one_of_each,
  set_schemes,
)

_WORDS = ("digits", "mnist")
_REPLIES = (
  "all",
  "round:1",
  "round:3",
  "temperature:20",
  "temperature:20+undone:20",
  "temperature:20+distilled:20",
  "temperature:20+round:3+distilled:20",
  "top:3",
  "label",
)


def get_config(word: str = "digits") -> ConfigDict:
  """Return the config of a data set: digits or mnist."""
  if word not in _WORDS:
    known = ", ".join(_WORDS)
    raise ConfigArgumentError(
      f"unknown data {word!r} for configs/copies.py: {known}"
    )
  config = _mnist() if word == "mnist" else _digits()
  set_schemes(config, **one_of_each())
  recipes = {
    "another optimiser, a sixth of the steps": {
      "optimizer": "sgd",
      "learning_rate": 0.05,
      "epochs": config.train.epochs / 6,
    },
    "a third of the learning rate, twice the batch": {
      "learning_rate": config.train.learning_rate / 3,
      "batch_size": 2 * config.train.batch_size,
    },
  }
  if word == "mnist":
    configure(
      config,
      queries=(100, 1000, 5000),
      locked_sets=("real",),
      inputs=100,
      suspects=2,  # Each is asked 600,000 times.
      networks={"an MLP": {"model": "mlp", "hidden": (128,)}},
      recipes=recipes,
      replies=_REPLIES,
      side_by_side=1,  # On CPUs, large convolutions are faster apart.
    )
  else:
    networks = {
      "one layer of 32": {"hidden": (32,)},
      "two layers of 256": {"hidden": (256, 256)},
    }
    configure(config, networks=networks, recipes=recipes, replies=_REPLIES)
  return config


def _digits() -> ConfigDict:
  config = base()
  config.name = "digits_copies"
  config.model = "mlp"
  config.model_args.hidden = (64, 64)
  config.train.batch_size = 64
  config.train.epochs = 60.0
  config.train.learning_rate = 3e-3
  return config


def _mnist() -> ConfigDict:
  config = mnist("mnist_copies")
  config.num_train = 10000
  config.num_test = 2000
  config.train.epochs = 10.0
  config.train.pad = 0  # Victims see their images as they are.
  return config
