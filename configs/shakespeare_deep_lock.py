r"""Deep-Lock on a character transformer: published and hardened.

    python -m experiments.main --config=configs/shakespeare_deep_lock.py \
      --workdir=runs/shakespeare_deep_lock

Any text will do: --config.dataset=text --config.text=FILE.
"""

from ml_collections import ConfigDict

from experiments.config import scheme, set_schemes, shakespeare


def get_config() -> ConfigDict:
  """Returns the config."""
  config = shakespeare("shakespeare_deep_lock")
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
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
  )
  return config
