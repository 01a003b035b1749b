"""Recipes of the segmenter and the detector of scenes of MNIST digits."""

from ml_collections import ConfigDict

from experiments.run import config as config_of
from experiments.run.config import base, scheme, table_schemes

# AdvParams takes larger steps on masks, and goes on for longer: a few pixels
# with huge logits give a mean loss of 1,000 while the others are still right.
_ADV_PARAMS = {
  "unet": {"theta": 2.0, "loss_threshold": 1e5, "max_layers": 25},
  "detector": {"theta": 0.5, "loss_threshold": 1e3, "max_layers": 4},
}
# Layer whose feature map is permuted alone.
_ONE_MAP = {"unet": "up_0_conv_1", "detector": "level_2_conv_3"}


def masks(name: str) -> ConfigDict:
  """Return the recipe of a U-Net that finds each pixel's digit."""
  config = _base(name)
  config.dataset = "scene_masks"
  config.model = "unet"
  # The first level sees patches of 4 x 4: digits are learnt sooner, in less
  # time.
  config.model_args.update(width=24, depth=2, patch=4)
  return config


def boxes(name: str) -> ConfigDict:
  """Return the recipe of a detector without anchors."""
  config = _base(name)
  config.dataset = "scene_boxes"
  config.model = "detector"
  return config


RECIPES = {"masks": masks, "boxes": boxes}


def recipe(task: str, name: str) -> ConfigDict:
  """Return the recipe that `--config=FILE:TASK` names; see `config.recipe`."""
  return config_of.recipe(task, name, RECIPES, "task")


def schemes(config: ConfigDict) -> dict[str, ConfigDict]:
  """Return the locks of a model that answers for each place of a scene."""
  found = table_schemes(max_steps=12, **_ADV_PARAMS[config.model])
  # A sign on a detector's head would turn the prior of its bias, on which the
  # first steps of training depend.
  found["hpnn"] = scheme(
    "hpnn", "HPNN, 256 key bits", layers=r".*_(conv|conv_\d|scale)"
  )
  found["noise"] = scheme("keyed_noise", "keyed noise")
  found["features"] = scheme(
    "feature_permutation", "Feature permutation, all layers"
  )
  found["one_map"] = scheme(
    "feature_permutation",
    "Feature permutation, one map",
    layers=_ONE_MAP[config.model],
  )
  return found


def _base(name: str) -> ConfigDict:
  """Return what both have in common."""
  config = base()
  config.name = name
  config.num_train = 4000
  config.num_test = 300
  config.train.batch_size = 16
  config.train.epochs = 6.0
  config.train.learning_rate = 4e-3
  config.evaluate.batch_size = 100
  config.evaluate.wrong_images = 50  # For each of 64 wrong keys.
  config.evaluate.distance_keys = 2
  return config
