r"""AdvParams on CIFAR-10 with ResNet-18: at most 48 changed parameters.

    python -m experiments.main --config=configs/cifar10_adv_params.py \
      --workdir=runs/cifar10_adv_params

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors of the block-wise papers report 95.43 % plain, and at M = 4 92.56 (SHF),
93.41 (NP) and 92.27 (FFX); AdvParams' authors a drop of 81.16 points.
"""

from ml_collections import ConfigDict

from experiments.run.config import cifar10, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = cifar10("cifar10_adv_params")
  set_schemes(
    config,
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
  )
  return config
