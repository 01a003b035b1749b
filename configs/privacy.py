r"""Who was in the training data, asked of plain and of locked models.

Digits, 8 x 8, with one label in five wrong, so that models must memorise:

    python -m experiments.privacy --config=configs/privacy.py:digits \
      --workdir=runs/digits_privacy

The same with right labels:

    python -m experiments.privacy --config=configs/privacy.py:clean \
      --workdir=runs/clean_privacy

Small CNNs, each of 5,000 MNIST images (35 minutes on one core of an EPYC):

    python -m experiments.privacy --config=configs/privacy.py:mnist \
      --workdir=runs/mnist_privacy

Locks: none, Deep-Lock, AdvParams, HPNN, SHF, NP and FFX. Three models of each
are judged, with 64 shadow models.

What attacks find with 1 to 32 shadow models, on plain models of digits with
wrong labels:

    python -m experiments.privacy --config=configs/privacy.py:few \
      --workdir=runs/few_privacy

Digits under differential privacy, without a lock, at four epsilons, and with
the noise left out (it needs `pip install 'keyjax[privacy]'`):

    python -m experiments.privacy --config=configs/privacy.py:private \
      --workdir=runs/private_privacy

The same with one label in five wrong, which a model has to learn by heart, so
that an audit sees more:

    python -m experiments.privacy --config=configs/privacy.py:canaries \
      --workdir=runs/canaries_privacy
"""

from ml_collections import ConfigDict

from experiments.membership.attacks import ATTACKS
from experiments.membership.plan import configure
from experiments.run.config import (
  ConfigArgumentError,
  base,
  mnist,
  one_of_each,
  scheme,
  set_schemes,
)

_REPLIES = ("temperature:20", "top:3", "top:1", "round:3", "round:1", "label")
_WORDS = ("digits", "clean", "mnist", "few", "private", "canaries")
_EPSILONS = (8, 4, 2, 1)
_FEW = (1, 2, 4, 16, 32)  # Shadow models of each example.


def get_config(word: str = "digits") -> ConfigDict:
  """Return the config: digits and mnist, or another word for digits."""
  if word not in _WORDS:
    known = ", ".join(_WORDS)
    raise ConfigArgumentError(
      f"unknown data {word!r} for configs/privacy.py: {known}"
    )
  if word in ("private", "canaries"):
    return _private(word)
  if word == "few":
    return _few(word)
  config = _mnist() if word == "mnist" else _digits(word)
  set_schemes(config, **one_of_each())
  trainings = {
    "weight_decay": {"weight_decay": 1.0, "title": "weight decay 1"},
    "dropout": {"dropout": 0.5, "title": "dropout .5"},
    "early": {"epochs": config.train.epochs / 10, "title": "a tenth as long"},
  }
  more = {"trainings": trainings, "replies": _REPLIES}
  if word == "mnist":
    # The labels of 51 noisy copies of each image would take hours.
    tried = tuple(x for x in ATTACKS if x != "label_only")
    # On CPUs, large convolutions are faster one after another.
    configure(config, pool=10_000, side_by_side=1, attacks=tried, **more)
  else:
    configure(config, noise=0.2 if word == "digits" else 0.0, **more)
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


def _few(word: str) -> ConfigDict:
  config = _digits(word)
  set_schemes(config, none=scheme("identity", "no lock"))
  online = ("lira_fixed", "rmia")  # Half of the models have the example.
  tried = ["gap", "loss"]
  for name in ("lira_offline_fixed", "rmia_offline", *online):
    counts = _FEW[1:] if name in online else _FEW
    tried += [*(f"{name}:{k}" for k in counts), name]
  # 66, so that each example is in 32 of the others, and in 32 of them is not.
  configure(config, noise=0.2, models=66, side_by_side=66, attacks=tuple(tried))
  return config


def _mnist() -> ConfigDict:
  config = mnist("mnist_privacy")
  config.num_test = 2000
  config.model_args.update(features=(8, 16), kernel=3, units=64)
  config.train.epochs = 10.0
  config.train.pad = 0  # Shadow models see their images as they are.
  return config


def _private(word: str) -> ConfigDict:
  """Return a small network, whose params are few enough for the noise."""
  config = _digits(word)
  config.model_args.hidden = (64,)
  config.train.batch_size = 128
  config.train.epochs = 73.0  # 399 steps of 128 of about 700.
  config.train.optimizer = "sgd"
  config.train.learning_rate = 0.1
  set_schemes(config, none=scheme("identity", "no privacy"))
  trainings = {
    f"epsilon{epsilon}": {"epsilon": epsilon, "title": f"epsilon {epsilon}"}
    for epsilon in _EPSILONS
  }
  title = "epsilon 1 is claimed, the noise is forgotten"
  trainings["fault"] = {"epsilon": 1, "forget_noise": True, "title": title}
  noise = 0.2 if word == "canaries" else 0.0
  configure(
    config,
    pool=1400,
    noise=noise,
    side_by_side=13,
    delta=1e-5,
    trainings=trainings,
  )
  return config
