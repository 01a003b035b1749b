r"""GTSRB: every scheme with one trained network, for the table of results.

    python -m experiments.main --config=configs/table_gtsrb.py \
      --workdir=runs/table_gtsrb_0

Repeat with `--config.train.seed=1` and 2, each in its own folder; then
`python -m experiments.table runs/table_gtsrb_*` makes the table.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  adv_params_in_range,
  gtsrb,
  set_schemes,
  table_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = gtsrb("table_gtsrb")
  wide = {"theta": 1.0, "max_steps": 48, "loss_threshold": 1e9}
  config.evaluate.distance_keys = 1  # The table has no near keys.
  schemes = table_schemes(max_changes=48, **wide)
  set_schemes(config, **schemes, in_range=adv_params_in_range(0.95))
  return config
