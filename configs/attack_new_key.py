r"""A new key for locked models; a trained MNIST CNN.

python -m experiments.attack --config=configs/attack_new_key.py \
      --workdir=runs/attack_new_key

`change` is `keyjax.rekey`: no training. For the others the curve is the test
accuracy under the new key after more and more steps of 64 images, from the old
model and from scratch. `docs/schemes.md` has the table.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  adv_params_in_range,
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

_RATES = ({"learning_rate": 1e-3}, {"learning_rate": 3e-3})


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_new_key")
  config.train.epochs = 2.0
  set_schemes(
    config,
    counter=scheme("deep_lock", "Deep-Lock, counter", schedule="counter"),
    noise=scheme("keyed_noise", "keyed noise"),
    adv_params=adv_params_in_range(),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
  )
  all_data = {"has_key": True, "fraction": 1.0, "steps": 1600, "points": 12}
  set_attacks(
    config,
    change=attack(
      "change_key", "a new key, no training", has_key=True, images=1024
    ),
    tuned=attack(
      "train_new_key", "trained for a new key", grid=_RATES, **all_data
    ),
    fresh=attack(
      "train_new_key",
      "a new key, from scratch",
      grid=tuple({**rate, "fresh": True} for rate in _RATES),
      **all_data,
    ),
  )
  return config
