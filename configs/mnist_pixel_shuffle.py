r"""SHF, NP and FFX on MNIST at M = 4, 2 and 7.

    python -m experiments.main --config=configs/mnist_pixel_shuffle.py \
      --workdir=runs/mnist_pixel_shuffle

2 cores of a Xeon, 11 minutes beside other work, 2026-11-22. plain 99.28 %;
SHF, M=4: right key 99.10, none 87.2, wrong keys 44.2; NP, M=4: right key
99.11, none 17.2, wrong keys 11.6; FFX, M=4: right key 98.51, none 91.5, wrong
keys 29.3; SHF, M=2: right key 99.27, none 97.6, wrong keys 96.2; NP, M=2:
right key 99.25, none 86.5, wrong keys 15.3; FFX, M=2: right key 98.94, none
96.6, wrong keys 59.0; SHF, M=7: right key 98.43, none 40.4, wrong keys 32.9;
NP, M=7: right key 98.43, none 13.7, wrong keys 11.0; FFX, M=7: right key
96.27, none 74.2, wrong keys 26.7.
"""

from ml_collections import ConfigDict

from experiments.run.config import mnist, scheme, set_schemes


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
