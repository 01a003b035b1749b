"""Wrong keys that are wrong, distances, sizes."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import data, models
from experiments.protection import judge, lock, protect
from experiments.protection.job import Job
from experiments.run import config
from keyjax import Secret, keys, tasks, tree
from tests import trees

DIGITS = data.load("digits", num_train=40, num_test=20)
MODEL = models.create("cnn", 10, DIGITS.mean, DIGITS.std, features=(2,))
VARIABLES = trees.variables(MODEL, jnp.zeros((1, 8, 8, 1)), deviation=0.1)


LABEL = "tested"


def job(protection: lock.Lock, log: Any = print) -> Job:
  """Return a job with one protection, and without folders."""
  settings = config.base()
  config.set_schemes(settings, **{LABEL: config.scheme("deep_lock")})
  return Job(
    config=settings,
    workdir=None,  # type: ignore[arg-type]
    dataset=DIGITS,
    model=MODEL,
    task=tasks.CLASSES,
    locks={LABEL: protection},
    row_base={},
    log=log,
  )


# Of so few orders, some change nothing.
@pytest.mark.filterwarnings("ignore:.*the key of this secret changes nothing")
@pytest.mark.parametrize("kind", ["np", "shf"])
def test_no_wrong_key_is_the_right_one(kind: str) -> None:
  """M=2, one channel: 4 masks, 24 orders; random ones are sometimes right."""
  protection = lock.build(kind, {"block_size": 2}, MODEL)
  batch = {"image": jnp.zeros((1, 8, 8, 1))}
  key = protection.scheme.keygen(Secret.generate(), VARIABLES, batch)
  wrong = judge.wrong_keys(job(protection), protection, key, VARIABLES, 64)
  assert len(wrong) == 64
  assert not any(tree.same_bits(k, key) for k in wrong)
  fresh = [
    protection.scheme.keygen(Secret.generate(), VARIABLES, batch)
    for _ in range(400)
  ]
  # Some random keys are the right one, so the test above can fail.
  assert any(tree.same_bits(k, key) for k in fresh)


def test_without_a_key_there_is_no_wrong_key() -> None:
  protection = lock.build("identity", {}, MODEL)
  with pytest.raises(ValueError, match="no key is wrong: remove it"):
    judge.wrong_keys(job(protection), protection, (), VARIABLES, 8)


def judged(protection: lock.Lock, key: Any) -> tuple[set[str], dict, list[str]]:
  """Return conditions, figures and printed lines."""
  lines: list[str] = []
  small = job(protection, lines.append)
  small.config.evaluate.update(wrong_keys=2, distance_keys=1)
  rows, figures = judge.judge(
    small,
    LABEL,
    key=key,
    prepared=VARIABLES,
    locked=protection.scheme.encrypt(key, VARIABLES),
    plain_value=0.5,
  )
  assert {r["scheme"] for r in rows} == {LABEL}
  return {r["condition"] for r in rows}, figures, lines


def test_without_a_key_nothing_is_wrong_or_near() -> None:
  conditions, figures, lines = judged(lock.build("identity", {}, MODEL), ())
  assert conditions == {"right", "api", "no_key"}
  assert (figures, lines) == ({}, [])


def test_near_keys_are_left_out_of_a_new_kind_of_key() -> None:
  """The key is a dict, for which the library knows no distance."""
  deep = keyjax.deep_lock()
  mine = keyjax.Scheme(
    lambda *args: {"key": deep.keygen(*args)},
    lambda key, params: deep.encrypt(key["key"], params),
    lambda key, params: deep.decrypt(key["key"], params),
  )
  protection = lock.Lock(mine, False, lambda v: v, MODEL.apply)
  key = mine.keygen(Secret.generate(), VARIABLES, None)
  conditions, figures, (line,) = judged(protection, key)
  assert conditions == {"right", "api", "no_key", "wrong"}
  assert figures["near"] == [] and line.startswith(f"{LABEL}: no near keys")


def test_wrong_keys_of_a_chain_with_adv_params_vary() -> None:
  parts = (("adv_params", {"max_steps": 1}), ("deep_lock", {}))
  protection = lock.build("chain", {"parts": parts}, MODEL)
  batch = {"image": jnp.ones((4, 8, 8, 1)), "label": jnp.zeros(4, jnp.int32)}
  key = protection.scheme.keygen(Secret.generate(), VARIABLES, batch)
  wrong = judge.wrong_keys(job(protection), protection, key, VARIABLES, 8)
  assert len({tuple(k[1].master.tolist()) for k in wrong}) == 8


def test_key_bytes_leave_padding_out() -> None:
  scheme = keyjax.adv_params(trees.loss, max_steps=1, loss_threshold=1e9)
  key = scheme.keygen(Secret.generate(), VARIABLES, None)
  changed = int((np.asarray(key.flip) != 0).sum())
  assert keys.size_in_bytes(key) == 12 * changed < 12 * 48
  master = keyjax.deep_lock().keygen(Secret.generate(), VARIABLES, None)
  assert keys.size_in_bytes((key, master)) == 12 * changed + 16


def test_a_damaged_outcome_is_named(tmp_path: pathlib.Path) -> None:
  (tmp_path / "outcome.json").write_text("{")
  with pytest.raises(ValueError, match="outcome.json is damaged; delete it"):
    protect.load_outcome(tmp_path / "outcome.json")


def test_distances() -> None:
  assert judge.graded(0) == []
  assert judge.graded(1) == [1]
  assert judge.graded(5, points=3) == [1, 2, 5]
