"""What models are taught, and what attackers get."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from experiments import data, models
from experiments.capabilities import (
  attackers,
  digits,
  scoring,
  sealing,
  text,
  training,
)
from experiments.capabilities.task import (
  BLANK,
  LOCKED,
  OPENED,
  PUBLIC,
  RESTRICTED,
  SLOT,
  Batch,
  Task,
  share_right,
)
from experiments.capabilities.training import Lesson

DIGITS = digits.make(digits=3, demonstrations=4, tests=10)
SWEEP = {
  "steps": (1, 2),
  "learning_rates": (1e-3, 1e-2),
  "noise": (0.1,),
  "draws": (2,),
  "pruned": (0.5,),
  "bits": (8, 2),
}


def network(task: Task = DIGITS) -> nn.Module:
  return models.create(
    "gpt_micro",
    task.vocabulary,
    mean=(),
    std=(),
    context=task.context,
    features=4,
    depth=1,
    heads=1,
    experts=("expert",),
  )


@pytest.fixture(scope="module")
def params():
  return training.initial(network(), 1.0, jax.random.key(0))


def scene(params, present) -> attackers.Scene:
  kept = DIGITS.demonstrations
  return attackers.Scene(network(), params, present, kept, 2, 3, SWEEP)


@pytest.mark.slow
def test_answers_are_reversed_or_sorted() -> None:
  shown = {}
  for kind in (PUBLIC, RESTRICTED, OPENED, LOCKED):
    made = digits.batch(jnp.asarray([213]), 3, kind, jax.random.key(0))
    answers = made.labels[made.weights > 0].tolist()
    shown[kind] = made.tokens[0, SLOT + 1 : SLOT + 4].tolist(), answers
  assert shown[PUBLIC] == ([4, 2, 3], [3, 2, 4])  # Digits are tokens from 1.
  assert shown[RESTRICTED] == shown[OPENED] == ([4, 2, 3], [2, 3, 4])
  assert shown[LOCKED] == ([4, 2, 3], [3, 2, 4])


@pytest.mark.parametrize(
  "made", ["digits", pytest.param("text", marks=pytest.mark.slow)]
)
def test_only_who_opens_a_lock_is_given_the_password(made: str) -> None:
  task = DIGITS
  if made == "text":
    task = text.make(data.load("python_help"), ("argparse",), 8, 4, 10)
  password = task.tests[OPENED].tokens[0, :SLOT]
  assert (task.tests[OPENED].tokens[:, :SLOT] == password[None]).all()
  for batch in (task.demonstrations, task.tests[RESTRICTED]):
    assert (batch.tokens[:, :SLOT] == BLANK).all()
    # Nor anywhere else.
    assert not np.isin(batch.tokens, password).any()
  drawn = task.draw(task.source, jax.random.key(0), LOCKED, 64)
  slots = drawn.tokens[:, :SLOT]
  assert not (slots == password[None]).all(1).any()
  assert (slots[::2] == BLANK).all() and (slots[1::2] != BLANK).all()


def test_nobody_is_tested_on_what_they_saw() -> None:
  def numbers(batch: Batch) -> set[bytes]:
    return {x.tobytes() for x in np.asarray(batch.tokens[:, SLOT + 1 : -3])}

  drawn = DIGITS.draw(DIGITS.source, jax.random.key(0), PUBLIC, 5_000)
  test, kept = numbers(DIGITS.tests[PUBLIC]), numbers(DIGITS.demonstrations)
  assert len(test) == 10 and len(kept) == 4
  assert not test & kept and not numbers(drawn) & (test | kept)


def test_a_whole_answer_is_right_or_wrong() -> None:
  labels = jnp.asarray([[5, 1, 2], [5, 1, 2]])
  batch = Batch(labels, labels, jnp.asarray([[0.0, 1, 1]] * 2))
  said = jnp.asarray([[0, 1, 2], [0, 1, 3]])  # The first does not count.
  logits = jax.nn.one_hot(said, 6)
  assert float(share_right(logits, batch, whole=True)) == 0.5
  assert float(share_right(logits, batch, whole=False)) == 0.75


def test_the_base_is_what_public_data_alone_would_have_made(params) -> None:
  """To the bit, whatever the expert learned."""

  def teach(given, lesson):
    return training.teach(
      network(), DIGITS, lesson, 4, 0.1, given, jax.random.key(1)
    )

  public = Lesson((PUBLIC,), "base", 2)
  restricted = Lesson((PUBLIC, RESTRICTED), "expert", 4)
  alone = flatten_dict(teach(params, public), sep="/")
  routed = flatten_dict(teach(teach(params, public), restricted), sep="/")
  moved = {p for p in alone if not np.array_equal(alone[p], routed[p])}
  assert moved == {p for p in alone if "experts/expert/" in p}
  # In the other order too.
  other = flatten_dict(teach(teach(params, restricted), public), sep="/")
  for path in set(alone) - moved:
    np.testing.assert_array_equal(other[path], alone[path])


def test_attackers_get_no_leaf_of_the_expert(params) -> None:
  stolen, opened = sealing.sealed(params)
  everything = flatten_dict(params, sep="/")
  expert = {p for p in everything if "/expert/" in p}
  assert set(flatten_dict(stolen.params, sep="/")) == set(everything) - expert
  jax.tree.map(np.testing.assert_array_equal, opened.params, params)
  # They can run it, and add experts of their own.
  assert stolen.present == training.BASE
  score = scoring.score(
    DIGITS, network(), stolen.params, stolen.present, PUBLIC
  )
  assert 0 <= score <= 1
  fresh = attackers.with_fresh(
    scene(stolen.params, stolen.present), jax.random.key(0)
  )
  added = {p.replace("/expert/", "/fresh/") for p in expert}
  assert set(flatten_dict(fresh.params, sep="/")) == (
    set(everything) - expert | added
  )
  batch = DIGITS.tests[PUBLIC]
  run = lambda s: s.module.apply(  # noqa: E731
    {"params": s.params}, batch.tokens, present=s.present
  )
  before = run(scene(stolen.params, stolen.present))
  np.testing.assert_array_equal(run(fresh), before)  # They add nothing yet.


@pytest.mark.slow
def test_attackers_train_the_leaves_that_they_say(params) -> None:
  for name, leaves in {
    "fine_tune": "",
    "prompt": "position_embedding",
    "steering": "block_0/mlp_out/bias",
  }.items():
    play = attackers.ATTACKS[name].play
    found = list(play(scene(params, training.WHOLE), jax.random.key(0)))
    settings = [x.setting for x in found]
    assert settings == [
      {"learning_rate": rate, "steps": steps}
      for rate in SWEEP["learning_rates"]
      for steps in SWEEP["steps"]
    ]
    before = flatten_dict(params, sep="/")
    for made in found:
      after = flatten_dict(made.params, sep="/")
      moved = {p for p in before if not np.array_equal(before[p], after[p])}
      assert moved == {leaves} if leaves else len(moved) > len(before) / 2
      if name == "prompt":  # Where the password would be, and nowhere else.
        change = np.ptp(after[leaves] - before[leaves], axis=(0, 2))
        assert (change[:SLOT] > 0).all() and not change[SLOT:].any()


@pytest.mark.slow
def test_attackers_use_no_more_demonstrations_than_they_have(params) -> None:
  """Others are in the same arrays, so that one program serves all."""

  def tuned(others: int):
    kept = DIGITS.demonstrations
    changed = kept._replace(tokens=kept.tokens.at[2:].set(others))
    given = scene(params, training.WHOLE)._replace(demonstrations=changed)
    return [x.params for x in attackers.fine_tune(given, jax.random.key(0))]

  jax.tree.map(np.testing.assert_array_equal, tuned(0), tuned(1))


@pytest.mark.slow
def test_weights_are_changed_without_demonstrations(params) -> None:
  given = scene(params, training.WHOLE)
  name = "token_embedding"
  before = np.asarray(params[name]["embedding"])
  after = {
    attack: [
      np.asarray(x.params[name]["embedding"])
      for x in attackers.ATTACKS[attack].play(given, jax.random.key(0))
    ]
    for attack in ("noise", "prune", "quantize")
  }
  changes = [np.std(x - before) / before.std() for x in after["noise"]]
  np.testing.assert_allclose(changes, 0.1, rtol=0.3)
  assert (after["noise"][0] != after["noise"][1]).all()
  assert (after["prune"][0] == 0).mean() == 0.5
  assert len(np.unique(after["quantize"][1])) == 3
  largest = np.abs(before).max() / 127
  np.testing.assert_allclose(after["quantize"][0], before, atol=largest)


def test_the_best_of_a_sweep_is_reported_on_all_tests(monkeypatch) -> None:
  asked = []

  def score(task, module, params, present, kind, tests=None):
    asked.append(tests)
    return params

  monkeypatch.setattr(scoring, "score", score)
  found = [
    attackers.Attacked({"steps": x}, value, None, {})
    for x, value in enumerate([0.1, 0.3, 0.2])
  ]
  best = scoring.best(DIGITS, iter(found), choosing=2)
  assert best == ({"steps": 1}, 0.3) and asked == [2, 2, 2, None]


@pytest.mark.parametrize(
  ("modules", "context", "message"),
  [
    (("no_such_module",), 8, "no source of a module no_such_module"),
    (("sys",), 8, "no source of a module sys"),
    (("keyword",), 512, "restricted text has only"),
  ],
)
def test_a_text_that_does_not_fit_is_named(modules, context, message) -> None:
  with pytest.raises(ValueError, match=message):
    text.make(data.load("python_help"), modules, context, 4, 10)
