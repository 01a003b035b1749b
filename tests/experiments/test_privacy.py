"""The privacy command: conditions, resumption, and what it refuses."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest

import keyjax
from experiments.membership import models, plan
from experiments.membership import rows as member_rows
from experiments.membership.attacks import ATTACKS
from experiments.report import beside
from experiments.report import privacy as report
from experiments.run import config as configs
from experiments.run import results
from keyjax import card as cards
from keyjax.cli import card_text
from tests.conftest import ROOT
from tests.experiments.privacy_job import NAMES, run, tiny
from tests.experiments.small_job import SECRET, Rows


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, pathlib.Path]:
  folder = tmp_path_factory.mktemp("privacy") / "run"
  return run(tiny(), folder), folder


def figures(rows: Rows, **fields: Any) -> dict[str, float]:
  return {
    f"{r['attack']} {r['metric']}": r["value"]
    for r in rows
    if all(r[k] == v for k, v in fields.items())
  }


def test_each_model_is_attacked_in_each_condition(done: Any) -> None:
  places = {(r["scheme"], r["training"], r["condition"]) for r in done[0]}
  keyed = {
    (name, "none", condition)
    for name in ("counter", "hpnn")
    for condition in ("right", "wrong", "no_key")
  }
  plain = {("none", "none", "plain"), ("none", "none", "api")}
  assert places == keyed | plain | {("none", "early", "plain")}
  for r in done[0]:
    assert r["low"] <= r["value"] <= r["high"], r
    assert r["examples"] == 120 and r["shadows"] == 8


def test_results_of_other_runs_are_on_the_page(
  done: Any, tmp_path: pathlib.Path
) -> None:
  folder = done[1]
  copies = json.loads((ROOT / "results/copies_digits.json").read_text())
  (tmp_path / "copies.json").write_text(json.dumps(copies))
  with pytest.raises(ValueError, match="beside: .*gone holds no privacy.json"):
    beside.parts([str(tmp_path), str(tmp_path / "gone")])
  page = tmp_path / "page.html"
  given = str(tmp_path), str(folder)
  beside.write(page, report.parts(done[0]), given)
  text = page.read_text()
  assert text.count("<html") == 1 and text.count("<h1") == 3
  assert text.count("Who was in the training data</h1>") == 2
  assert "Copies against queries</h1>" in text and "What models tell" in text
  alone = report.render(done[0])
  assert alone.count("<h1") == 1 and "Copies against queries" not in alone


def test_with_the_key_a_model_tells_what_the_plain_one_does(done: Any) -> None:
  plain = figures(done[0], scheme="none", training="none", condition="plain")
  assert figures(done[0], scheme="counter", condition="right") == plain
  assert plain["gap balanced_accuracy"] > 0.55
  assert plain["rmia auc"] > 0.6


def test_answers_that_are_nan_tell_nothing_and_are_counted(done: Any) -> None:
  for condition in ("wrong", "no_key"):
    rows = [
      r
      for r in done[0]
      if (r["scheme"], r["condition"]) == ("counter", condition)
    ]
    assert len(rows) == 2 + 4 * len(NAMES)
    for r in rows:
      if r["attack"]:
        assert r["nan"] == 120
      else:
        assert r["nonfinite"] == 1 and r["value"] == 0
    assert {r["value"] for r in rows if r["metric"] == "auc"} == {0.5}


def test_models_under_a_key_learn_with_it(done: Any) -> None:
  right = figures(done[0], scheme="hpnn", condition="right")
  without = figures(done[0], scheme="hpnn", condition="no_key")
  assert right[" test_accuracy"] > without[" test_accuracy"] + 0.1
  assert right["rmia auc"] > 0.55


def test_curves_end_at_everything_and_no_key_is_in_a_file(done: Any) -> None:
  rows, folder = done
  for r in rows:
    if r["metric"] == "auc":
      (curve,) = r["curves"]
      assert curve[0][0] == 0 and curve[-1] == [1, 1]
      assert np.all(np.diff(np.asarray(curve), axis=0) >= 0)
  assert json.loads((folder / "privacy.json").read_text()) == rows
  key = SECRET.child("counter_0").derive("any", 32)
  secrets = (bytes([7]) * 32, bytes([7]).hex().encode() * 32, key)
  files = [f for f in folder.rglob("*") if f.is_file()]
  assert len(files) > 4
  for file in files:
    assert not any(secret in file.read_bytes() for secret in secrets), file


def test_the_page_shows_each_model_and_loads_nothing(done: Any) -> None:
  rows, folder = done
  page = (folder / "privacy.html").read_text()
  assert len(re.findall("<svg", page)) == 1 + 4  # All attacks, each model.
  for title in ("no lock", "Deep-Lock", "HPNN", "LiRA, one variance", "early"):
    assert title in page
  area = next(
    r
    for r in rows
    if (r["attack"], r["condition"], r["metric"]) == ("rmia", "plain", "auc")
  )
  assert f"{area['value']:.3f}" in page and "120 NaN" in page
  assert "http" not in page.replace("http-equiv", "") and "<script" not in page


def test_what_is_there_is_not_measured_again(done: Any) -> None:
  rows, folder = done
  file = folder / "privacy.jsonl"
  before = file.read_bytes()
  (file_of_models,) = (folder / "none_none").glob("*.safetensors")
  stored = file_of_models.read_bytes()
  assert run(tiny(), folder) == rows
  assert file.read_bytes() == before
  more = run(tiny(attacks=(*NAMES, "loss")), folder)
  assert len(more) == len(rows) + 4 * 9
  assert file_of_models.read_bytes() == stored
  lines = file.read_bytes()
  assert lines.startswith(before)


def test_rows_make_a_card_with_all_that_they_assume(
  done: Any, tmp_path: pathlib.Path
) -> None:
  rows = done[0]
  results.write_json(tmp_path / "privacy.json", rows)
  stored = cards.read_rows(tmp_path / "privacy.json")
  for label, keyed in (("hpnn", "same key"), ("counter", "plain")):
    card = cards.make(stored, label)
    assert card == cards.make(rows[::-1], label)
    assert cards.parse_card(cards.format_card(card)) == card
    found = card["leaks"]["membership"]
    assert len(found) == 4 * (5 * len(NAMES))
    by = {(x["condition"], x["attack"]): x for x in found}
    assert {c for c, _ in by} == {"plain", "right", "wrong", "no_key", "api"}
    rmia = by["right", "rmia"]
    assert (rmia["shadows"], rmia["shadow_models"]) == (8, keyed)
    assert by["plain", "rmia"]["shadow_models"] == "plain"
    gap = by["no_key", "gap"]
    assert (gap["shadows"], gap["shadow_models"]) == (0, "none")
    assert by["api", "gap"]["answers"] == "the label alone"
    text = " ".join("\n".join(card_text.lines(card)).split())
    for words in (
      "120 examples, at random from the training images; each example is in "
      "half of the models",
      "30 % of the labels are wrong",
      "api: the label alone (1 models judged, 0 of 120 scores NaN)",
      "8 shadow models, " + ("the same key" if label == "hpnn" else "no key"),
    ):
      assert words in text, words


def test_rows_state_how_the_judged_models_are_drawn() -> None:
  row = {"scheme": "none", "attack": "gap", "reply": "", "shadows": 8}
  job: Any = None
  for delta, words in ((0.0, "in half of the models"), (1e-5, "a coin for")):
    assert words in member_rows.stated(tiny(delta=delta), job, row)["draw"]


def test_rows_of_an_older_release_are_completed(done: Any) -> None:
  """What they do not state follows from the config; nothing is measured."""
  rows, folder = done
  file = folder / "privacy.jsonl"
  whole = file.read_text()
  added = ("draw", "shadows_used", "shadow_models", "reply_title")
  old = [
    {k: v for k, v in json.loads(line).items() if k not in added}
    for line in whole.splitlines()
  ]
  with pytest.raises(cards.CardError, match=r"no 'draw'.* run again"):
    cards.make(old, "hpnn")
  file.write_text("".join(json.dumps(r) + "\n" for r in old))
  try:
    assert run(tiny(), folder) == rows
    assert len(file.read_text().splitlines()) == len(old)
  finally:
    file.write_text(whole)


def test_models_that_are_damaged_are_named(done: Any) -> None:
  rows, folder = done
  (file,) = (folder / "hpnn_none").glob("*.safetensors")
  whole = file.read_bytes()
  file.write_bytes(whole[:-7])
  try:
    with pytest.raises(ValueError, match=rf"{file.name} is damaged"):
      run(tiny(attacks=(*NAMES, "lira")), folder)
  finally:
    file.write_bytes(whole)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"pool": 5}, "privacy.pool=5"),
    ({"models": 4}, "privacy.models=4"),
    ({"targets": 0}, "privacy.targets=0"),
    ({"targets": 10}, "targets=10 of models=9"),
    ({"wrong_keys": -1}, "privacy.wrong_keys=-1"),
    ({"noise": 1.0}, "privacy.noise=1.0"),
    ({"attacks": ("mia",)}, "'mia': choose from gap, loss"),
    ({"replies": ("tops:1",)}, "'tops:1': choose label"),
    ({"trainings": {"none": {}}}, "privacy.trainings.none"),
    ({"trainings": {"x": {"ema": 0.5}}}, "privacy.trainings.x: ema"),
    ({"trainings": {"x": {"dropout": 1.0}}}, "privacy.trainings.x.dropout=1.0"),
    (
      {"trainings": {"x": {"dropout": 0.5, "epsilon": 1.0}}, "delta": 0.1},
      "x: dropout does not go with an epsilon",
    ),
    ({"delta": 1.0}, "privacy.delta=1.0"),
    ({"trainings": {"x": {"epsilon": 1.0}}}, "x: an epsilon needs privacy.del"),
    ({"trainings": {"x": {"clip": 1.0}}}, "x: clip without an epsilon"),
    ({"trainings": {"x": {"epsilon": 0.0}}, "delta": 0.1}, "x.epsilon=0.0"),
  ],
)
def test_a_wrong_field_is_named(fields: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    plan.check(tiny(**fields))


@pytest.mark.parametrize(
  ("field", "value"),
  [("dp.on", True), ("defense.name", "pgd"), ("pad", 2), ("ema", 0.9)],
)
def test_settings_that_shadow_models_do_not_have_are_refused(
  field: str, value: Any
) -> None:
  """Or a row would show, say, an epsilon that nothing was trained with."""
  config = tiny()
  config.train.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError, match=f"train.{field.split('.')[0]} is not"):
    plan.check(config)


def test_other_configs_and_data_are_refused(tmp_path: pathlib.Path) -> None:
  config = configs.base()
  with pytest.raises(ValueError, match="the config has no privacy"):
    run(config, tmp_path / "a")
  with pytest.raises(ValueError, match="pool=1000000: there are 1437 training"):
    run(tiny(pool=10**6), tmp_path / "b")
  config = tiny()
  config.train.optimizer = "adamw"
  with pytest.raises(ValueError, match="adam or sgd"):
    plan.check(config)


def test_the_key_is_an_argument_of_what_is_compiled() -> None:
  """A constant of a program may be written to JAX's cache."""
  net = models.under_key(
    keyjax.pixel_shuffle("shf", 4), lambda params, x: x * params["params"]["w"]
  )
  image = np.zeros((1, 8, 8, 1), np.float32)
  scheme = keyjax.pixel_shuffle("shf", 4)
  key = scheme.keygen(SECRET, {}, {"image": image})
  traced = jax.make_jaxpr(net)(
    {"params": {"w": np.float32(1)}, **models.key_collection(key)}, image
  )
  words = [x for x in jax.tree.leaves(key) if np.size(x) > 1]
  assert words
  for const in traced.consts:
    for word in words:
      assert np.shape(const) != np.shape(word) or np.any(const != word)


def test_other_data_trains_other_models(done: Any, tmp_path: Any) -> None:
  """Or models would be judged on members that are not theirs."""
  config, folder = tiny(), done[1]
  name = plan.models_name(config, "none/none")
  assert (folder / "none_none" / f"{name}.safetensors").exists()
  for fields in ({"pool": 121}, {"noise": 0.2}, {"models": 11}, {"delta": 0.1}):
    assert plan.models_name(tiny(**fields), "none/none") != name
  assert plan.models_name(tiny(wrong_keys=2), "none/none") == name


def test_rows_from_before_there_were_audits_keep_their_names() -> None:
  config, parts = tiny(), ("plain", "gap", "")
  name = plan.row_name(config, "none/none", parts)
  assert plan.row_name(tiny(delta=0.1), "none/none", parts) != name
  with config.unlocked():
    del config.privacy.delta
  assert plan.row_name(config, "none/none", parts) == name


def test_attacks_have_titles_of_their_own() -> None:
  assert len({a.title for a in ATTACKS.values()}) == len(ATTACKS)
