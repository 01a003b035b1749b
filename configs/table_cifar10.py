r"""CIFAR-10: every scheme with one trained network, for the table of results.

    python -m experiments.main --config=configs/table_cifar10.py \
      --workdir=runs/table_cifar10_0

Repeat with `--config.train.seed=1` and 2, each in its own folder; then
`python -m experiments.table runs/table_cifar10_*` makes the table.

A small strided CNN for two CPU cores; the ResNet-18 of the papers is in
`hpnn.py:cifar10` and the other `:cifar10` configs.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, set_schemes, table_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "table_cifar10"
  config.dataset = "cifar10"
  config.model = "cnn"
  config.model_args.features = (32, 64)
  config.train.epochs = 8.0
  config.train.flip = True
  config.train.pad = 2
  config.evaluate.distance_keys = 1  # The table has no near keys.
  set_schemes(config, **table_schemes(theta=0.5, loss_threshold=1000.0))
  return config
