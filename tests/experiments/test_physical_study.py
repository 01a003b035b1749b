"""The study of photos and accessories, against its controls."""

import jax
import pytest

from experiments import data, studies
from experiments.studies import base


@pytest.mark.slow
def test_photos_and_accessories(tmp_path) -> None:
  lab = base.Lab(data.load("digits"), 0, tmp_path)
  with jax.numpy_dtype_promotion("standard"):  # Optax needs it.
    figures = studies.get("physical").run(lab)
  assert all(f.low <= f.value <= f.high for f in figures)
  found = {f.name: f.value for f in figures}
  assert len(found) == len(figures), "names differ"

  def rate(attack: str, epsilon: float) -> float:
    return found[f"{attack}, epsilon {epsilon}: destruction rate"]

  for attack in ("FGSM", "PGD"):
    assert rate(attack, 0.3) < rate(attack, 0.15) < 0.2
  expected = "careless photos, PGD in expectation over photos"
  assert rate(expected, 0.15) < rate("careless photos, PGD", 0.15) - 0.05
  worn = "band, 25 % of the pixels, {}: {}"
  for goal, success in (("dodging", 0.8), ("impersonation", 0.4)):
    held_out = found[worn.format(goal, "success on other photos")]
    assert held_out > success > found[worn.format(goal, "random fill")] + 0.3
