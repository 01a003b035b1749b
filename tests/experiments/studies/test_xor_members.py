"""Members of a network that computes an XOR: few networks, few steps."""

import pathlib

import numpy as np
import pytest

from experiments import data
from experiments.studies import base, xor_members
from tests.experiments import study

NAME = "XOR of two bits"
SIZE = xor_members.Size(models=5, steps=150, judged=2)


@pytest.fixture(scope="module")
def lab() -> base.Lab:
  dataset = data.load("bits", num_train=1000, num_test=500)
  return base.Lab(dataset, 0, pathlib.Path("unused"))


def test_what_generalises_tells_by_its_loss_and_not_by_labels(lab) -> None:
  case = xor_members.CASES[NAME]._replace(pool=400)
  made = xor_members.measured(lab, NAME, case, SIZE)
  study.check_words(xor_members)
  study.check_figures(made)
  found = {f.name.removeprefix(f"{NAME}: "): f for f in made}
  assert found["members right"].value > 0.99
  right = found["new inputs right"]
  assert 0.7 < right.value < 1 and right.low < right.high
  told = {k.removesuffix(", AUC"): f.value for k, f in found.items()}
  # The gap's AUC is the mean of members that are right and others that are not.
  assert told["the label alone"] < told["loss threshold"] - 0.05
  assert told["LiRA, one variance"] > 0.6
  control = told["control, loss and members drawn again"]
  # Deviation of a mean of 5 AUCs of 400 examples, if they were independent.
  assert abs(control - 0.5) < 5 * 0.029 / np.sqrt(5)
  assert found["loss threshold, AUC"].target == "0.716 (prototype)"


def test_a_mask_changes_inputs_and_no_label(lab) -> None:
  plain, masked = (
    xor_members._examples(
      lab,
      xor_members.CASES[NAME]._replace(pool=100, masked=is_masked),
      np.random.default_rng(1),
    )
    for is_masked in (False, True)
  )
  for before, after in zip(plain, masked, strict=True):
    np.testing.assert_array_equal(before.label, after.label)
    changed = (before.image != after.image).reshape(len(before.label), -1)
    # The same of 16 bits in each input: neither none nor all, in this draw.
    assert (changed == changed[0]).all() and 0 < changed[0].sum() < 16
    bits = before.image.reshape(-1, 16)
    np.testing.assert_array_equal(before.label, bits[:, 0] != bits[:, 1])


def test_labels_of_other_functions_are_what_they_say() -> None:
  bits = np.random.default_rng(0).integers(0, 2, (400, 16), np.int32)
  one = xor_members.CASES["one bit"].labels(bits, np.random.default_rng(1))
  np.testing.assert_array_equal(one, bits[:, 0])
  drawn = xor_members.CASES["random labels"].labels(
    bits, np.random.default_rng(1)
  )
  assert drawn.dtype == np.int32 and 0.4 < drawn.mean() < 0.6
  agree = (drawn[:, None] == bits).mean(0)
  assert abs(agree - 0.5).max() < 5 * 0.025
