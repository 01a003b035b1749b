"""Studies: what each must have, and each on a few digits."""

import functools

import pytest

from experiments import data, studies
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
    found = studies.get(name)
    if "digits" in found.DATASETS:
      return found.run(lab)
    own = data.load(found.DATASETS[0], num_train=300, num_test=100)
    return found.run(lab._replace(dataset=own))

  return run


@pytest.mark.parametrize("name", studies.names())
def test_a_study_says_what_it_measures(name):
  study.check_words(studies.get(name))


def test_an_unknown_study_is_refused():
  with pytest.raises(ValueError, match="'one'.*single_step"):
    studies.get("one")


def test_what_studies_share_is_no_study():
  assert "single_step" in studies.names()
  assert "base" not in studies.names()


@pytest.mark.slow
@pytest.mark.parametrize("name", studies.names())
def test_a_study_returns_figures(figures_of, name):
  study.check_figures(figures_of(name))


@pytest.mark.slow
def test_gradients_do_more_than_chance(figures_of):
  found = {f.name: f.value for f in figures_of("single_step")}
  assert found["clean: accuracy"] > 0.8
  error = "epsilon 0.2: error"
  assert found[f"FGSM, {error}"] > found[f"random signs, {error}"] + 0.3


@pytest.mark.slow
def test_a_search_that_knows_the_threshold_is_not_seen(figures_of):
  found = {f.name: f.value for f in figures_of("similar_queries")}
  assert found["naive search: flagged"] == 1
  assert found["adaptive search: flagged"] == 0


def test_one_program_serves_the_networks_of_a_model(lab):
  traced = []

  def attack(logits_fn, inputs, labels):
    traced.append(True)
    return base.Evasion(inputs, labels > 10, labels, labels, labels < 10)

  run = base.compiled(attack)
  x, y = base.sample(lab, 4)
  for seed in (0, 1):
    net = base.network(lab._replace(seed=seed), epochs=0.01, hidden=(8,))
    run(net.logits_fn, x, y)
  assert len(traced) == 1


@pytest.mark.slow
def test_distillation_hides_gradients_and_no_more(figures_of):
  found = {f.name: f.value for f in figures_of("distillation")}
  pgd = "epsilon 0.1: accuracy"
  assert found[f"PGD, {pgd}"] > found[f"PGD on logits / T, {pgd}"] + 0.3
  assert found["JSMA on softmax: success"] < 0.1
  assert found["JSMA on softmax of logits / T: success"] > 0.9
