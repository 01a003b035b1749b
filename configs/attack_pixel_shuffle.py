r"""Attacks on SHF, NP and FFX with 2 % of the data: MNIST, M=4.

python -m experiments.attack --config=configs/attack_pixel_shuffle.py \
      --workdir=runs/attack_pixel_shuffle

2 cores of a Xeon, 20 minutes shared with other jobs, 2026-11-22; the figures
are in docs/attacks/pixel_shuffle.md.

The jigsaw needs no model: the config `attack_jigsaw` draws what it restores.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

_TUNE = (
  {"optimizer": "adam", "learning_rate": 1e-3},
  {"optimizer": "sgd", "learning_rate": 3e-2},
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_pixel_shuffle")
  set_schemes(
    config,
    **{
      kind: scheme(kind, f"{kind.upper()}, M=4", block_size=4)
      for kind in ("shf", "np", "ffx")
    },
  )
  two = {"fraction": 0.02, "points": 5}
  few = {
    f"sinkhorn_{n}": attack(
      "pixel_sinkhorn", f"Sinkhorn, {n} images", images=n, steps=300, points=5
    )
    for n in (10, 60, 300)
  }
  set_attacks(
    config,
    tune=attack("fine_tune", "fine-tuning", steps=300, grid=_TUNE, **two),
    scratch=attack("scratch", "from scratch", steps=300, grid=_TUNE, **two),
    guess=attack("random_keys", "random keys", steps=1000, **two),
    climb=attack("pixel_climb", "hill climbing", steps=1200, **two),
    sinkhorn=attack("pixel_sinkhorn", "Sinkhorn", steps=300, **two),
    gates=attack("pixel_gates", "gates", steps=300, **two),
    table=attack("pixel_table", "gates and a table", steps=300, **two),
    conv=attack("pixel_conv", "a free 1 x 1 convolution", steps=300, **two),
    **few,
    **{
      f"jigsaw_{n}": attack(
        "pixel_jigsaw",
        f"{n} transformed images",
        fraction=0.02,
        ciphertexts=n,
        has_locked=False,
        steps=30,
        points=1,
      )
      for n in (1, 100)
    },
  )
  return config
