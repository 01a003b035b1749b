r"""HPNN on ImageNet: ResNet-50, 90 epochs, batches of 1,024 in bfloat16.

    python -m experiments.main --config=configs/imagenet_hpnn.py \
      --workdir=runs/imagenet_hpnn

Needs an accelerator, and the data set: `python -m experiments.prepare
imagenet2012` says where its two archives go. Not run yet. To time the step
without the data, on any machine (compare `images_per_second` in
`plain/metrics.jsonl` of the two runs):

    ... --config.dataset=fake --config.fake.shape="(224, 224, 3)" \
      --config.fake.classes=1000 --config.train.epochs=100
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "imagenet_hpnn"
  config.dataset = "imagenet2012"
  config.model = "resnet50"
  train = config.train
  train.batch_size = 1024
  train.epochs = 90.0
  train.dtype = "bfloat16"
  # Goyal et al., arXiv:1706.02677: 0.1 for each 256 rows, 5 epochs of warm-up,
  # no decay of biases and normalisations.
  train.optimizer = "sgd"
  train.learning_rate = 0.4
  train.warmup = 5 / 90
  train.weight_decay = 1e-4
  train.decay_leaves = ".*kernel"
  train.label_smoothing = 0.1
  train.flip = True
  train.threads = 16
  train.checkpoint_every = 1251  # Every epoch.
  train.profile = (200, 205)
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  return config
