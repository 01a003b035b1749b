r"""AdvParams on GTSRB: at most 48 changed parameters.

    python -m experiments.main --config=configs/gtsrb_adv_params.py \
      --workdir=runs/gtsrb_adv_params

2 cores of a Xeon, 11 minutes beside other work, 2026-11-22. plain 95.40 %;
AdvParams: right key 95.40, none 9.0, wrong keys 6.5.
"""

from ml_collections import ConfigDict

from experiments.run.config import gtsrb, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("gtsrb_adv_params")
  set_schemes(
    config,
    adv_params=scheme(
      "adv_params",
      "AdvParams",
      theta=1.0,
      max_steps=48,
      max_changes=48,
      loss_threshold=1e9,
    ),
  )
  return config
