r"""What the attacks on SHF, NP and FFX are measured on: MNIST, M=4.

    python -m experiments.main --config=configs/attack_pixel_shuffle.py \
      --workdir=runs/attack_pixel_shuffle

These are the first three protections of `mnist_pixel_shuffle.py`.
"""

from ml_collections import ConfigDict

from experiments.config import mnist, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("attack_pixel_shuffle")
  set_schemes(
    config,
    **{
      kind: scheme(kind, f"{kind.upper()}, M=4", block_size=4)
      for kind in ("shf", "np", "ffx")
    },
  )
  return config
