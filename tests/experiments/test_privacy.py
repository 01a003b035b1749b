"""The privacy command: conditions, resumption, and what it refuses."""

import json
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import privacy as job
from experiments.membership import models, plan
from experiments.membership.attacks import ATTACKS
from experiments.run import config as configs
from experiments.run.config import scheme, set_schemes

SECRET = keyjax.Secret(bytes([7]) * 32)
NAMES = ("gap", "lira_fixed", "rmia")
Rows = list[dict[str, Any]]


def tiny(**fields: Any) -> ConfigDict:
  config = configs.base()
  config.name = "tiny"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs = 30.0
  config.train.batch_size = 32
  config.train.learning_rate = 1e-2
  config.num_test = 200
  set_schemes(
    config,
    none=scheme("identity", "no lock"),
    counter=scheme("deep_lock", "Deep-Lock", schedule="counter"),
    hpnn=scheme("hpnn", "HPNN"),
  )
  chosen = {
    "pool": 120,
    "noise": 0.3,
    "models": 9,
    "targets": 1,
    "wrong_keys": 1,
    "attacks": NAMES,
    "replies": ("label",),
    "trainings": {"early": {"epochs": 2.0}},
  }
  plan.configure(config, **{**chosen, **fields})
  return config


def run(config: ConfigDict, folder: pathlib.Path) -> Rows:
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    return job.run(config, str(folder), secret=SECRET)


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
  stored = (folder / "none_none" / "models.safetensors").read_bytes()
  assert run(tiny(), folder) == rows
  assert file.read_bytes() == before
  more = run(tiny(attacks=(*NAMES, "loss")), folder)
  assert len(more) == len(rows) + 4 * 9
  assert (folder / "none_none" / "models.safetensors").read_bytes() == stored
  lines = file.read_bytes()
  assert lines.startswith(before)


def test_models_that_are_damaged_are_named(done: Any) -> None:
  rows, folder = done
  file = folder / "hpnn_none" / "models.safetensors"
  whole = file.read_bytes()
  file.write_bytes(whole[:-7])
  try:
    with pytest.raises(ValueError, match=r"models\.safetensors is damaged"):
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
    ({"trainings": {"x": {"dropout": 0.5}}}, "privacy.trainings.x: dropout"),
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


def test_attacks_have_titles_of_their_own() -> None:
  assert len({a.title for a in ATTACKS.values()}) == len(ATTACKS)
