r"""GTSRB: every scheme with one trained network, for the table of results.

    for seed in 0 1 2; do
      python -m experiments.main --config=configs/table_gtsrb.py \
        --config.train.seed=$seed --workdir=runs/table_gtsrb_$seed
    done
    python -m experiments.table runs/table_gtsrb_*

A small strided CNN for two CPU cores.
"""

from ml_collections import ConfigDict

from experiments.config import gtsrb, set_schemes, table_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("table_gtsrb")
  wide = {"theta": 1.0, "max_steps": 48, "loss_threshold": 1e9}
  set_schemes(config, **table_schemes(max_changes=48, **wide))
  return config
