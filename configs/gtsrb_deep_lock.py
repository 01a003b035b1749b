r"""Deep-Lock on GTSRB: published and hardened, float32 and int8.

    python -m experiments.main --config=configs/gtsrb_deep_lock.py \
      --workdir=runs/gtsrb_deep_lock

Some minutes on 2 CPU cores. Not run here with this recipe.
"""

from ml_collections import ConfigDict

from experiments.run.config import deep_lock_forms, gtsrb, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("gtsrb_deep_lock")
  set_schemes(config, **deep_lock_forms())
  return config
