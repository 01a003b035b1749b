r"""Deep-Lock on CIFAR-10, ResNet-18: published and hardened, also int8.

    python -m experiments.main --config=configs/cifar10_deep_lock.py \
      --workdir=runs/cifar10_deep_lock

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors of the block-wise papers report 95.43 % plain, and at M = 4 92.56 (SHF),
93.41 (NP) and 92.27 (FFX); AdvParams' authors a drop of 81.16 points.
"""

from ml_collections import ConfigDict

from experiments.run.config import cifar10, deep_lock_forms, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = cifar10("cifar10_deep_lock")
  set_schemes(config, **deep_lock_forms())
  return config
