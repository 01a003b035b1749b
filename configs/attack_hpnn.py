r"""What the attacks on HPNN are measured on: a MNIST CNN that uses every bit.

    python -m experiments.main --config=configs/attack_hpnn.py \
      --workdir=runs/attack_hpnn

The CNN of `mnist_hpnn.py` has 176 locked neurons, and 256 key bits of which
about 150 act; with 256 hidden units there are 304, and all bits act.
"""

from ml_collections import ConfigDict

from experiments.config import mnist, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = mnist("attack_hpnn")
  config.model_args.units = 256
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config
