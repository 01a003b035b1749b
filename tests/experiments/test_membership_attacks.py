"""Attacks by a part of the shadow models, and their tables."""

from typing import Any

import numpy as np
import pytest

from experiments.membership import attacks, plan
from experiments.tables import membership, membership_plain
from keyjax.attacks.privacy import lira, shadows, signals
from tests.experiments.privacy_job import tiny

K, N, M, C = 9, 40, 12, 3
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)
MEMBERS = shadows.split(K + 1, N)[:K]


def answers(**fields: Any) -> attacks.Answers:
  logits = RNG.normal(size=(K + 1, N, C))
  logits[:K] += 3 * MEMBERS[..., None] * np.eye(C)[LABELS]
  rest = RNG.normal(size=(K + 1, M, C))

  def predict(images: np.ndarray) -> np.ndarray:
    raise AssertionError("nothing is asked")

  made = attacks.Answers(
    labels=LABELS,
    logits=logits[K],
    shadows=logits[:K],
    members=MEMBERS,
    rest_labels=RNG.integers(0, C, M),
    rest=rest[K],
    rest_shadows=rest[:K],
    images=np.zeros((N, 2, 2, 1)),
    predict=predict,
    predict_shadow=predict,
  )
  return made._replace(**fields)


@pytest.mark.parametrize(
  ("name", "sides"),
  [
    ("rmia:4", (2, 2)),
    ("lira_fixed:2", (1, 1)),
    ("lira:4", (2, 2)),
    ("rmia_offline:1", (0, 1)),
    ("lira_offline_fixed:3", (0, 3)),
  ],
)
def test_each_example_is_judged_by_as_many_models(
  name: str, sides: tuple[int, int]
) -> None:
  seen = []

  def keep(found: attacks.Answers) -> np.ndarray:
    seen.append(found)
    return np.zeros(N)

  stem, count = name.split(":")
  known = attacks.get(stem)._replace(scores=keep)
  given = answers()
  attacks._by_few(name, known, count).scores(given)
  (found,) = seen
  assert found.shadows.shape == (sum(sides), N, C)
  assert len(found.rest_shadows) == sum(sides) == attacks.get(name).shadows
  assert (found.members.sum(0) == sides[0]).all()
  for j in range(N):  # Each column is of different models, with their data.
    own = [np.flatnonzero((given.shadows[:, j] == x).all(-1)) for x in
           found.shadows[:, j]]  # fmt: skip
    models = np.concatenate(own)
    assert len(set(models.tolist())) == len(found.members)
    np.testing.assert_array_equal(MEMBERS[models, j], found.members[:, j])
  assert np.isfinite(attacks.get(name).scores(given)).all()


def test_other_judged_models_have_other_shadow_models() -> None:
  score = attacks.get("rmia_offline:1").scores
  given = answers()
  np.testing.assert_array_equal(score(given), score(given))
  assert (score(given) != score(given._replace(seed=1))).any()


def test_one_model_and_one_variance_are_enough_for_lira() -> None:
  given = answers()
  phi = signals.log_odds(given.shadows, LABELS)
  target = signals.log_odds(given.logits, LABELS)
  alone = phi[:1], np.zeros((1, N), bool)
  found = lira.scores(target, *alone, online=False, variance="fixed")
  np.testing.assert_allclose(found, (target - phi[0]) / phi[0].std())
  with pytest.raises(ValueError, match="each needs 2 or more"):
    lira.scores(target, *alone, online=False)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("mia:2", "'mia:2': choose from gap, loss"),
    ("gap:2", "'gap:2': a number of shadow models goes with lira_offline, "),
    ("rmia:3", "'rmia:3': give an even number of shadow models, at least 2"),
    ("rmia:x", "'rmia:x': give an even number"),
    ("rmia_offline:0", "'rmia_offline:0': give a number of shadow models, at "),
    ("lira:2", "'lira:2': give an even number of shadow models, at least 4"),
    ("rmia:8", "'rmia:8' needs 4 shadow models with each example: privacy.mod"),
    ("rmia_offline:4", "needs 4 shadow models without each example: privacy.m"),
  ],
)
def test_a_number_that_does_not_fit_is_refused(name: str, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    plan.check(tiny(attacks=(name,)))  # 9 models.


def test_as_many_as_there_always_are_is_not_refused() -> None:
  for models, most in ((9, 3), (10, 4), (66, 32)):
    plan.check(tiny(models=models, attacks=(f"rmia_offline:{most}",)))
    even = models + models % 2
    for seed in range(3):
      others = np.delete(shadows.split(even, 200, seed)[:models], 0, 0)
      assert min(others.sum(0).min(), (~others).sum(0).min()) >= most


def row(attack: str, metric: str, values: list[float], **fields: Any) -> Any:
  title = {"gap": "gap", "shokri": "shadow attack"}[attack]
  made = {"attack": attack, "attack_title": title, "metric": metric}
  made |= {"scheme": "none", "training": "none", "condition": "plain"}
  made |= {"reply": "", "values": values, "value": float(np.mean(values))}
  made |= {"low": min(values), "high": max(values), "resolved": True}
  return made | {"config": "x"} | fields


def test_what_an_answer_hides_is_told_model_by_model() -> None:
  """Models differ by more than an answer does: pairs show it."""
  rows = [row("gap", "auc", [0.6, 0.7, 0.8])]
  rows += [row("shokri", "auc", [0.6, 0.7, 0.8])]
  rows += [row("shokri", "balanced_accuracy", [0.5, 0.5, 0.5])]
  hides = {"reply": "top:3", "condition": "api"}
  rows += [row("gap", "auc", [0.6, 0.7, 0.8], **hides)]
  rows += [row("shokri", "auc", [0.59, 0.68, 0.77], **hides)]
  rows += [row("shokri", "balanced_accuracy", [0.49, 0.49, 0.49], **hides)]
  lines = membership_plain.answers(rows)
  assert len(lines) == 3 and "gap, the control: AUC | shadow" in lines[0]
  hidden = "-0.020 (-0.045 to +0.005)"
  assert (
    lines[2] == f"| top:3 | 0 in each | {hidden} | -0.010 (-0.010 to -0.010) |"
  )


def test_a_prototype_stands_beside_the_run_that_it_is_of() -> None:
  rows = [
    row("gap", metric, [0.5])
    for metric in ("auc", "balanced_accuracy", "tpr_0.01", "tpr_0.001")
  ]
  assert "a prototype" not in membership_plain.attacks(rows)[0]
  known = [r | {"config": "digits_privacy"} for r in rows]
  lines = membership_plain.attacks(known)
  assert lines[0].endswith("| a prototype |")
  assert lines[2].endswith("| 50.0 % (50 to 50) | accuracy .655 |")


def test_few_shadow_models_are_columns() -> None:
  rows = [
    row("shokri", metric, [0.5]) | {"attack": name, "shadows": 9}
    for name in ("shokri", "shokri:2", "shokri:16")
    for metric in ("auc", "tpr_0.01")
  ]
  lines = membership_plain.few(rows)
  assert lines[0].endswith("| 2 | 16 | all 9 |") and len(lines) == 4


def test_bounds_above_a_claim_are_counted() -> None:
  claim = {"privacy": {"epsilon": 1.0}, "title": "epsilon 1"}
  rows = [row("gap", "epsilon_bound", [0.5, 1.2], **claim)]
  rows += [row("shokri", "epsilon_bound", [0.0, 1.0], **claim)]
  lines = membership._bounds(rows)
  assert lines[3:] == [
    "| gap | 0.50 to 1.20 |",
    "| shadow attack | 0.00 to 1.00 |",
    "| bounds above the claim | 1 of 4 |",
  ]
  assert membership._bounds([row("gap", "epsilon_bound", [0.5])]) == []
