r"""Segmentation: a U-Net on scenes of MNIST digits, under each kind of lock.

    python -m experiments.main --config=configs/segmentation.py \
      --workdir=runs/segmentation_0

Repeat with `--config.train.seed=1` and 2, each in its own folder; then
`python -m experiments.table runs/segmentation_*` makes the table.
Figures are in docs/tasks.md.
"""

from ml_collections import ConfigDict

from experiments.run import scenes
from experiments.run.config import set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = scenes.masks("segmentation")
  set_schemes(config, **scenes.schemes(config))
  return config
