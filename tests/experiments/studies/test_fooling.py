"""The study of fooling inputs, and its picture."""

import matplotlib.image
import numpy as np
import pytest

from experiments import data
from experiments.studies import base, fooling


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gallery_shows_each_champion(tmp_path, channels: int) -> None:
  images = np.zeros((2, 3, 8, 8, channels), np.float32)
  path = tmp_path / "gallery.png"
  fooling.gallery(path, images, np.full((2, 3), 0.99991))
  dark = matplotlib.image.imread(path)[..., :3]
  fooling.gallery(path, 1 - images, np.full((2, 3), 0.99991))
  bright = matplotlib.image.imread(path)[..., :3]
  assert dark.shape == bright.shape
  # Six images turn from black to white: the rest, paper and titles, stays.
  changed = (bright - dark).max(-1) > 0.9
  assert 0.3 < changed.mean() < 0.7
  assert (bright[~changed] == dark[~changed]).mean() > 0.95


@pytest.mark.slow
def test_digits_are_fooled(tmp_path) -> None:
  lab = base.Lab(data.load("digits"), 0, tmp_path)
  found = {figure.name: figure for figure in fooling.run(lab)}
  for name in ("direct", "CPPN"):
    figure = found[f"{name}, generation 100: median confidence"]
    assert figure.value > 0.9999 and figure.n == 10
  # Evolution fools where ascent has no gradient.
  climbed, evolved = (
    found[f"saturated, relu, {x}: median confidence"].value
    for x in ("gradient ascent", "CPPN")
  )
  assert climbed < 0.5 < 0.999 < evolved
  assert (tmp_path / "fooling-digits-0.png").exists()
