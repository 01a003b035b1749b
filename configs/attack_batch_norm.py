r"""Fine-tuning only batch norm: a small ResNet-18 on the digits.

    python -m experiments.attack --config=configs/attack_batch_norm.py \
      --workdir=runs/attack_batch_norm

Only scales, shifts and statistics train. HPNN's sign of a convolution can be
undone by the scale after it.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  base,
  scheme,
  set_attacks,
  set_schemes,
)

_RATES = (
  {"optimizer": "adam", "learning_rate": 1e-2},
  {"optimizer": "sgd", "learning_rate": 1e-1},
)
_FRACTIONS = {"10 %": 0.1, "100 %": 1.0}


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "attack_batch_norm"
  config.model = "resnet18"
  config.model_args.width = 8
  config.train.batch_size = 64
  config.train.epochs = 12.0
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    keyed_noise=scheme("keyed_noise", "keyed noise"),
    hpnn=scheme("hpnn", "HPNN"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
  )
  attacks = {}
  for i, (name, share) in enumerate(_FRACTIONS.items()):
    few = {"fraction": share, "steps": 100, "points": 2, "grid": _RATES}
    attacks |= {
      f"norms_{i}": attack(
        "batch_norm_tune", f"batch norm alone, {name}", **few
      ),
      f"tune_{i}": attack("fine_tune", f"all layers, {name}", **few),
      f"scratch_{i}": attack(
        "scratch", f"from scratch, {name}", schemes="none", **few
      ),
    }
  set_attacks(config, **attacks)
  return config
