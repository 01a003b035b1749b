r"""Every scheme on the embedded digits: the first run of a new user.

python -m experiments.main --config=configs/quickstart.py \
      --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "quickstart"
  config.dataset = "digits"
  config.train.batch_size = 64
  config.train.epochs = 30.0
  config.evaluate.batch_size = 360
  config.evaluate.wrong_images = 0
  set_schemes(
    config,
    deep_lock=scheme("deep_lock", "Deep-Lock, float32"),
    deep_lock_int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    deep_lock_counter=scheme(
      "deep_lock", "Deep-Lock, AES counter mode", schedule="counter"
    ),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
    chain=scheme(
      "chain",
      "HPNN, then Deep-Lock",
      parts=(("hpnn", {}), ("deep_lock", {"schedule": "counter"})),
    ),
  )
  return config
