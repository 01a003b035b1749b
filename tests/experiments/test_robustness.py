"""The robustness command: models x attacks, rows that stop and continue."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import robustness as command
from experiments.evasion import measure, plan, tasks
from experiments.evasion.plan import attack, configure
from experiments.run import config as configs
from experiments.run import results
from keyjax import card as cards


def make_config() -> ConfigDict:
  made = configs.base()
  made.name, made.model = "tiny", "mlp"
  made.num_test = 40
  made.model_args.hidden = (16,)
  made.train.epochs, made.train.batch_size = 4.0, 64
  made.train.learning_rate = 1e-2
  configs.set_schemes(
    made,
    none=configs.scheme("identity", "no lock"),
    deep=configs.scheme("deep_lock", "Deep-Lock", schedule="counter"),
    shf=configs.scheme("shf", "SHF, M=4", block_size=4),
  )
  configure(
    made,
    attacks={
      "noise": attack("noise", "random signs", epsilons=(0.3,)),
      "fgsm": attack("fgsm", "FGSM", epsilons=(0.1, 0.3)),
      "wrong": attack("fgsm", "FGSM", epsilons=(0.3,), holder="wrong"),
      "no_key": attack("fgsm", "FGSM", epsilons=(0.3,), holder="no_key"),
      "keys": attack(
        "fgsm", "FGSM", epsilons=(0.3,), holder="keys", models="shf/.*"
      ),
      "leaked": attack(
        "fgsm", "FGSM", epsilons=(0.3,), holder="leaked", models="shf/.*"
      ),
      "square": attack(
        "square", "Square", epsilons=(0.3,), holder="api", n_queries=20
      ),
      "deepfool": attack(
        "deepfool", epsilons=(0.5, 2.0), norm="l2", models="none/.*", steps=20
      ),
    },
    defenses={"fast": {"name": "fast", "epsilon": 0.1, "title": "fast"}},
    only=r".*/none|none/fast",
    images=40,
    batch=20,
    random_keys=2,
    audit="",
    matrix="(none|shf)/none",
  )
  return made


@pytest.fixture(scope="module")
def run(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[pathlib.Path, list[dict[str, Any]]]]:
  folder = tmp_path_factory.mktemp("robustness") / "run"
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    yield folder, command.run(make_config(), str(folder))


def find(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
  return results.find(rows, metric=measure.ACCURACY, **fields)


def test_every_attack_has_its_rows(run: Any) -> None:
  _, rows = run
  names = {r.get("model_name") for r in rows if r["metric"] == measure.ACCURACY}
  assert names == {"none/none", "deep/none", "shf/none", "none/fast"}
  for name in names:
    clean = find(rows, model_name=name, attack="clean")["value"]
    weak, strong = (
      find(rows, model_name=name, attack="fgsm", epsilon=e)["value"]
      for e in (0.1, 0.3)
    )
    assert strong < weak < clean
    noise = find(rows, model_name=name, attack="noise")["value"]
    assert noise > strong
  defended = find(rows, model_name="none/fast", attack="fgsm", epsilon=0.1)
  assert defended["defense"] == "fast" and defended["title"] == "no lock, fast"


def test_a_lock_of_weights_changes_nothing_for_its_key(run: Any) -> None:
  _, rows = run
  for label in ("clean", "fgsm", "square"):
    plain, locked = (
      find(rows, model_name=f"{scheme}/none", attack=label)["broken"]
      for scheme in ("none", "deep")
    )
    assert plain == locked


def test_attackers_without_the_key(run: Any) -> None:
  _, rows = run
  right = find(rows, model_name="shf/none", attack="fgsm", epsilon=0.3)
  for label in ("wrong", "no_key", "keys", "leaked"):
    row = find(rows, model_name="shf/none", attack=label)
    assert row["condition"] == label
    assert row["value"] >= right["value"]
  unlocked = find(rows, model_name="none/none", attack="wrong")
  assert unlocked["value"] is None and unlocked["note"]
  # Ciphertext as floats: NaN, of which no accuracy is claimed.
  stolen = find(rows, model_name="deep/none", attack="no_key")
  assert stolen["value"] is None and stolen["nonfinite"] == 40


def test_worst_case_is_at_most_each_attack(run: Any) -> None:
  _, rows = run
  worst = find(rows, model_name="shf/none", attack="worst", epsilon=0.3)
  members = [
    r
    for r in rows
    if r.get("model_name") == "shf/none"
    and r["metric"] == measure.ACCURACY
    and r["epsilon"] == 0.3
    and r["attack"] not in ("worst", "noise")
  ]
  assert worst["members"] == len(members) == 6
  # Rows that prove nothing are not robust.
  without = [r for r in rows if r.get("note")]
  assert without and measure.worst_cases(without) == []
  broken = np.any([measure.bits(r) for r in members], axis=0)
  assert worst["value"] == (~broken).mean()
  assert worst["value"] <= min(r["value"] for r in members)


def test_least_changes_have_a_distance(run: Any) -> None:
  _, rows = run
  near, far = (
    find(rows, model_name="none/none", attack="deepfool", epsilon=e)
    for e in (0.5, 2.0)
  )
  assert far["value"] < near["value"]
  assert 0 < near["median_distance"] <= 0.5
  assert near["median_distance"] < far["median_distance"]


@pytest.mark.slow
def test_autoattack_is_judged_on_what_is_served(
  tmp_path: pathlib.Path,
) -> None:
  config = make_config()
  configure(
    config,
    attacks={
      "auto": attack("autoattack", epsilons=(0.3,), n_queries=20, steps=5)
    },
    defenses={"discrete": {"name": "discrete"}},
    only="none/discrete",
    images=20,
    batch=20,
    audit="",
  )
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    rows = command.run(config, str(tmp_path / "run"))
  found = find(rows, attack="auto")
  assert found["value"] <= find(rows, attack="clean")["value"]
  assert found["model_name"] == "none/discrete"


def test_transfer_matrix(run: Any) -> None:
  _, rows = run
  errors = {
    (r["source_name"], r["model_name"]): r["value"]
    for r in rows
    if r["metric"] == tasks.TRANSFER
  }
  own = errors["none/none", "none/none"]
  assert own > errors["unchanged", "none/none"]
  assert own >= errors["shf/none", "none/none"]
  assert len(errors) == 8


def test_files(run: Any) -> None:
  folder, rows = run
  page = (folder / "robustness.html").read_text()
  assert "SHF, M=4" in page and "data:image/png" in page
  stored = cards.read_rows(folder / "robustness.json")
  assert len(stored) == len(rows)
  card = cards.make(stored, "shf")
  assert {x["attack"] for x in card["evasion"]} >= {"fgsm", "worst", "clean"}


def test_continues_where_it_stopped(run: Any, monkeypatch: Any) -> None:
  folder, rows = run
  file = folder / "robustness.jsonl"
  text = file.read_text()
  lines = text.splitlines(keepends=True)
  cut = [
    i for i, x in enumerate(lines) if json.loads(x).get("attack") == "square"
  ]
  name = json.loads(lines[cut[-1]])["model_name"]
  # The last measurement, and half a line of the one before it, are lost.
  file.write_text("".join(lines[: cut[-1]]) + lines[cut[-1]][:50])
  played: list[str] = []
  real = measure.attempts

  def spy(model: Any, spec: Any, *args: Any) -> Any:
    played.append(f"{model.name} {spec['attack']}")
    return real(model, spec, *args)

  monkeypatch.setattr(measure, "attempts", spy)
  monkeypatch.setattr(tasks.measure, "attempts", spy)
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    again = command.run(make_config(), str(folder))
  assert f"{name} square" in played and f"{name} fgsm" not in played
  values = [[r.get("row"), r["value"]] for r in rows]
  assert [[r.get("row"), r["value"]] for r in again] == values


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"attack": "fgms"}, "choose from noise, fgsm"),
    ({"holder": "thief"}, "holder='thief'.*choose from right"),
    ({"holder": "api"}, "needs gradients, which queries do not give"),
    ({"attack": "autoattack", "holder": "wrong"}, "nothing transfers"),
    ({"norm": "l7"}, "norm='l7': fgsm has linf, l2, l1"),
    ({"epsilons": (0.1, 0.0)}, "each more than 0"),
    ({"models": "x/.*"}, "matches none of none/none"),
    ({"models": "("}, "models='\\('"),
  ],
)
def test_wrong_attacks_are_refused(
  fields: dict[str, Any], message: str
) -> None:
  config = make_config()
  config.robustness.attacks["fgsm"].update(fields)
  with pytest.raises(ValueError, match=message):
    plan.check(config)


def test_wrong_fields_are_refused(tmp_path: pathlib.Path) -> None:
  config = make_config()
  with pytest.raises(ValueError, match="--models='x' matches no model"):
    command.run(config, str(tmp_path / "a"), only="x")
  config.robustness.images = 0
  with pytest.raises(ValueError, match="robustness.images=0: at least 1"):
    command.run(config, str(tmp_path / "a"))
  with pytest.raises(ValueError, match="the config has no robustness"):
    command.run(configs.base(), str(tmp_path / "a"))
  assert not (tmp_path / "a").exists()
