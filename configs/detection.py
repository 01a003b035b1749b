r"""Detection without anchors, on scenes of MNIST digits, under each lock.

    python -m experiments.main --config=configs/detection.py \
      --workdir=runs/detection

Not run yet.
"""

from ml_collections import ConfigDict

from experiments.run.config import base, scene_schemes


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
  scene_schemes(config, one_map="level_2_conv_3")
  return config
