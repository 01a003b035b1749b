r"""Deep-Lock on MNIST, GTSRB or CIFAR-10: the word after the colon.

Published and hardened, in float32 and int8.

Deep-Lock on MNIST, published and hardened:

    python -m experiments.main --config=configs/deep_lock.py:mnist \
      --workdir=runs/mnist_deep_lock

2 cores of a Xeon shared with other jobs, 2 minutes, 2026-11-22. plain 99.28 %;
Deep-Lock, float32: right key 99.28, NaN without it; Deep-Lock, int8: right key
99.28, none 8.5, wrong keys 9.8; Deep-Lock, AES-256 counter mode, int8: right
key 99.28, none 7.8, wrong keys 10.7.

Deep-Lock on GTSRB, published and hardened:

    python -m experiments.main --config=configs/deep_lock.py:gtsrb \
      --workdir=runs/gtsrb_deep_lock

A few minutes on 2 CPU cores. Not run here with this recipe.

Deep-Lock on CIFAR-10 with ResNet-18, published and hardened:

    python -m experiments.main --config=configs/deep_lock.py:cifar10 \
      --workdir=runs/cifar10_deep_lock

Long: for a GPU or TPU (7 images a second on 2 CPU cores). Not run here. The
authors of the block-wise papers report 95.43 % plain.
"""

from ml_collections import ConfigDict

from experiments.run.config import deep_lock_forms, recipe, set_schemes


def get_config(dataset: str = "") -> ConfigDict:
  """Return the config for a data set."""
  config = recipe(dataset, "deep_lock")
  set_schemes(config, **deep_lock_forms())
  return config
