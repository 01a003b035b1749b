"""What an attacker asks: in range, nested in larger budgets, and from whom."""

import numpy as np
import pytest

from keyjax.attacks.copies import queries

SEEDS = np.random.default_rng(0).random((5, 2, 3, 1), np.float32)


def asked(n: int) -> dict[str, np.ndarray]:
  return {
    "uniform": queries.uniform((2, 3, 1), n, seed=3),
    "marginal": queries.marginal(SEEDS, n, seed=3),
    "mixup": queries.mixup(SEEDS, n, seed=3).image,
  }


@pytest.mark.parametrize("name", ["uniform", "marginal", "mixup"])
def test_a_larger_budget_contains_a_smaller_one(name: str) -> None:
  few, many = asked(7)[name], asked(50)[name]
  assert few.shape == (7, 2, 3, 1) and few.dtype == np.float32
  assert np.array_equal(few, many[:7])
  assert many.min() >= 0 and many.max() <= 1
  assert len(np.unique(many, axis=0)) == 50


def test_pixels_of_marginal_noise_are_those_of_the_inputs() -> None:
  found = queries.marginal(SEEDS, 400)
  for row in range(2):
    for column in range(3):
      own = set(SEEDS[:, row, column, 0].tolist())
      assert set(found[:, row, column, 0].tolist()) == own


def test_a_mixture_is_of_two_inputs_in_its_share() -> None:
  found = queries.mixup(SEEDS, 300, seed=1)
  assert (found.rows[:, 0] != found.rows[:, 1]).all()
  assert set(found.rows.ravel().tolist()) == set(range(5))
  share = found.share.reshape(-1, 1, 1, 1)
  expected = share * SEEDS[found.rows[:, 0]]
  expected += (1 - share) * SEEDS[found.rows[:, 1]]
  assert np.allclose(found.image, expected, atol=1e-6)


def test_images_of_other_data_take_the_shape_of_the_victims() -> None:
  grey = np.full((2, 4, 4, 3), (0.0, 0.5, 1.0), np.float32)
  assert np.allclose(queries.fitted(grey, (2, 2, 1)), 0.5)
  color = queries.fitted(np.full((1, 2, 2, 1), 0.25, np.float32), (4, 4, 3))
  assert color.shape == (1, 4, 4, 3) and np.allclose(color, 0.25)
  same = SEEDS[:, :2, :2]
  assert np.array_equal(queries.fitted(same, (2, 2, 1)), same)


def test_wrong_arguments_are_named() -> None:
  with pytest.raises(ValueError, match=r"range from 0 to 255: .* in \[0, 1\]"):
    queries.marginal(np.array([[0.0], [255.0]]), 3)
  with pytest.raises(ValueError, match="pass floats"):
    queries.marginal(np.array([[0], [1]]), 3)
  with pytest.raises(ValueError, match="there is one input"):
    queries.mixup(SEEDS[:1], 3)
  with pytest.raises(ValueError, match="n=0"):
    queries.uniform((2,), 0)
  with pytest.raises(TypeError, match="shape is an int: pass the numbers"):
    queries.uniform(8, 2)  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="a number of shape=0"):
    queries.uniform((8, 0), 2)
  with pytest.raises(TypeError, match="shape is an int"):
    queries.fitted(SEEDS, 5)  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="a number of shape=-1"):
    queries.fitted(SEEDS, (-1, 4, 1))
  for call in (queries.marginal, queries.mixup):
    with pytest.raises(ValueError, match="seed=-1"):
      call(SEEDS, 3, -1)
  with pytest.raises(ValueError, match="seed='a'"):
    queries.uniform((2,), 3, "a")  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="need height, width and channels"):
    queries.fitted(np.zeros((3, 4), np.float32), (2, 2, 1))
