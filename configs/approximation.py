r"""What networks approximate: PINs from motion, and cryptographic functions.

Digits and PINs from the simulated motion of a phone:

    python -m experiments.robustness --config=configs/approximation.py:tilt \
      --workdir=runs/tilt_approximation --copy=results/survey_tilt.json

XOR, an S-box, parity, AES and HMAC from inputs and outputs:

    python -m experiments.robustness --config=configs/approximation.py:bits \
      --workdir=runs/bits_approximation --copy=results/survey_bits.json

Who was in the training data of a network that computes an XOR (a page of its
own, docs/attacks/membership.md):

    python -m experiments.robustness --config=configs/approximation.py:xor \
      --workdir=runs/xor_approximation --copy=results/survey_xor.json

Each study is one file of experiments/studies. The figures are in
docs/attacks/approximation.md.
"""

from ml_collections import ConfigDict

from experiments.evasion.plan import configure
from experiments.run.config import base, recipe, scheme, set_schemes

# Data set and study of each word.
_STUDIES = {
  "tilt": ("tilt", "tilt"),
  "bits": ("bits", "approximation"),
  "xor": ("bits", "xor_members"),
}


def get_config(dataset: str = "tilt") -> ConfigDict:
  """Return the config of a word: tilt, bits or xor."""
  makers = dict.fromkeys(_STUDIES, _base)
  config = recipe(dataset, "approximation", makers, "data set")
  config.dataset, study = _STUDIES[dataset]
  configure(
    config,
    attacks={},
    studies=[study],
    seeds=3,
    audit="",
    matrix="",
  )
  return config


def _base(name: str) -> ConfigDict:
  config = base()
  config.name = name
  config.model = "mlp"
  config.num_train = 0  # All.
  set_schemes(config, none=scheme("identity", "no lock"))
  return config
