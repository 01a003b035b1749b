r"""Digits under differential privacy, plain and with HPNN.

Training may spend an epsilon of 4:

    python -m experiments.main --config=configs/private.py:epsilon4 \
      --workdir=runs/epsilon4_private

Training may spend an epsilon of 2:

    python -m experiments.main --config=configs/private.py:epsilon2 \
      --workdir=runs/epsilon2_private

Training may spend an epsilon of 1:

    python -m experiments.main --config=configs/private.py:epsilon1 \
      --workdir=runs/epsilon1_private

At delta 1e-4, for one example added or removed, 200 Poisson batches of 128 of
1,437 digits, truncated at 192. Each needs `pip install 'keyjax[privacy]'`.
2 cores of an AMD EPYC shared with other jobs, half a minute each, 2026-11-28.
Accuracy in %, means of 3 seeds (`--config.train.seed`), plain and HPNN with its
key: 93.1 and 92.9 at 4, 88.2 and 88.3 at 2, 75.4 and 74.7 at 1.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, recipe, scheme, set_schemes

_EPSILONS = {"epsilon4": 4.0, "epsilon2": 2.0, "epsilon1": 1.0}


def get_config(word: str = "") -> ConfigDict:
  """Return the config of an epsilon."""
  recipes = dict.fromkeys(_EPSILONS, _digits)
  config = recipe(word, "private", recipes, "epsilon")
  config.train.dp.epsilon = _EPSILONS[word]
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config


def _digits(name: str) -> ConfigDict:
  """Return a small network, whose params are few enough for the noise."""
  config = base()
  config.name = name
  config.model = "mlp"
  config.model_args.hidden = (32,)
  train = config.train
  train.batch_size = 128
  train.epochs = 18.18  # 200 steps.
  train.optimizer = "sgd"
  train.learning_rate = 0.2
  train.schedule = "constant"
  train.dp.on = True
  train.dp.delta = 1e-4
  config.evaluate.batch_size = 360
  config.evaluate.wrong_images = 0
  return config
