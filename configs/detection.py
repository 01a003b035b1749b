r"""Detection without anchors, on scenes of MNIST digits, under each lock.

    python -m experiments.main --config=configs/detection.py \
      --workdir=runs/detection

A quarter of an hour on two CPU cores that are free, an hour on busy ones. Not
run as a whole yet. Its plain model, trained in 5 minutes on 2 busy cores of a
Xeon, 2026-11-28, reached AP50 .797 (95 % interval .775 to .823) and AP .527 on
the 300 test scenes.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scheme, set_schemes


def get_config() -> ConfigDict:
  """Return the config."""
  config = base()
  config.name = "detection"
  config.dataset = "scene_boxes"
  config.num_train = 2000
  config.num_test = 300
  config.model = "detector"
  config.train.batch_size = 16
  config.train.epochs = 4.0
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
      layers="level_2_conv_3",
    ),
    shf=scheme("shf", "SHF, M=4", block_size=4),
  )
  return config
