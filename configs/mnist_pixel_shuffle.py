"""SHF, NP and FFX on MNIST at M = 2, 4 and 7."""

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
