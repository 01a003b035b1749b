r"""Detection without anchors, on scenes of MNIST digits, under each lock.

    python -m experiments.main --config=configs/detection.py \
      --workdir=runs/detection_0

Repeat with `--config.train.seed=1` and 2, each in its own folder; then
`python -m experiments.table runs/detection_*` makes the table.
Figures are in docs/tasks.md.
"""

from ml_collections import ConfigDict

from experiments.run import scenes
from experiments.run.config import set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = scenes.boxes("detection")
  set_schemes(config, **scenes.schemes(config))
  return config
