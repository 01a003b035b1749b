"""Every question of the checklist has rows for a yes, and rows for a no."""

import pytest

from experiments.evasion import checklist, measure
from tests.experiments.evasion import made

CONTROL = "Do random changes of the same size break no more?"
SINGLE = "Does a single step break no more than iterative attacks?"
CONVERGED = "Do more steps or starts break no more?"
UNBOUNDED = "Does a change without bound break every image?"
QUERIES = "Do attacks without gradients break no more?"
TRANSFER = "Do changes from other keys and models break no more?"
ADAPTIVE = "Is the attacker adaptive to the defence?"
CLEAN = "Is accuracy without attack reported?"
NORMS = "Is there more than one norm?"
CURVE = "Is accuracy measured against epsilon?"
WORST = "Is the worst case taken for each image, not the mean?"
RECORDED = "Are code, seeds and commit recorded?"
FINITE = "Does no NaN count as robustness?"


def ask(rows, question):
  """Return the answer to a question and its evidence."""
  return next(x for x in checklist.answers(rows) if x.question == question)[1:]


def without(rows, **fields):
  """Return the rows that do not have these fields."""
  return [r for r in rows if any(r.get(k) != v for k, v in fields.items())]


def test_a_sound_run_answers_every_question_with_yes():
  found = checklist.answers(made.sound())
  assert len(found) == len({x.question for x in found}) == 15
  assert {x.answer for x in found} == {"yes"}
  assert all(x.evidence.endswith(".") for x in found)


def test_without_rows_nothing_is_measured():
  for rows in ([], [made.study("fgsm", 0, 0.5)]):
    answers = {x.question: x.answer for x in checklist.answers(rows)}
    recorded = answers.pop(RECORDED)
    assert set(answers.values()) == {"not measured"}
    assert recorded == ("yes" if rows else "not measured")


# Each adds to a sound run one row that another of it must not be weaker than.
STRONGER = {
  CONTROL: made.attack(
    0.0, "none/pgd", "noise", attack_title="<signs>", passes=1
  ),
  SINGLE: made.attack(
    0.0, "none/pgd", "fgsm", attack_title="<signs>", passes=2
  ),
  CONVERGED: made.attack(
    0.0, "none/pgd", "more", game="pgd", attack_title="<signs>", passes=999
  ),
  QUERIES: made.attack(
    0.0, "none/pgd", "square", attack_title="<signs>", holder="api"
  ),
  TRANSFER: made.attack(
    0.0, "none/pgd", "pgd", attack_title="<signs>", holder="no_key"
  ),
}


@pytest.mark.parametrize("question", STRONGER)
def test_a_rival_that_breaks_more_is_a_no_that_names_it(question):
  answers = checklist.answers([*made.sound(), STRONGER[question]])
  assert [x.question for x in answers if x.answer == "no"] == [question]
  evidence = next(x.evidence for x in answers if x.question == question)
  assert "<signs> against no lock, PGD training at epsilon 0.1" in evidence
  assert "Up to 70.0 points more" in evidence


@pytest.mark.parametrize(("broken", "answer"), [(4, "yes"), (5, "no")])
def test_two_percent_of_the_images_are_no_difference(broken, answer):
  kept = 0.5 - broken / made.IMAGES
  rows = [made.attack(0.5), made.attack(kept, label="fgsm")]
  assert ask(rows, SINGLE)[0] == answer


def test_only_images_that_both_have_seen_are_compared():
  # The first 50 images of the two: all right, and 20 of them wrong.
  few = made.attack(0.6, label="square", images=50, holder="api")
  many = made.attack(0.25)
  answer, evidence = ask([few, many], QUERIES)
  assert answer == "no" and "Up to 40.0 points" in evidence
  assert few["value"] > many["value"]


def test_other_sizes_norms_models_and_keys_are_not_rivals():
  single = made.attack(0.1, label="fgsm")
  for other in (
    made.attack(0.5, epsilon=0.2),
    made.attack(0.5, norm="l2"),
    made.attack(0.5, "hpnn/none"),
    made.attack(0.5, holder="wrong"),
  ):
    assert ask([single, other], SINGLE)[0] == "not measured"
  assert ask([single, made.attack(0.5)], SINGLE)[0] == "no"


def test_another_model_must_not_break_more_than_the_model_itself():
  rows = made.sound()
  rows.append(made.transfer("hpnn/none", "none/pgd", 0.99))
  answer, evidence = ask(rows, TRANSFER)
  assert answer == "no"
  assert "Up to 4.0 points more" in evidence
  assert "changes from HPNN against no lock, PGD training" in evidence


def test_controls_are_no_models():
  rows = made.sound()
  rows.append(made.transfer("random signs", "none/pgd", 1.0))
  assert ask(rows, TRANSFER)[0] == "yes"


@pytest.mark.parametrize(
  ("check", "question"), [("unbounded", UNBOUNDED), ("hidden_steps", ADAPTIVE)]
)
def test_a_suspicious_audit_is_a_no_with_its_sentence(check, question):
  rows = [*made.sound(), made.audit("hpnn/none", check, masked=True)]
  answer, evidence = ask(rows, question)
  assert answer == "no"
  assert f"HPNN: {check} in a sentence" in evidence


def test_a_model_that_lacks_something_is_named():
  rows = made.sound()
  hpnn = {"model_name": "hpnn/none"}
  for question, changed in {
    CLEAN: without(rows, game="clean", **hpnn),
    ADAPTIVE: without(rows, condition="right", **hpnn),
    CURVE: without(rows, epsilon=0.2, **hpnn),
  }.items():
    answer, evidence = ask(changed, question)
    assert (answer, "HPNN" in evidence) == ("no", True), question


def test_one_norm_is_a_no():
  assert ask(without(made.sound(), norm="l2"), NORMS)[0] == "no"


def test_the_mean_of_attacks_is_no_worst_case():
  rows = without(made.sound(), game="worst")
  assert ask(rows, WORST)[0] == "not measured"
  alone = [made.attack(0.5)]
  assert ask(alone + measure.worst_cases(alone), WORST)[0] == "not measured"


def test_the_worst_case_says_what_it_adds():
  rows = [made.attack(0.9), made.attack(0.9, label="bim", start=40)]
  answer, evidence = ask(rows + measure.worst_cases(rows), WORST)
  assert answer == "yes"
  assert "any of up to 2 attackers" in evidence and "10.0 points" in evidence


@pytest.mark.parametrize("commit", ["abc1234-dirty", "unknown", ""])
def test_code_that_nobody_can_check_out_is_a_no(commit):
  rows = made.sound()
  rows[3]["commit"] = commit
  assert ask(rows, RECORDED)[0] == "no"


def test_figures_of_nan_are_a_no_only_if_they_have_a_value():
  rows = [*made.sound(), made.attack(None, label="bim")]
  answer, evidence = ask(rows, FINITE)
  assert answer == "yes" and evidence.startswith("1 of ")
  partly = made.attack(0.5, "hpnn/none", attack_title="some", nonfinite=7)
  answer, evidence = ask([*rows, partly], FINITE)
  assert answer == "no"
  assert "some against HPNN at epsilon 0.1, 7 of 200 images" in evidence


def test_a_figure_without_a_value_is_no_attack():
  rows = [made.attack(None), made.attack(0.1, label="fgsm")]
  assert ask(rows, SINGLE)[0] == "not measured"


def test_a_missing_interval_is_a_no():
  rows = made.sound()
  rows[2]["low"] = None
  assert rows[2]["game"] == "fgsm"
  answer, evidence = ask(rows, "Do figures have confidence intervals?")
  assert answer == "no" and "no lock at epsilon 0.05" in evidence


def test_the_threat_model_is_that_of_the_rows():
  rows = [
    made.attack(0.1, epsilon=0.2),
    made.attack(0.1, epsilon=2.0, norm="l2", holder="no_key"),
  ]
  evidence = ask(rows, "Is the threat model stated?")[1]
  assert "linf up to 0.2, l2 up to 2" in evidence
  assert "with the key, with the stolen file" in evidence
