r"""HPNN on MNIST.

    python -m experiments.main --config=configs/mnist_hpnn.py \
      --workdir=runs/mnist_hpnn

Hardware, time and figures: TODO.
"""

from ml_collections import ConfigDict

from experiments.config import mnist, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("mnist_hpnn")
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config
