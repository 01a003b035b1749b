"""Measuring a lock on a model of one's own."""

import dataclasses
import json
from typing import Any

import pytest

import keyjax
from keyjax import card
from keyjax.attacks import measure
from keyjax.attacks.game import Attacker, Budget, Examples, Target
from tests.attacks import toys

SHORT = Budget(steps=20, points=1)
COUNTER = {"schedule": "counter", "key_bits": 256}


def small(scheme: keyjax.Scheme, name: str, **fields: Any) -> Target:
  """Return a lock that is judged on 40 images."""
  made = toys.target(scheme, name, **fields)
  test = Examples(made.test.image[:40], made.test.label[:40])
  return dataclasses.replace(made, test=test)


@pytest.fixture(scope="module")
def counter() -> list[dict[str, Any]]:
  scheme = keyjax.deep_lock("counter", key_bits=256)
  target = small(scheme, "deep_lock", options=COUNTER)
  return measure.lock(target, budget=SHORT, wrong_keys=2, dataset="digits")


def named(rows: list[dict[str, Any]], condition: str) -> dict[str, Any]:
  found = [r for r in rows if "attack" not in r and r["condition"] == condition]
  return found[0]


def attack(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
  return next(r for r in rows if r.get("attack") == name)


def test_accuracies_are_those_with_and_without_the_key(counter) -> None:
  plain, right = named(counter, "plain"), named(counter, "right")
  assert plain["value"] == right["value"] > 0.9
  assert right["low"] < right["value"] < right["high"]
  # The argmax of NaN is a class, and right now and then.
  for condition in ("no_key", "wrong"):
    row = named(counter, condition)
    assert row["nonfinite"] == 40 * row["keys"]
  assert named(counter, "wrong")["keys"] == 2
  (bits,) = (r for r in counter if r["metric"] == "key_bits")
  assert bits["value"] == 256


def test_every_attack_that_fits_is_played_or_says_why_not(counter) -> None:
  assert counter.index(attack(counter, "scratch")) == 5  # The control is first.
  played = attack(counter, "known_plaintext")
  assert played["value"] == 0
  assert played["attacker"]["known_weights"] == 4
  # It is given what it needs, and no more.
  assert played["attacker"]["images"] == played["attacker"]["queries"] == 0
  assert attack(counter, "extract")["attacker"]["queries"] == 64
  assert attack(counter, "base_model")["note"] == "it needs 1 public base model"
  assert all(r["value"] is not None or r["note"] for r in counter)


def test_the_rows_make_a_card_and_a_table(counter) -> None:
  rows = json.loads(json.dumps(counter))
  made = card.make(rows)
  assert made["scheme"]["parts"][0]["class"] == "cryptographic"
  assert {r["condition"] for r in made["accuracy"]} >= {"right", "no_key"}
  assert {a["attack"] for a in made["attacks"]} >= {"fine_tune", "flip_sign"}
  lines = measure.table(rows).splitlines()
  assert "100 % not finite" in next(x for x in lines if "no key" in x)
  assert lines[-1].startswith("cryptographic; holds against")
  assert "malleable: a changed file opens" in lines[-1]
  assert any("not played: it needs 1 public base model" in x for x in lines)


def test_a_broken_lock_is_broken() -> None:
  scheme = keyjax.deep_lock()
  target = small(scheme, "deep_lock", base=toys.trained())
  rows = measure.lock(target, budget=SHORT, wrong_keys=0)
  assert attack(rows, "known_plaintext")["value"] == 1
  assert attack(rows, "base_model")["value"] == 1
  assert "broken by: " in measure.table(rows).splitlines()[-1]
  assert not [
    r for r in rows if r["condition"] == "wrong" and "attack" not in r
  ]


def test_a_lock_that_binds_has_no_plain_model() -> None:
  scheme = keyjax.hpnn(toys.NET.apply)
  # Nothing is trained under the key here: only that rows are made.
  rows = measure.lock(small(scheme, "hpnn"), Attacker(), SHORT, wrong_keys=2)
  assert {r["condition"] for r in rows if "attack" not in r} == {
    "right",
    "no_key",
    "wrong",
    "",
  }
  needs = attack(rows, "hpnn_relax")["note"]
  assert needs == "it needs 1 labelled images"
  assert attack(rows, "hpnn_statistics")["value"] is not None


def test_no_lock_has_no_wrong_keys() -> None:
  target = small(keyjax.identity(), "identity")
  rows = measure.lock(target, Attacker(), SHORT)
  assert named(rows, "no_key")["value"] == named(rows, "plain")["value"]
  assert not [r for r in rows if r["condition"] == "wrong" and r["value"]]
  assert measure.table(rows).endswith("none; no lock")


@pytest.mark.parametrize(
  ("name", "fields", "message"),
  [
    ("my_lock", {}, "my_lock"),
    ("identity", {"wrong_keys": -1}, "wrong_keys=-1: at least 0"),
    ("identity", {"budget": Budget(steps=1, points=0)}, "points=0"),
  ],
)
def test_what_cannot_be_measured_is_refused(name, fields, message) -> None:
  target = small(keyjax.identity(), name)
  with pytest.raises(ValueError, match=message):
    measure.lock(target, **fields)


def test_an_attacker_with_more_than_there_is_is_refused() -> None:
  target = small(keyjax.identity(), "identity")
  with pytest.raises(ValueError, match="images=5000, but this target has 1400"):
    measure.lock(target, Attacker(images=5000, queries=1), SHORT)


def test_an_attacker_holds_a_little_of_what_there_is() -> None:
  target = small(keyjax.identity(), "identity")
  assert measure.holdings(target).images == 64
  assert not measure.holdings(target).has_base
  few = Examples(target.train.image[:10], target.train.label[:10])
  held = measure.holdings(dataclasses.replace(target, train=few))
  assert (held.images, held.ciphertexts) == (5, 5)
