r"""Fine-tuning and key recovery on a segmenter and a detector.

The segmenter of `segmentation.py`:

    python -m experiments.attack --config=configs/attack_scenes.py:masks \
      --workdir=runs/masks_attack_scenes

The detector of `detection.py`:

    python -m experiments.attack --config=configs/attack_scenes.py:boxes \
      --workdir=runs/boxes_attack_scenes
"""

from ml_collections import ConfigDict

from experiments.run import scenes
from experiments.run.config import (
  attack,
  scheme,
  set_attacks,
  set_schemes,
)

_TUNE = ({"learning_rate": 1e-3}, {"learning_rate": 4e-3})
_FRACTIONS = {"1 %": 0.01, "10 %": 0.1}


def get_config(task: str = "") -> ConfigDict:
  """Return the config."""
  config = scenes.recipe(task, "attack_scenes")
  locks = scenes.schemes(config)
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    deep_lock=locks["float32"],
    counter=scheme("deep_lock", "Deep-Lock, counter", schedule="counter"),
    noise=locks["noise"],
    adv_params=locks["adv_params"],
    hpnn=locks["hpnn"],
    shf=locks["shf"],
    features=locks["features"],
    one_map=locks["one_map"],
  )
  attacks = {}
  for i, (title, fraction) in enumerate(_FRACTIONS.items()):
    few = {
      "fraction": fraction,
      "steps": 150,
      "points": 3,
      "grid": tuple({**rate, "batch_size": 16} for rate in _TUNE),
    }
    attacks |= {
      f"tune_{i}": attack("fine_tune", f"fine-tuning, {title}", **few),
      f"scratch_{i}": attack(
        "scratch", f"from scratch, {title}", schemes="none", **few
      ),
    }
  few = {"fraction": 0.02, "points": 3}  # 80 scenes.
  set_attacks(
    config,
    **attacks,
    known=attack(
      "known_plaintext",
      "4 known weights",
      schemes="deep_lock|counter",
      known_weights=4,
    ),
    clip=attack("clip_outliers", "clip outliers"),
    search=attack("line_search", "line search", steps=48, **few),
    relax=attack("hpnn_relax", "relaxed key, 2 %", steps=300, **few),
    greedy=attack("hpnn_greedy", "greedy flips, 2 %", steps=400, **few),
    statistics=attack(
      "feature_statistics", "stored statistics, 1,024 scenes", images=1024
    ),
    swaps=attack("feature_swaps", "swaps, 2 %", steps=1500, **few),
    sinkhorn=attack("pixel_sinkhorn", "Sinkhorn, 2 %", steps=300, **few),
    climb=attack("pixel_climb", "climbing, 2 %", steps=400, **few),
  )
  return config
