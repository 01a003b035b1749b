r"""Deep-Lock on GTSRB: published and hardened, float32 and int8.

    python -m experiments.main --config=configs/gtsrb_deep_lock.py \
      --workdir=runs/gtsrb_deep_lock

Some minutes on 2 CPU cores. Not run here with this recipe.
"""

from ml_collections import ConfigDict

from experiments.config import gtsrb, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("gtsrb_deep_lock")
  set_schemes(
    config,
    float32=scheme("deep_lock", "Deep-Lock, float32"),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    counter_int8=scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode, int8",
      schedule="counter",
      key_bits=256,
      int8=True,
    ),
  )
  return config
