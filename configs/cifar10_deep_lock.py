r"""Deep-Lock on CIFAR-10, ResNet-18: published and hardened, also int8.

    python -m experiments.main --config=configs/cifar10_deep_lock.py \
      --workdir=runs/cifar10_deep_lock

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors of the block-wise papers report 95.43 % plain, and at M = 4 92.56 (SHF),
93.41 (NP) and 92.27 (FFX); AdvParams' authors a drop of 81.16 points.
"""

from ml_collections import ConfigDict

from experiments.config import cifar10, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = cifar10("cifar10_deep_lock")
  set_schemes(
    config,
    float32=scheme("deep_lock", "Deep-Lock, float32"),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    counter_int8=scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode, int8",
      schedule="counter",
      key_bits=256,
      int8=True,
    ),
  )
  return config
