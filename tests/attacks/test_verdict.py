"""The verdict on a lock, in words."""

from typing import Any

import pytest

from keyjax.attacks import verdict

COUNTER = {"schedule": "counter"}


def row(game: str, value: float, **fields: Any) -> dict[str, Any]:
  return {
    "game": game,
    "attack_title": game.replace("_", " "),
    "metric": "key",
    "condition": "wrong",
    "value": value,
    "low": max(value - 0.02, 0.0),
    "high": min(value + 0.02, 1.0),
    "attacker": {"images": 60},
    "cost": {"steps": 9},
    "right": 0.98,
    "classes": 10,
    **fields,
  }


def tuned(value: float) -> dict[str, Any]:
  return row("fine_tune", value, metric="function")


SCRATCH = row("scratch", 0.93, metric="function")


def test_the_scheme_states_its_break() -> None:
  chain = verdict.in_words("deep_lock", {})
  assert chain.startswith("broken by: four known float32 weights")
  assert verdict.in_words("deep_lock", COUNTER) == "no break known"
  assert verdict.in_words("identity", {}) == "no lock"
  assert verdict.in_words("of_another_package", {}) == "not stated"


@pytest.mark.parametrize("last", [("deep_lock", COUNTER), ("deep_lock", {})])
def test_a_chain_holds_if_a_part_does(last: Any) -> None:
  options = {"parts": [("hpnn", {}), last]}
  stated = verdict.known("chain", options)
  assert stated.broken == (last[1] != COUNTER)
  assert stated.security_class.startswith("access control by degradation; ")
  assert "60 labelled images" in stated.breaks or not stated.broken


def test_attacks_on_the_file_decide() -> None:
  won = row("known_plaintext", 1.0)
  found = verdict.in_words("deep_lock", {}, [won])
  assert found == "broken by: known plaintext (100.0 %)"
  lost = [row("known_plaintext", 0.0), row("two_time_pad", 0.0)]
  asked = row("extract", 0.97, metric="function", condition="api")
  found = verdict.in_words("deep_lock", COUNTER, [*lost, asked])
  assert found == "holds against the 2 attacks run; no break known"
  found = verdict.in_words("deep_lock", {}, lost)
  assert "; broken by: four known float32 weights" in found
  half = row("line_search", 0.6, metric="function")
  found = verdict.in_words("adv_params", {}, [half])
  assert found.startswith("weakened by: line search (60.0 %); broken by: ")


@pytest.mark.parametrize(
  ("value", "words"),
  [(0.93, "holds against the 1 attack run"), (0.97, "broken by: fine tune")],
)
def test_fine_tuning_counts_by_its_gain(value: float, words: str) -> None:
  found = verdict.in_words("hpnn", {}, [tuned(value)], [SCRATCH])
  assert found.startswith(words)
  alone = verdict.in_words("deep_lock", COUNTER, [tuned(value)])
  assert alone == "no break known; 1 attack without a baseline from scratch"


def test_what_a_file_reveals_or_accepts_is_named() -> None:
  noise = row("three_words", 0.9, metric="distinguish")
  forged = row("flip_sign", 1.0, metric="forge")
  served = row("no digit 7", 1.0, metric="distinguish", condition="api")
  found = verdict.in_words("deep_lock", COUNTER, [noise, forged, served])
  assert found == (
    "no break known; leaks: three words (90.0 %); malleable: a changed file "
    "opens"
  )


def test_a_control_that_was_not_played_is_no_baseline() -> None:
  unplayed = row("scratch", 0.0, metric="function")
  unplayed |= {"value": None, "low": None, "high": None, "note": "no images"}
  won = row("hpnn_relax", 0.97, metric="function")
  assert not verdict.no_better(won, [unplayed])
  assert verdict.gain(tuned(0.97), [unplayed]) is None
  found = verdict.in_words("hpnn", {}, [won, unplayed], [unplayed])
  assert found == "broken by: hpnn relax (97.0 %)"


def test_a_mark_is_not_broken_by_the_function_that_it_does_not_protect() -> (
  None
):
  ran = [
    tuned(0.98),
    row("random_keys", 0.98, metric="function"),
    row("erase_mark", 0.1, metric="function", attacker={"images": 0}),
  ]
  found = verdict.in_words("licensee_mark", {}, [*ran, SCRATCH], [SCRATCH])
  assert found.startswith("holds against the 1 attack run; ")
  erased = row("erase_mark", 0.97, metric="function", attacker={"images": 0})
  found = verdict.in_words("licensee_mark", {}, [*ran, erased], [SCRATCH])
  assert found == "broken by: erase mark (97.0 %)"
