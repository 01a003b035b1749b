r"""Fine-tuning with 0.1 to 100 % of MNIST, all layers and the head alone.

    python -m experiments.attack --config=configs/attack_fine_tune.py \
      --workdir=runs/attack_fine_tune

Every share of the data is compared with training from scratch with the same
images and steps, and with a licensee who tunes under their key. Few images need
few steps: they are seen dozens of times. Batch norm only:
`attack_batch_norm`. About 15 minutes of processor time, by a few of the rows.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

# Percent of the images, and steps.
_PERCENT = {
  0.1: 60,
  0.5: 100,
  1: 120,
  2: 150,
  5: 200,
  10: 250,
  20: 300,
  100: 400,
}
_RATES = (
  {"optimizer": "adam", "learning_rate": 1e-3},
  {"optimizer": "adam", "learning_rate": 3e-3},
  {"optimizer": "sgd", "learning_rate": 3e-2},
)
_HEAD = tuple({**rate, "layers": ".*head.*"} for rate in _RATES)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_fine_tune")
  config.train.epochs = 2.0
  config.num_test = 2500
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
  )
  attacks = {}
  for i, (percent, steps) in enumerate(_PERCENT.items()):
    few = {"fraction": percent / 100, "steps": steps, "points": 3}
    attacks |= {
      f"all_{i}": attack(
        "fine_tune", f"all layers, {percent:g} %", grid=_RATES, **few
      ),
      f"head_{i}": attack(
        "fine_tune", f"the head, {percent:g} %", grid=_HEAD, **few
      ),
      f"licence_{i}": attack(
        "fine_tune_keyed",
        f"a licensee, all layers, {percent:g} %",
        schemes="hpnn|shf",
        has_key=True,
        grid=_RATES,
        **few,
      ),
      f"scratch_{i}": attack(
        "scratch",
        f"from scratch, {percent:g} %",
        schemes="none",
        grid=_RATES,
        **few,
      ),
    }
  set_attacks(config, **attacks)
  return config
