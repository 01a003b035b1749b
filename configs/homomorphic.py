r"""Inference and regression on encrypted inputs, with a server that sees none.

    python -m experiments.homomorphic --config=configs/homomorphic.py \
      --workdir=runs/homomorphic

Eight minutes on two busy CPU cores. The figures are in docs/homomorphic.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Return the config."""
  config = ConfigDict()
  config.name = "homomorphic"
  config.seed = 0  # The first of the seeds.
  config.seeds = 3
  config.parts = ("regression", "paillier", "network")

  network = config.network = ConfigDict()
  network.hidden = (32,)
  network.activation = (0.0, 0.0, 1.0)  # a + b x + c x^2.
  network.epochs = 60
  network.batch = 64
  network.learning_rate = 2e-3
  network.weight_decay = 1e-3
  network.queries = 200  # Test digits, each asked alone.

  paillier = config.paillier = ConfigDict()
  paillier.outputs = 32  # Of a layer of 64 inputs.
  paillier.bits = (2048, 3072)  # 112 and 128 bits of security.

  regression = config.regression = ConfigDict()
  regression.test = 142  # Rows of scikit-learn's diabetes.
  config.lock()
  return config
