"""The attack command: a toy scheme has its row with no other change."""

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import attack as command
from experiments.attacking import plan
from experiments.run import config as configs
from experiments.run import results
from keyjax import card as cards
from keyjax import tree
from keyjax.attacks import registry, verdict
from keyjax.attacks.game import Attacker, Budget, Claim, Goal
from keyjax.attacks.views import View
from keyjax.schemes import registry as schemes


def toy() -> keyjax.Scheme:
  """Return a toy scheme: a key bit decides whether all weights are negated."""

  def keygen(secret: keyjax.Secret, params: Any, batch: Any) -> jax.Array:
    return jnp.asarray(secret.derive("toy", 1)[0] | 1, jnp.uint32)

  def flip(key: jax.Array, params: Any) -> Any:
    def one(x: Any) -> Any:
      words = tree.as_words(x) ^ (key << 31)
      return tree.from_words(words, x.dtype) if tree.lockable(x) else x

    return jax.tree.map(one, params)

  return keyjax.Scheme(keygen, flip, flip)


@pytest.fixture
def config() -> Iterator[ConfigDict]:
  schemes.register("toy", toy)
  made = configs.base()
  made.name, made.model = "tiny", "mlp"
  made.model_args.hidden = (16,)
  made.train.epochs, made.train.batch_size = 4.0, 64
  made.train.learning_rate = 1e-2
  configs.set_schemes(
    made,
    none=configs.scheme("identity", "no lock"),
    toy=configs.scheme("toy", "a toy"),
    deep=configs.scheme("deep_lock", "Deep-Lock"),
  )
  few = {"fraction": 0.1, "steps": 20, "points": 3}
  grid = ({"learning_rate": 1e-2},)
  configs.set_attacks(
    made,
    tune=configs.attack("fine_tune", "fine-tuning", grid=grid, **few),
    scratch=configs.attack("scratch", schemes="none", grid=grid, **few),
    toy=configs.attack("toy_break", "the toy's break"),
    known=configs.attack("known_plaintext", known_weights=4, trials=3),
    noise=configs.attack("three_words", trials=4),
    base=configs.attack("base_model", has_base=True),
    licence=configs.attack("fine_tune_keyed", has_key=True, grid=grid, **few),
    norms=configs.attack("batch_norm_tune", schemes="toy", grid=grid, **few),
    pair=configs.attack("schedule_difference", licensees=1),
    owner=configs.attack(
      "transfer_with_key",
      schemes="deep",
      steps=5,
      victims=50,
      has_key=True,
      grid=({"epsilon": 0.3},),
    ),
  )
  with (
    registry.temporary(),
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):

    @registry.register("toy_break", Goal.KEY, ("toy",), Attacker())
    def toy_break(view: View, budget: Budget) -> Iterator[Claim]:
      yield Claim(jnp.uint32(1))

    yield made
  schemes.unregister("toy")


def find(
  rows: list[dict[str, Any]], scheme: str, attack: str
) -> dict[str, Any]:
  return next(r for r in rows if (r["scheme"], r["attack"]) == (scheme, attack))


def test_rows_resumption_and_report(
  config: ConfigDict,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  folder = tmp_path / "run"
  rows = command.run(config, str(folder))
  printed = capsys.readouterr().out
  assert "toy does not apply to: none, deep\n" in printed
  assert "tune does not apply" not in printed
  pairs = {(r["scheme"], r["attack"]) for r in rows}
  # The attacks on any scheme and the toy's own run on it; those on Deep-Lock
  # do not.
  assert {("toy", "tune"), ("toy", "toy")} <= pairs
  assert not {("toy", "known"), ("none", "toy"), ("toy", "scratch")} & pairs
  assert find(rows, "toy", "toy")["metric"] == "key"
  won = find(rows, "deep", "known")
  assert won["value"] == 1 and won["interval"].startswith("Clopper-Pearson")
  assert won["details"]["games"] == 3
  assert find(rows, "deep", "noise")["value"] == 1
  assert find(rows, "deep", "base")["value"] == 1
  assert find(rows, "deep", "pair")["value"] == 1
  owner = find(rows, "deep", "owner")
  assert (owner["metric"], owner["condition"]) == ("transfer", "right")
  assert owner["value"] > 0.5 and owner["interval"].startswith("Clopper")
  for row in (r for r in rows if r["value"] is not None):
    for field in ("command", "commit", "hardware", "date", "dataset"):
      assert row[field], field
    assert row["low"] <= row["value"] <= row["high"]
  assert find(rows, "toy", "tune")["right"] > 0.5
  conditions = {s: find(rows, s, "tune")["condition"] for s in ("toy", "none")}
  assert conditions == {"toy": "wrong", "none": "plain"}
  assert find(rows, "toy", "licence")["condition"] == "right"
  assert find(rows, "toy", "licence")["value"] > 0.5
  norms = find(rows, "toy", "norms")
  assert norms["value"] is None and "no batch norm" in norms["note"]
  assert "right" not in won
  tuned = verdict.gain(find(rows, "none", "tune"), rows)
  assert tuned is not None and tuned.low < tuned.value < tuned.high
  page = (folder / "attacks.html").read_text()
  assert "a toy" in page and "the toy&#x27;s break" in page
  assert "What the stolen weights were worth" in page

  # What was written makes cards; the class of a toy is not known.
  written = cards.read_rows(folder / "rows.jsonl")
  for label, known in {"toy": "unclassified", "deep": "obfuscation"}.items():
    card = cards.make(written, label)
    assert card["scheme"]["parts"][0]["class"] == known
    assert cards.parse_card(cards.format_card(card)) == card
  goals = {a["attack"]: a["goal"] for a in card["attacks"]}
  assert goals["owner"] == "transfer"

  # A second run plays only missing rows, repairs a truncated line, and gathers
  # what another process has left.
  file = folder / "rows.jsonl"
  lines = file.read_text().splitlines(keepends=True)
  assert len(lines) == len(rows)
  file.write_text("".join(lines[2:-1]) + lines[-1][:20])
  (folder / "rows.1.jsonl").write_text("".join(lines[:3]) + lines[-1][:20])
  configs.set_attacks(config, sign=configs.attack("flip_sign"))
  again = command.run(config, str(folder))
  kept = [r for r in again if r["attack"] != "sign"][:-1]
  assert [r["date"] for r in kept] == [r["date"] for r in rows[:-1]]
  assert find(again, "deep", "sign")["value"] == 1
  names = [json.loads(x)["row"] for x in file.read_text().splitlines()]
  assert len(set(names)) == len(names) == len(rows) + 1
  assert not (folder / "rows.1.jsonl").exists()
  text = file.read_text()
  assert "secret" not in text


def test_a_rows_name_depends_on_what_it_measures(config: ConfigDict) -> None:
  name = plan.row_name(config, "deep", "known")
  assert plan.row_name(config, "toy", "tune") != name
  config.attacks.tune.steps = 21
  config.name = "other"
  config.train.prefetch = 0  # It changes the speed only.
  assert plan.row_name(config, "deep", "known") == name
  config.attacks.known.trials = 4
  assert plan.row_name(config, "deep", "known") != name


def test_an_unknown_attack(config: ConfigDict, tmp_path: pathlib.Path) -> None:
  configs.set_attacks(config, bad=configs.attack("guess_well"))
  with pytest.raises(ValueError, match="unknown attack 'guess_well'; known"):
    command.run(config, str(tmp_path / "run"))


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (
      {"victms": 3},
      "attacks.bad: an attacker has no field victms; known: knows_",
    ),
    ({"steps": -1}, "attacks.bad.steps=-1: must be at least 0"),
    ({"points": 0}, "attacks.bad.points=0: must be at least 1"),
    ({"trials": -2}, "attacks.bad.trials=-2: must be at least 0"),
    ({"fraction": 1.5}, "attacks.bad.fraction=1.5: must be from 0 to 1"),
    ({"schemes": "("}, r"attacks.bad.schemes='\(': missing \)"),
  ],
)
def test_mistakes_in_an_attack_claim_no_folder(
  config: ConfigDict,
  changed: dict[str, Any],
  message: str,
  tmp_path: pathlib.Path,
) -> None:
  configs.set_attacks(config, bad=configs.attack("fine_tune", **changed))
  with pytest.raises(ValueError, match=message):
    command.run(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_attacks_that_apply_to_no_scheme(
  config: ConfigDict, tmp_path: pathlib.Path
) -> None:
  for spec in config.attacks.values():
    spec.schemes = "nothing"
  with pytest.raises(
    ValueError, match="no attack of the config applies to one of its"
  ):
    command.run(config, str(tmp_path / "run"))


@pytest.mark.parametrize("damage", [b"{bad\n", b"[1]\n", b"{}\n", b"\xff\n"])
def test_a_damaged_row_is_named_and_nothing_is_lost(
  damage: bytes, tmp_path: pathlib.Path
) -> None:
  file = tmp_path / "rows.jsonl"
  results.append_rows(file, [{"row": "a"}, {"row": "b"}])
  results.append_rows(file, [{"row": "c"}])
  whole = file.read_bytes()
  file.write_bytes(whole + damage + b'{"row": "d"')
  with pytest.raises(ValueError, match=r"rows\.jsonl: line 4 is damaged"):
    results.read_rows(file)
  assert file.read_bytes() == whole + damage + b'{"row": "d"'
  file.write_bytes(whole + damage[:-1])
  assert [*results.read_rows(file)] == ["a", "b", "c"]
  assert file.read_bytes() == whole


def test_several_rows_are_written_or_none(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  file = tmp_path / "rows.jsonl"
  results.append_rows(file, [{"row": "a"}])

  def killed(*_: Any) -> None:
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", killed)
  with pytest.raises(KeyboardInterrupt):
    results.append_rows(file, [{"row": "b"}, {"row": "c"}])
  assert [*results.read_rows(file)] == ["a"]


def test_a_row_without_a_base_model() -> None:
  row = {"value": None, "note": "there is no base model", "metric": "key"}
  assert command.summary(row) == "there is no base model"
  assert verdict.progress(row | {"value": None}) == 0
  assert verdict.progress({"metric": "distinguish", "value": 0.75}) == 0.5
  done = {"metric": "function", "value": 0.1, "classes": 10, "right": 0.9}
  assert verdict.progress(done) == 0
  assert verdict.progress(done | {"value": 0.5}) == pytest.approx(0.5)
  assert verdict.progress(done | {"value": 0.5, "right": 0.1}) == 0
  assert verdict.progress({"metric": "transfer", "value": 0.3}) == 0.3
