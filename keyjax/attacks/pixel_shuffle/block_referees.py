"""Scores of claimed keys of block-wise input transformations."""

import numpy as np

from keyjax.attacks import referee
from keyjax.attacks.game import Score, Target
from keyjax.attacks.pixel_shuffle import block_keys
from keyjax.schemes.pixel_shuffle import PixelKey


def share(claimed: PixelKey, true: PixelKey) -> float:
  """Return the share of a block's positions that a key treats right."""
  same = np.asarray(claimed.positions()) == np.asarray(true.positions())
  return float(same.mean())


def judge(claimed: PixelKey, target: Target) -> tuple[Score, float]:
  """Return the accuracy under a claimed key, and its share that is right."""
  model = block_keys.model_of(
    claimed, target.apply_fn, target.floats(target.locked)
  )
  return referee.judge(model, target.test, target.task), share(
    claimed, target.key
  )


def key_referee(claimed: PixelKey, target: Target) -> Score:
  """Score the share of positions that are right."""
  accuracy, found = judge(claimed, target)
  return Score(found, found, found, {"accuracy": accuracy.value})


def function_referee(claimed: PixelKey, target: Target) -> Score:
  """Score the accuracy under a claimed key."""
  accuracy, found = judge(claimed, target)
  return accuracy._replace(details={**accuracy.details, "key_share": found})
