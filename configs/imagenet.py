r"""Locks on ImageNet: ResNet-50, ResNet-101 or ViT-S/16, batches of 1,024.

ResNet-50:

    python -m experiments.main --config=configs/imagenet.py:resnet50 \
      --workdir=runs/resnet50_imagenet

ResNet-101:

    python -m experiments.main --config=configs/imagenet.py:resnet101 \
      --workdir=runs/resnet101_imagenet

ViT-S/16:

    python -m experiments.main --config=configs/imagenet.py:vit_s \
      --workdir=runs/vit_s_imagenet

Needs an accelerator, and the data set, which is read as a stream: `python -m
experiments.prepare imagenet2012` says where its two archives go. Not run yet.
To time the step without the data, on any machine
(compare `images_per_second` in `plain/metrics.jsonl` of two runs):

    ... --config.dataset=fake --config.fake.shape="(224, 224, 3)" \
      --config.fake.classes=1000 --config.train.epochs=100
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  ConfigArgumentError,
  base,
  scheme,
  set_schemes,
)

MODELS = ("resnet50", "resnet101", "vit_s")
_STEPS = 1251  # Of an epoch.


def get_config(model: str = "resnet50") -> ConfigDict:
  """Return the config of a model: resnet50, resnet101 or vit_s."""
  if model not in MODELS:
    raise ConfigArgumentError(
      f"unknown model {model!r} for configs/imagenet.py: {', '.join(MODELS)}"
    )
  config = base()
  config.name = f"{model}_imagenet"
  config.dataset = "imagenet2012"
  config.model = model
  train = config.train
  train.batch_size = 1024
  train.epochs = 90.0
  train.dtype = "bfloat16"
  train.decay_leaves = ".*kernel"
  train.flip = True
  train.threads = 16
  train.checkpoint_every = _STEPS
  train.profile = (200, 205)
  if model.startswith("vit"):
    _vit(train)
  else:
    _resnet(train)
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    deep_lock=scheme(
      "deep_lock", "Deep-Lock, counter mode", schedule="counter"
    ),
  )
  return config


def _resnet(train: ConfigDict) -> None:
  """Set Goyal et al., arXiv:1706.02677.

  A rate of 0.1 for each 256 rows, 5 epochs of warm-up, no decay of biases and
  normalisations.
  """
  train.optimizer = "sgd"
  train.learning_rate = 0.4
  train.warmup = 5 / 90
  train.weight_decay = 1e-4
  train.label_smoothing = 0.1


def _vit(train: ConfigDict) -> None:
  """Set Beyer, Zhai, Kolesnikov, arXiv:2205.01580, without RandAugment."""
  train.optimizer = "adamw"
  train.learning_rate = 1e-3
  train.warmup = 10_000 / (90 * _STEPS)
  train.weight_decay = 1e-4
  train.clip = 1.0
  train.mixup = 0.2
