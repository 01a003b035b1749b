r"""Segmentation: a U-Net on scenes of MNIST digits, under each kind of lock.

    python -m experiments.main --config=configs/segmentation.py \
      --workdir=runs/segmentation

Half an hour on two CPU cores that are free, longer on busy ones. Not run as a
whole yet. Its plain model, trained in 16 minutes on 2 busy cores of a Xeon,
2026-11-28, reached mIoU .684 (95 % interval .662 to .703) on the 300 test
scenes, and .711 with the background.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


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
  set_schemes(
    config,
    deep_lock=scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode",
      schedule="counter",
      key_bits=256,
    ),
    deep_lock_int8=scheme(
      "deep_lock",
      "Deep-Lock, AES-256 counter mode, int8",
      schedule="counter",
      key_bits=256,
      int8=True,
    ),
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    features=scheme("feature_permutation", "Feature permutation, all layers"),
    one_map=scheme(
      "feature_permutation",
      "Feature permutation, one map",
      layers="up_0_conv_1",
    ),
    shf=scheme("shf", "SHF, M=4", block_size=4),
  )
  return config
