r"""HPNN on ImageNet: ResNet-50, 90 epochs, batches of 1,024 in bfloat16.

    python -m experiments.main --config=configs/imagenet_hpnn.py \
      --workdir=runs/imagenet_hpnn

Needs an accelerator, and the data set: `python -m experiments.prepare
imagenet2012` says where its two archives go. Not run yet. How fast the step is
without the data, on any machine (compare `images_per_second` in
`plain/metrics.jsonl` of the two):

    ... --config.dataset=fake --config.fake.shape="(224, 224, 3)" \
      --config.fake.classes=1000 --config.train.epochs=100
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


def get_config() -> ConfigDict:
  """Returns the config."""
  config = base()
  config.name, config.dataset = "imagenet_hpnn", "imagenet2012"
  config.model = "resnet50"
  train = config.train
  train.batch_size, train.epochs, train.dtype = 1024, 90.0, "bfloat16"
  # Goyal et al., arXiv:1706.02677: 0.1 for each 256 rows, 5 epochs of warm-up,
  # no decay of biases and normalisations.
  train.optimizer, train.learning_rate, train.warmup = "sgd", 0.4, 5 / 90
  train.weight_decay, train.decay_leaves = 1e-4, ".*kernel"
  train.label_smoothing, train.flip = 0.1, True
  train.threads, train.checkpoint_every = 16, 1251  # Every epoch.
  train.profile = (200, 205)
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config
