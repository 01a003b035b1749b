r"""A ResNet-18 of a quarter of the width on CIFAR-10: the long CPU config.

    python -m experiments.main --config=configs/cifar10_width16.py \
      --workdir=runs/cifar10_width16

Long: 2 to 5 hours for each trained model on 2 CPU cores, at 80 to 200 images a
second. Not run here. It has 0.70 million parameters; the full one has 11.17.
"""

from ml_collections import ConfigDict

from experiments.run.config import cifar10, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = cifar10("cifar10_width16")
  config.model_args.width = 16
  config.train.epochs = 30.0
  set_schemes(
    config,
    deep_lock_int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    np=scheme("np", "NP, M=4", block_size=4),
    ffx=scheme("ffx", "FFX, M=4", block_size=4),
  )
  return config
