"""The privacy command: conditions, resumption, and what it refuses."""

import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import models as load_models
from experiments import privacy as job
from experiments.membership import dropout, models, plan, private
from experiments.membership import rows as member_rows
from experiments.membership.attacks import ATTACKS
from experiments.run import config as configs
from experiments.run import results
from experiments.run.config import scheme, set_schemes
from keyjax import card as cards
from keyjax.attacks.fit import Recipe, cross_entropy
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import shadows
from keyjax.cli import card_text
from keyjax.defenses.private.accountant import in_words

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


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, str]:
  """Models that memorise wrong labels, with noise and with none of it."""
  pytest.importorskip("jax_privacy", reason="keyjax[privacy] is not installed")
  folder = tmp_path_factory.mktemp("private") / "run"
  config = tiny(
    delta=1e-5,
    pool=240,
    noise=0.9,
    targets=1,
    replies=(),
    attacks=("loss",),
    trainings={
      name: {"epsilon": epsilon, "epochs": 60.0, **more}
      for name, epsilon, more in (
        ("one", 1.0, {}),
        ("four", 4.0, {}),
        ("fault", 1.0, {"forget_noise": True}),
      )
    },
  )
  config.model_args.hidden = (64,)
  with config.unlocked():
    del config.schemes.counter, config.schemes.hpnn
  return run(config, folder), (folder / "privacy.html").read_text()


@pytest.mark.slow  # Steps of four trainings are compiled.
def test_an_audit_finds_that_noise_is_forgotten(audited: Any) -> None:
  rows, _ = audited
  found = {r["training"]: r for r in rows if r["metric"] == "epsilon_bound"}
  assert set(found) == {"none", "one", "four", "fault"}
  for name in ("one", "four"):
    row = found[name]
    assert row["value"] <= row["privacy"]["epsilon"] <= row["privacy"]["steps"]
  assert found["fault"]["value"] > found["fault"]["privacy"]["epsilon"]
  assert found["fault"]["forgets_noise"] and "privacy" not in found["none"]
  assert found["one"]["privacy"]["examples"] > 120  # The most of any model.
  assert "train" not in found["one"]["privacy"]


@pytest.mark.slow
def test_an_epsilon_is_shown_with_what_it_assumes(audited: Any) -> None:
  rows, page = audited
  for r in rows:
    if "privacy" in r:
      assert in_words(r["privacy"]) in page
  assert len(re.findall("<svg", page)) == 1 + 3


def test_without_noise_and_with_all_members_a_private_step_is_a_plain_one() -> (
  None
):
  pytest.importorskip("jax_privacy", reason="keyjax[privacy] is not installed")
  rng = np.random.default_rng(0)
  images = rng.normal(size=(16, 4)).astype(np.float32)
  pool = Examples(images, rng.integers(3, size=16).astype(np.int32))
  members = np.arange(16) % 2 == np.arange(2)[:, None]  # bool[2, 16]
  recipe = Recipe("sgd", 0.1, batch_size=8)
  training = private.guarantee(
    members, recipe, 3, epsilon=8.0, delta=1e-5, clip=1e6
  )
  assert (training.training.examples, training.training.batch_size) == (8, 8)
  silent = training._replace(noise_multiplier=0.0)

  def train(found: Any) -> Any:
    how = found and private.procedure(apply, members, recipe, found, SECRET)
    return shadows.train(
      apply, init, pool, members, recipe, steps=3, each=0, procedure=how
    ).params["w"]

  def apply(params: Any, x: Any) -> Any:
    return x @ params["w"]

  def init(rng: Any) -> Any:
    return {"w": jax.random.normal(rng, (4, 3))}

  plain, without, noisy = map(train, (None, silent, training))
  np.testing.assert_allclose(without, plain, 1e-4, 1e-5)
  assert np.abs(noisy - plain).max() > 1
  np.testing.assert_array_equal(noisy, train(training))


def test_dropout_is_what_a_step_of_flax_does() -> None:
  model = load_models.create("mlp", 3, (0.0,), (1.0,), hidden=(8,))
  image = np.random.default_rng(0).random((6, 2, 2, 1), np.float32)
  label = (np.arange(6) % 3).astype(np.int32)
  recipe = Recipe("sgd", 0.1, batch_size=6)
  members = np.ones((1, 6), bool)

  def init(rng: Any) -> Any:
    return model.init(rng, image[:1])

  def train(rate: float) -> Any:
    how = dropout.procedure(model, rate, recipe, 6, seed=3)
    return shadows.train(
      model.apply,
      init,
      Examples(image, label),
      members,
      recipe,
      3,
      steps=1,
      each=0,
      procedure=how,
    ).params

  start = init(jax.random.fold_in(jax.random.key(3), 0))
  rng = jax.random.fold_in(jax.random.key(3), 0)  # Of model 0, and its step 0.
  rngs = {"dropout": jax.random.fold_in(rng, 0)}
  order = np.random.default_rng([3, 0]).permutation(6)

  def loss(params: Any, net: Any) -> Any:
    logits = net.apply(params, image[order], train=True, rngs=rngs)
    return cross_entropy(logits, jnp.asarray(label[order]))

  for rate in (0.0, 0.5):
    grads = jax.grad(loss)(start, model.clone(dropout=rate))
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, start, grads)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a[0], b, 1e-4, 1e-6),
      train(rate),
      moved,
    )
  none = jax.grad(loss)(start, model)
  half = jax.grad(loss)(start, model.clone(dropout=0.5))
  assert not np.allclose(
    none["params"]["head"]["kernel"], half["params"]["head"]["kernel"]
  )


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
