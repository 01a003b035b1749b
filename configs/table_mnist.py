r"""MNIST: every scheme with one trained network, for the table of results.

    python -m experiments.main --config=configs/table_mnist.py \
      --workdir=runs/table_mnist_0

Repeat with `--config.train.seed=1` to 4, each in its own folder; then
`python -m experiments.table runs/table_mnist_*` makes the table.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  adv_params_in_range,
  mnist,
  set_schemes,
  table_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("table_mnist")
  config.evaluate.distance_keys = 1  # The table has no near keys.
  schemes = table_schemes(theta=0.5, loss_threshold=1000.0)
  set_schemes(config, **schemes, in_range=adv_params_in_range())
  return config
