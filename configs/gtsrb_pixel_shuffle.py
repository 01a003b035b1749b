r"""SHF, NP and FFX on GTSRB at M = 4.

    python -m experiments.main --config=configs/gtsrb_pixel_shuffle.py \
      --workdir=runs/gtsrb_pixel_shuffle

Some minutes on 2 CPU cores. Not run here with this recipe.
"""

from ml_collections import ConfigDict

from experiments.run.config import gtsrb, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = gtsrb("gtsrb_pixel_shuffle")
  set_schemes(
    config,
    **{
      f"{kind}_{m}": scheme(kind, f"{kind.upper()}, M={m}", block_size=m)
      for m in (4,)
      for kind in ("shf", "np", "ffx")
    },
  )
  return config
