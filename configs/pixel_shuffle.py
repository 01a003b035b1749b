r"""SHF, NP and FFX on MNIST, GTSRB or CIFAR-10: the word after the colon.

SHF, NP and FFX on MNIST at M = 4, 2 and 7:

    python -m experiments.main --config=configs/pixel_shuffle.py:mnist \
      --workdir=runs/mnist_pixel_shuffle

2 cores of a Xeon shared with other jobs, 11 minutes, 2026-11-22. plain 99.28 %;
SHF, M=4: right key 99.10, none 87.2, wrong keys 44.2; NP, M=4: right key
99.11, none 17.2, wrong keys 11.6; FFX, M=4: right key 98.51, none 91.5, wrong
keys 29.3; SHF, M=2: right key 99.27, none 97.6, wrong keys 96.2; NP, M=2:
right key 99.25, none 86.5, wrong keys 15.3; FFX, M=2: right key 98.94, none
96.6, wrong keys 59.0; SHF, M=7: right key 98.43, none 40.4, wrong keys 32.9;
NP, M=7: right key 98.43, none 13.7, wrong keys 11.0; FFX, M=7: right key
96.27, none 74.2, wrong keys 26.7.

SHF, NP and FFX on GTSRB at M = 4:

    python -m experiments.main --config=configs/pixel_shuffle.py:gtsrb \
      --workdir=runs/gtsrb_pixel_shuffle

A few minutes on 2 CPU cores. Not run here with this recipe.

SHF, NP and FFX on CIFAR-10 with ResNet-18 at M = 4:

    python -m experiments.main --config=configs/pixel_shuffle.py:cifar10 \
      --workdir=runs/cifar10_pixel_shuffle

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors report 95.43 % plain, and at M = 4 92.56 (SHF), 93.41 (NP) and 92.27
(FFX).
"""

from ml_collections import ConfigDict

from experiments.run.config import recipe, scheme, set_schemes

_BLOCK_SIZES = {"mnist": (4, 2, 7), "gtsrb": (4,), "cifar10": (4,)}


def get_config(dataset: str = "") -> ConfigDict:
  """Return the config for a data set."""
  config = recipe(dataset, "pixel_shuffle")
  set_schemes(
    config,
    **{
      f"{kind}_{m}": scheme(kind, f"{kind.upper()}, M={m}", block_size=m)
      for m in _BLOCK_SIZES[dataset]
      for kind in ("shf", "np", "ffx")
    },
  )
  return config
