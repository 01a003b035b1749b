r"""MNIST: every scheme with one trained network, for the table of results.

    for seed in 0 1 2 3 4; do
      python -m experiments.main --config=configs/table_mnist.py \
        --config.train.seed=$seed --workdir=runs/table_mnist_$seed
    done
    python -m experiments.table runs/table_mnist_*

A small strided CNN for two CPU cores.
"""

from ml_collections import ConfigDict

from experiments.config import mnist, set_schemes, table_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("table_mnist")
  set_schemes(config, **table_schemes(theta=0.5, loss_threshold=1000.0))
  return config
