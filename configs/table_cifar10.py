r"""CIFAR-10: every scheme with one trained network, for the table of results.

    for seed in 0 1 2; do
      python -m experiments.main --config=configs/table_cifar10.py \
        --config.train.seed=$seed --workdir=runs/table_cifar10_$seed
    done
    python -m experiments.table runs/table_cifar10_*

A small strided CNN for two CPU cores; the ResNet-18 of the papers is in
`cifar10_*.py`.
"""

from ml_collections import ConfigDict

from experiments.config import base, set_schemes, table_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = base()
  config.name, config.dataset, config.model = "table_cifar10", "cifar10", "cnn"
  config.model_args.features = (32, 64)
  config.train.epochs, config.train.flip, config.train.pad = 8.0, True, 2
  set_schemes(config, **table_schemes(theta=0.5, loss_threshold=1000.0))
  return config
