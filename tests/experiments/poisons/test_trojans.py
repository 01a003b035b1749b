"""Studies of trojans: their table, and the networks that they share."""

import jax
import numpy as np
import pytest

from experiments import data, poisons
from experiments.claims import measure
from experiments.poisons import base, trojaned
from experiments.run import results
from experiments.tables import survey


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
  digits = data.load("digits", num_train=200, num_test=60)
  return base.Lab(digits, 0, tmp_path_factory.mktemp("networks"))


def test_triggers_have_a_table_of_their_own(lab, tmp_path):
  rows = []
  for name in ("trojan_triggers", "label_flips"):
    figure = base.share(f"a figure of {name}", [True, False])
    row = measure._row(poisons.get(name), name, lab, figure)
    rows.append(results.provenance() | {"dataset": "digits"} | row)
  found = survey.over_seeds(rows)
  results.write_json(tmp_path / "poisoning_digits.json", found)
  tables = ["\n".join(f(tmp_path)) for f in (survey.trojans, survey.poisoning)]
  for name, table, other in (
    ("trojan_triggers", *tables),
    ("label_flips", *reversed(tables)),
  ):
    assert f"a figure of {name}" in table and name not in other


def test_a_network_is_one_object_for_each_data_set(lab):
  assert trojaned.network(lab) is trojaned.network(lab._replace(seed=1))


def test_activations_do_not_depend_on_the_batch(lab, monkeypatch):
  model = trojaned.network(lab)
  x = lab.test.image
  net = trojaned.Net(model, model.init(jax.random.key(0), x[:1]))
  whole = net.hidden(x)
  monkeypatch.setattr(trojaned, "_PASS", 7)
  np.testing.assert_allclose(net.hidden(x), whole, rtol=1e-5, atol=1e-6)
  assert whole.shape == (len(x), 256) and (whole >= 0).all()


def test_triggers_differ_from_seed_to_seed(lab):
  first, second = (trojaned.pattern(lab._replace(seed=seed)) for seed in (0, 1))
  assert first.shape == second.shape == (8, 8, 1)
  assert (first != second).any() and set(np.unique(first)) == {0, 1}
