r"""Erasing a licensee's mark from a trained MNIST CNN.

    python -m experiments.attack --config=configs/attack_marks.py \
      --workdir=runs/attack_marks

2 cores of a Xeon shared with other jobs, 2026-11-26, seeds 0 to 2: traced after
int4, int8, one mantissa bit, 30 % pruned, fine-tuning and the mean of 32
licensees; not after the middle of 32, nor after noise of 80 % (37 to 68 %
accuracy). Depth 6 is lost at int4 and one mantissa bit.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_marks")
  config.train.epochs = 3.0
  set_schemes(
    config,
    mark=scheme("licensee_mark", "licensee mark"),
    shallow=scheme("licensee_mark", "licensee mark, depth 6", depth=6),
  )
  edits = {
    f"{how}_{i}": attack(
      "erase_mark", name, grid=({"how": how, "strength": strength},)
    )
    for how, settings in {
      "noise": {
        "noise of 10 %": 0.1,
        "of 40 %": 0.4,
        "of 80 %": 0.8,
        "unchanged": 0.0,
      },
      "round": {"1 mantissa bit": 1, "3 mantissa bits": 3},
      "prune": {"30 % pruned": 0.3, "90 % pruned": 0.9},
      "quantize": {"int4": 4, "int8": 8},
    }.items()
    for i, (name, strength) in enumerate(settings.items())
  }
  together = {
    f"{how}_of_{n + 1}": attack(
      "erase_by_licensees",
      f"{n + 1} licensees, {how}",
      licensees=n,
      grid=({"how": how},),
    )
    for how in ("middle", "mean")
    for n in (2, 7, 31)
  }
  set_attacks(
    config,
    **edits,
    **together,
    tune=attack("erase_by_tuning", "fine-tuning", images=6000, steps=600),
  )
  return config
