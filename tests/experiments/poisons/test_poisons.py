"""Studies of poisoned data: what each must have, and each on a few digits."""

import functools

import pytest

from experiments import data, poisons
from experiments.studies import base
from tests.experiments import study


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
  digits = data.load("digits", num_train=300, num_test=100)
  return base.Lab(digits, 0, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def figures_of(lab):
  @functools.cache
  def run(name):
    return poisons.get(name).run(lab)

  return run


@pytest.mark.parametrize("name", poisons.names())
def test_a_study_says_what_it_measures(name):
  study.check_words(poisons.get(name))


def test_an_unknown_study_is_refused():
  assert "base" not in poisons.names()
  with pytest.raises(ValueError, match="poisoned data 'one'.*label_flips"):
    poisons.get("one")


@pytest.mark.slow
@pytest.mark.parametrize("name", poisons.names())
def test_a_study_returns_figures(figures_of, name):
  figures = figures_of(name)
  study.check_figures(figures)
  if any(figure.curve for figure in figures):
    assert poisons.get(name).AXIS


def values(figures):
  return {figure.name: figure.value for figure in figures}


@pytest.mark.slow
def test_flips_cost_what_the_prototype_saw(tmp_path):
  digits = base.Lab(data.load("digits"), 0, tmp_path)
  found = values(poisons.get("label_flips").run(digits))
  accuracies = [
    found[f"{share} of labels at random: accuracy"]
    for share in ("0%", "10%", "40%")
  ]
  assert accuracies[0] > 0.95 and accuracies == sorted(accuracies)[::-1]
  assert 0.85 < accuracies[2] < 0.95
  pair = [
    found[f"{share} of class 3 as 8: taken for 8"] for share in ("10%", "70%")
  ]
  assert pair[0] < 0.3 and pair[1] > 0.8


@pytest.mark.slow
def test_one_point_harms_and_its_clone_does_not(tmp_path):
  try:
    mnist = data.load("mnist", num_train=6000, num_test=4000)
  except data.MissingDataError as error:
    pytest.skip(str(error))
  found = values(poisons.get("svm").run(base.Lab(mnist, 0, tmp_path)))
  for pair in ("9 against 8", "4 against 0"):
    before = found[f"{pair}, no point: error"]
    clone = found[f"{pair}, 1 clone, other label: error"]
    assert abs(clone - before) < 0.02
    assert found[f"{pair}, 1 optimised point: error"] > before + 0.08
    many = found[f"{pair}, 6 optimised points: error"]
    assert many > found[f"{pair}, 1 optimised point: error"] + 0.05
  assert (tmp_path / "pictures.json").exists()


@pytest.mark.slow
def test_guards_of_a_stream(figures_of):
  found = values(figures_of("stream"))
  end = {
    name: found[f"{name}, at its end: accuracy"]
    for name in ("no guard", "loss gate", "rollback", "tags")
  }
  before = found["no guard, before: accuracy"]
  assert end["no guard"] < before - 0.3
  assert end["tags"] > before - 0.1
  inside = found["tags, writers with the key, at its end: accuracy"]
  assert inside == end["no guard"], "a tag is no proof of truth"
  assert found["tags: wrong records refused"] == 1
  assert found["tags: right records refused"] == 0
  worst = "{}, worst of the burst: accuracy"
  for name in ("loss gate", "rollback"):
    assert found[worst.format(name)] > found[worst.format("no guard")]


@pytest.mark.slow
def test_a_certificate_bounds_the_attack(figures_of):
  found = values(figures_of("partitions"))
  title = "10 parts, copies of an image with the second class"
  assert found[f"{title}, within its radius: changed"] == 0
  assert found[f"{title}, 32 in each part: changed"] > 0.5


@pytest.mark.slow
def test_checks_of_labels_see_random_flips_and_no_pairs(figures_of):
  found = values(figures_of("label_checks"))
  assert found["20% at random, neighbours: recall"] > 0.9
  assert found["50% of class 3 as 8, neighbours: recall"] < 0.7


@pytest.mark.slow
def test_accuracy_hides_a_missing_class(figures_of):
  found = values(figures_of("bias"))
  assert found["0 of class 8: recall of it"] == 0
  assert found["0 of class 8: accuracy"] > 0.7


@pytest.mark.slow
def test_contradictions_bound_the_loss(figures_of):
  found = values(figures_of("convergence"))
  for title in (
    "10% copied with another label",
    "30% copied with another label",
  ):
    bound = found[f"{title}: least loss of any network"]
    assert found[f"{title}: training loss after 1,500 steps"] > bound > 0.05
