"""Measuring a lock on a model of one's own."""

import dataclasses
import json
import sys
from typing import Any

import jax
import numpy as np
import pytest

import keyjax
from keyjax import card, quantize, tasks
from keyjax.attacks import measure
from keyjax.attacks.game import Attacker, Budget, Examples, Target
from tests.attacks import toys

SHORT = Budget(steps=20, points=1)
COUNTER = {"schedule": "counter", "key_bits": 256}
COUNTER_128 = {"schedule": "counter"}
LATE = {"after_training": True}
NONE = Attacker()


def late_hpnn() -> keyjax.Scheme:
  return keyjax.hpnn(toys.NET.apply, after_training=True)


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
  assert (
    attack(counter, "base_model")["note"] == "it needs the public base model"
  )
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
  assert any("not played: it needs the public base model" in x for x in lines)


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
  target = small(late_hpnn(), "hpnn", options=LATE)
  rows = measure.lock(target, Attacker(), SHORT, wrong_keys=2)
  assert {r["condition"] for r in rows if "attack" not in r} == {
    "right",
    "no_key",
    "wrong",
    "",
  }
  needs = attack(rows, "hpnn_relax")["note"]
  assert needs == "it needs 1 labelled image"
  assert attack(rows, "hpnn_statistics")["value"] is not None


def test_no_lock_has_no_wrong_keys() -> None:
  target = small(keyjax.identity(), "identity")
  rows = measure.lock(target, Attacker(), SHORT)
  assert named(rows, "no_key")["value"] == named(rows, "plain")["value"]
  assert not [r for r in rows if r["condition"] == "wrong" and r["value"]]
  assert measure.table(rows).endswith("none; no lock")


def test_an_attacker_holds_a_little_of_what_there_is() -> None:
  target = small(keyjax.identity(), "identity")
  assert measure.holdings(target).images == 64
  assert not measure.holdings(target).has_base
  few = Examples(target.train.image[:10], target.train.label[:10])
  held = measure.holdings(dataclasses.replace(target, train=few))
  assert (held.images, held.ciphertexts) == (5, 5)


def test_an_int8_tree_is_measured() -> None:
  scheme = keyjax.masked(keyjax.deep_lock(), quantize.INT8_LEAVES)
  params = quantize.quantize(toys.trained())
  target = small(scheme, "deep_lock", params=params, floats=quantize.dequantize)
  rows = measure.lock(target, NONE, SHORT, wrong_keys=1)
  assert named(rows, "right")["value"] > 0.9
  plain = dataclasses.replace(target, floats=lambda p: p)
  with pytest.raises(ValueError, match="up to target.floats"):
    measure.lock(plain, NONE, SHORT)


def test_a_chain_is_measured() -> None:
  scheme = keyjax.chain(late_hpnn(), keyjax.deep_lock("counter"))
  parts = [("hpnn", LATE), ("deep_lock", {"schedule": "counter"})]
  target = small(scheme, "chain", options={"parts": parts})
  rows = measure.lock(target, NONE, SHORT, wrong_keys=2)
  made = card.make(json.loads(json.dumps(rows)))
  assert [p["mechanism"] for p in made["scheme"]["parts"]] == [
    "hpnn",
    "deep_lock",
  ]
  last = measure.table(rows).splitlines()[-1]
  assert last.endswith("attacks on its parts alone were not played")
  swapped = dataclasses.replace(target, options={"parts": parts[::-1]})
  with pytest.raises(ValueError, match="target.options: chain with these"):
    measure.lock(swapped, NONE, SHORT)
  short = dataclasses.replace(target, options={"parts": parts[:1]})
  with pytest.raises(ValueError, match="a chain of 1 parts, .* is of 2"):
    measure.lock(short, NONE, SHORT)


def test_a_mark_is_broken_only_by_what_erases_it() -> None:
  target = small(keyjax.licensee_mark(), "licensee_mark")
  rows = measure.lock(target, Attacker(images=64), SHORT, wrong_keys=1)
  last = measure.table(rows).splitlines()[-1]
  assert last.startswith("detection only; ")
  assert "fine tune" not in last and "random keys" not in last
  assert card.make(rows)["scheme"]["parts"][0]["class"] == "detection only"


def test_rows_hold_no_secret(monkeypatch) -> None:
  monkeypatch.setattr(sys, "argv", ["worth.py", "--passphrase=hunter2"])
  nonce = b"a nonce of 1"
  scheme = keyjax.deep_lock("counter", nonce=nonce, key_bits=np.int64(128))
  options = {"schedule": "counter", "nonce": nonce, "key_bits": np.int64(128)}
  target = small(scheme, "deep_lock", options=options)
  rows = measure.lock(target, NONE, SHORT, wrong_keys=0)
  text = json.dumps(rows)
  assert "hunter2" not in text and "a nonce" not in text
  assert rows[0]["command"] == "worth.py"
  assert rows[0]["options"]["key_bits"] == 128
  for leaf in jax.tree.leaves(target.key):
    if np.size(leaf) > 2:
      assert np.asarray(leaf).tobytes().hex() not in text
  monkeypatch.setattr(sys, "argv", [])
  assert measure.lock(target, NONE, SHORT, wrong_keys=0)[0]["command"]


def test_few_training_images_are_enough() -> None:
  target = small(keyjax.deep_lock("counter"), "deep_lock", options=COUNTER_128)
  one = Examples(target.train.image[:1], target.train.label[:1])
  target = dataclasses.replace(target, train=one)
  held = measure.holdings(target)
  assert (held.images, held.queries, held.ciphertexts) == (0, 1, 1)
  rows = measure.lock(target, budget=SHORT, wrong_keys=0)
  assert attack(rows, "scratch")["note"] == "it needs 1 labelled image"
  assert attack(rows, "extract")["attacker"]["queries"] == 1


def test_the_leaf_that_is_known_is_the_one_that_was_named() -> None:
  target = small(keyjax.deep_lock(), "deep_lock")
  most = Attacker(known_weights=4, known_leaf="params/head/bias")
  rows = measure.lock(target, most, SHORT, wrong_keys=0)
  held = attack(rows, "known_plaintext")["attacker"]
  assert held["known_leaf"] == "params/head/bias"
  assert attack(rows, "constant_leaves")["attacker"]["known_leaf"] == ""


def test_outputs_that_are_no_number_have_rows_without_a_value() -> None:
  made = small(keyjax.deep_lock("counter"), "deep_lock", options=COUNTER_128)
  vectors = [
    Examples(x.image, np.asarray(toys.NET.apply(made.params, x.image)))
    for x in (made.train, made.test)
  ]
  target = dataclasses.replace(
    made, train=vectors[0], test=vectors[1], task=tasks.get("embeddings")
  )
  rows = measure.lock(target, Attacker(images=64), SHORT, wrong_keys=1)
  assert named(rows, "no_key")["value"] is None
  text = json.dumps(rows, allow_nan=False)
  assert "cosine, no key" in measure.table(json.loads(text))
  made = card.make(rows)
  assert "no_key" not in {r["condition"] for r in made["accuracy"]}
  tried = attack(rows, "random_keys")
  assert tried["value"] is None
  assert "random keys                       no number" in measure.table(rows)
  # A cosine may be negative.
  low = {"value": -0.5, "low": -0.6, "high": -0.4}
  tuned = attack(rows, "fine_tune")
  tuned |= low | {"curve": [x | low for x in tuned["curve"]]}
  assert attack(card.make(rows)["attacks"], "fine_tune")["value"] == -0.5


def test_what_is_left_without_an_attack_is_in_the_verdict() -> None:
  rows = [
    dict(r) | {"value": 0.9, "low": 0.8, "high": 0.95, "nonfinite": 0}
    if r.get("condition") in ("no_key", "wrong") and "attack" not in r
    else r
    for r in measure.lock(
      small(keyjax.deep_lock("counter"), "deep_lock", options=COUNTER_128),
      NONE,
      SHORT,
      wrong_keys=1,
    )
  ]
  last = measure.table(rows).splitlines()[-1]
  assert "with no key: 90.0 % (80.0 to 95.0); with wrong keys: 90.0 %" in last


def test_scratch_that_is_as_good_as_the_owner_is_in_the_verdict(
  counter,
) -> None:
  rows = [
    r | {"value": 0.95, "low": 0.85, "high": 0.99}
    if r.get("attack") == "scratch"
    else r
    for r in counter
  ]
  moot = "do not tell training from scratch from the owner's model"
  assert measure.table(rows).endswith(moot)
  assert moot not in measure.table(counter)


@pytest.mark.parametrize("field", ["low", "attacker", "note", "game"])
def test_rows_that_lack_a_field_are_refused(counter, field) -> None:
  rows = [{k: v for k, v in r.items() if k != field} for r in counter]
  with pytest.raises(ValueError, match=f"measure.lock returns .*'{field}'"):
    measure.table(rows)


@pytest.mark.parametrize("rows", [[], [{"a": 1}], iter([])])
def test_a_table_is_of_rows(rows) -> None:
  with pytest.raises(ValueError, match="rows: pass those that measure.lock"):
    measure.table(rows)


def test_a_table_is_of_one_lock(counter) -> None:
  with pytest.raises(ValueError, match="rows of more than one lock"):
    measure.table([*counter, counter[0] | {"options": {}}])
  with pytest.raises(ValueError, match="none has the accuracy with the key"):
    measure.table([r for r in counter if r["condition"] != "right"])


def test_an_error_names_the_attack(monkeypatch) -> None:
  def fails(*args: Any) -> None:
    raise KeyError("dense")

  monkeypatch.setattr(measure.referee, "sweep", fails)
  with pytest.raises(KeyError) as caught:
    measure.lock(small(keyjax.identity(), "identity"), budget=SHORT)
  assert caught.value.__notes__ == [
    "In the attack scratch, played by measure.lock."
  ]
