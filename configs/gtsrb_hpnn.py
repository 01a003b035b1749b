r"""HPNN on GTSRB.

    python -m experiments.main --config=configs/gtsrb_hpnn.py \
      --workdir=runs/gtsrb_hpnn

Some minutes on 2 CPU cores. Not run here with this recipe.
"""

from ml_collections import ConfigDict

from experiments.run.config import gtsrb, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("gtsrb_hpnn")
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config
