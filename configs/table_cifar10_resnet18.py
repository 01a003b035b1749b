r"""CIFAR-10 with a ResNet-18 of a quarter of the width, for two CPU cores.

    python -m experiments.main --config=configs/table_cifar10_resnet18.py \
      --workdir=runs/table_cifar10_resnet18_0

Four epochs, 15 to 30 minutes for each of its two trained networks: the accuracy
is far from that of the papers, but shows what the locks take away. AdvParams
looks at four layers, because each of its steps takes the gradient of 1,000
images. The figures are in docs/results.md. `cifar10_width16.py` trains longer,
and under input keys too; `hpnn.py:cifar10` and the other `:cifar10` configs
have the papers' network and recipe.
"""

from ml_collections import ConfigDict

from experiments.run.config import cifar10, set_schemes, table_schemes

_SCHEMES = ("float32", "int8", "counter_int8", "adv_params", "hpnn")


def get_config() -> ConfigDict:
  """Return the config."""
  config = cifar10("table_cifar10_resnet18")
  config.model_args.width = 16
  config.train.epochs = 4.0
  config.train.pad = 2
  config.evaluate.distance_keys = 1  # The table has no near keys.
  limits = {"theta": 0.5, "loss_threshold": 1000.0, "max_layers": 4}
  schemes = table_schemes(**limits)
  set_schemes(config, **{label: schemes[label] for label in _SCHEMES})
  return config
