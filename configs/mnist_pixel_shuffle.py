r"""SHF, NP and FFX on MNIST at M = 4, 2 and 7.

    python -m experiments.main --config=configs/mnist_pixel_shuffle.py \
      --workdir=runs/mnist_pixel_shuffle

Hardware, time and figures: TODO.
"""

from ml_collections import ConfigDict

from experiments.config import mnist, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("mnist_pixel_shuffle")
  set_schemes(
    config,
    **{
      f"{kind}_{m}": scheme(kind, f"{kind.upper()}, M={m}", block_size=m)
      for m in (4, 2, 7)
      for kind in ("shf", "np", "ffx")
    },
  )
  return config
