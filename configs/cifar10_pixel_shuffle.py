r"""SHF, NP and FFX on CIFAR-10 with ResNet-18 at M = 4.

    python -m experiments.main --config=configs/cifar10_pixel_shuffle.py \
      --workdir=runs/cifar10_pixel_shuffle

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors of the block-wise papers report 95.43 % plain, and at M = 4 92.56 (SHF),
93.41 (NP) and 92.27 (FFX); AdvParams' authors a drop of 81.16 points.
"""

from ml_collections import ConfigDict

from experiments.run.config import cifar10, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = cifar10("cifar10_pixel_shuffle")
  set_schemes(
    config,
    **{
      f"{kind}_{m}": scheme(kind, f"{kind.upper()}, M={m}", block_size=m)
      for m in (4,)
      for kind in ("shf", "np", "ffx")
    },
  )
  return config
