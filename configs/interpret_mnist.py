r"""MNIST: which layers learn the key, for four schemes.

    python -m experiments.main --config=configs/interpret_mnist.py \
      --workdir=runs/interpret_mnist
    python -m experiments.interpret --config=configs/interpret_mnist.py \
      --workdir=runs/interpret_mnist

The second command is enough: it trains and locks what is missing. Its figures
are in docs/interpretability.md.
"""

from ml_collections import ConfigDict

from experiments.run.config import mnist, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("interpret_mnist")
  config.train.epochs = 2.0
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    shf=scheme("shf", "SHF, M=4", block_size=4),
    adv_params=scheme(
      "adv_params", "AdvParams", theta=0.5, loss_threshold=1000.0
    ),
    int8=scheme("deep_lock", "Deep-Lock, int8", int8=True),
  )
  return config
