r"""Fine-tuning with 0.1 to 100 % of MNIST, all layers and the head alone.

    python -m experiments.attack --config=configs/attack_fine_tune.py \
      --workdir=runs/attack_fine_tune

Every share of the data stands beside training from scratch with the same
images and steps. A model with batch norm may train that alone: a setting
`{"layers": ".*norm.*"}`. Not run as a whole yet: hours on 2 cores.
"""

from ml_collections import ConfigDict

from experiments.config import attack, mnist, scheme, set_attacks, set_schemes

_PERCENT = (0.1, 0.5, 1, 2, 5, 10, 20, 100)
_RATES = (
  {"optimizer": "adam", "learning_rate": 3e-4},
  {"optimizer": "adam", "learning_rate": 1e-3},
  {"optimizer": "adam", "learning_rate": 3e-3},
  {"optimizer": "sgd", "learning_rate": 1e-2},
  {"optimizer": "sgd", "learning_rate": 1e-1},
)
_HEAD = tuple({**rate, "layers": ".*head.*"} for rate in _RATES)


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("attack_fine_tune")
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
  for i, percent in enumerate(_PERCENT):
    few = {"fraction": percent / 100, "steps": 500, "points": 6}
    attacks |= {
      f"all_{i}": attack(
        "fine_tune", f"all layers, {percent:g} %", grid=_RATES, **few
      ),
      f"head_{i}": attack(
        "fine_tune", f"the head, {percent:g} %", grid=_HEAD, **few
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
