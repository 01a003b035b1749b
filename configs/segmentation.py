r"""Segmentation: a U-Net on scenes of MNIST digits, under each kind of lock.

    python -m experiments.main --config=configs/segmentation.py \
      --workdir=runs/segmentation

Not run as a whole yet. Its plain model, trained in 16 minutes on 2 busy cores
of an EPYC, 2026-11-28, one seed, reached mIoU .684 (95 % interval .662 to .703)
on the 300 test scenes, and .711 with the background.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scene_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "segmentation"
  config.dataset = "scene_masks"
  config.num_train = 4000
  config.num_test = 300
  config.model = "unet"
  # The first level sees patches of 4 x 4: digits are learnt sooner, in less
  # time.
  config.model_args.update(width=32, depth=2, patch=4)
  config.train.batch_size = 16
  config.train.epochs = 6.0
  config.train.learning_rate = 4e-3
  config.evaluate.batch_size = 100
  config.evaluate.wrong_images = 50  # For each of 64 wrong keys.
  config.evaluate.distance_keys = 2
  scene_schemes(config, one_map="up_0_conv_1")
  return config
