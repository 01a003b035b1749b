"""The leaderboard: what it counts, how it orders, and a scheme of one's own."""

import json
import pathlib
from typing import Any

import pytest

from experiments import leaderboard as command
from experiments.tables import headlines, leaderboard
from keyjax import identity
from keyjax.attacks import registry as attacks
from keyjax.attacks.game import Attacker
from keyjax.schemes import registry
from tests.conftest import ROOT
from tests.experiments.docstrings import load_config


def row(game: str, values: tuple[float, ...], **fields: Any) -> dict[str, Any]:
  attacker = vars(Attacker()) | fields.pop("attacker", {})
  made = {
    "config": "leaderboard",
    "dataset": "digits",
    "title": "my lock",
    "mechanism": "hpnn",
    "options": {},
    "attack_title": game,
    "game": game,
    "condition": "wrong",
    "metric": "function",
    "chance": 0.1,
    "attacker": attacker,
    "right": {"values": [0.9], "value": 0.9, "low": 0.9, "high": 0.9},
    "seeds": [0, 1, 2],
    "seconds": [1.0, 2.0, 3.0],
    "command": [f"python -m x --config.train.seed=0 --workdir=a_0 {game}"],
    "commit": ["0123abc"],
    "hardware": ["a cpu"],
    "date": ["2026-01-02T03:04:05"],
  }
  low, value, high = sorted(values)
  return made | {"low": low, "value": value, "high": high} | fields


def written(folder: pathlib.Path, *rows: dict[str, Any]) -> list[list[str]]:
  """Return the cells of the board of some rows."""
  (folder / leaderboard.FILE).write_text(json.dumps(rows))
  found = leaderboard.leaderboard(folder)
  table = [x for x in found if x.startswith("| ")]
  return [x.strip("| ").split(" | ") for x in table[2:]]


def test_without_rows_there_is_no_board(tmp_path: pathlib.Path) -> None:
  assert leaderboard.leaderboard(tmp_path) == []


def test_the_strongest_attack_is_shown_with_its_cost(
  tmp_path: pathlib.Path,
) -> None:
  images = {"images": 64}
  cells = written(
    tmp_path,
    row("hpnn_relax", (0.6, 0.7, 0.8), attacker=images),
    row("hpnn_statistics", (0.2, 0.3, 0.4)),
    row("extract", (0.88, 0.89, 0.9), condition="api", attacker={"queries": 9}),
    row("flip_sign", (1.0, 1.0, 1.0), metric="forge"),
  )[0]
  assert cells[:2] == ["my lock", "access control by degradation"]
  assert cells[3:7] == [
    "hpnn_relax",
    "64 labelled images",
    "70.0 (60.0 to 80.0) of 90.0",
    "1 to 3",
  ]
  assert cells[7] == "89.0 (88.0 to 90.0) of 90.0; 9 queries"
  lines = leaderboard.leaderboard(tmp_path)
  (origin,) = (x for x in lines if "`python -m x" in x and "relax" in x)
  assert origin.startswith("- `python -m x --workdir=DIR hpnn_relax`, with ")
  assert "seed=0, 1, 2: commits 0123abc; a cpu; 2026-01-02" in origin


def test_of_equal_attacks_the_one_that_needs_least_is_shown(
  tmp_path: pathlib.Path,
) -> None:
  whole = (1.0, 1.0, 1.0)
  queries = {"images": 32, "queries": 32}
  cells = written(
    tmp_path,
    row("hpnn_base", whole, metric="key", attacker={"has_base": True}),
    row("hpnn_relax_oracle", (0.2, 1.0, 1.0), metric="key"),
    row("hpnn_algebraic", whole, metric="key", attacker=queries),
    row("hpnn_greedy", whole, metric="key"),
  )[0]
  assert cells[3:6] == ["hpnn_greedy", "the file alone", "the whole key"]


def test_fine_tuning_counts_by_its_gain_alone(tmp_path: pathlib.Path) -> None:
  images = {"images": 64}
  tuned = row("fine_tune", (0.5, 0.6, 0.7), attacker=images)
  scratch = row("scratch", (0.3, 0.4, 0.5), attacker=images)
  scratch |= {"mechanism": "identity", "title": "no lock"}
  first, second, *_ = written(tmp_path, tuned, scratch)
  assert first[0] == "no lock"
  assert second[3] == "no gain over training from scratch (1 run)"
  tuned["low"] = 0.51
  assert written(tmp_path, tuned, scratch)[1][3] == "fine_tune"
  scratch["attacker"]["images"] = 63
  assert written(tmp_path, tuned, scratch)[1][3].startswith("no gain")


def test_an_attack_that_is_no_better_than_scratch_is_none(
  tmp_path: pathlib.Path,
) -> None:
  images = {"images": 64}
  own = row("hpnn_retrain", (0.5, 0.6, 0.7), attacker=images)
  scratch = row("scratch", (0.4, 0.5, 0.6), attacker=images)
  scratch |= {"mechanism": "identity", "title": "no lock"}
  plain, lock, *_ = written(tmp_path, own, scratch)
  assert plain[3:6] == [
    "training from scratch, the control",
    "64 labelled images",
    "50.0 (40.0 to 60.0) of 90.0",
  ]
  assert lock[3] == "no gain over training from scratch (1 run)"
  own["low"] = 0.61
  assert written(tmp_path, own, scratch)[1][3] == "hpnn_retrain"
  own["low"] = 0.5
  # With no such baseline, the attack counts as it is.
  assert written(tmp_path, own)[0][3] == "hpnn_retrain"
  # A key is no trained network.
  keys = own | {"metric": "key"}
  assert written(tmp_path, keys, scratch)[1][3] == "hpnn_retrain"


def test_of_attacks_that_get_nothing_many_games_are_shown(
  tmp_path: pathlib.Path,
) -> None:
  none = 0.0, 0.0, 0.0
  games = row(
    "known_plaintext", none, metric="key", attacker={"known_weights": 4}
  )
  games |= {"games": {"won": 0, "of": 3000}}
  cells = written(tmp_path, row("constant_leaves", none, metric="key"), games)
  assert cells[0][5] == "the key in 0 of 3,000 games"


def test_locks_of_which_most_is_left_are_first(tmp_path: pathlib.Path) -> None:
  strong = row("known_plaintext", (0.0, 0.0, 0.0), metric="key", title="strong")
  strong |= {"mechanism": "deep_lock", "options": {"schedule": "counter"}}
  strong["games"] = {"won": 0, "of": 9, "low": 0.0, "high": 0.3}
  weak = row("hpnn_relax", (0.8, 0.8, 0.8), title="weak")
  names = [x[0] for x in written(tmp_path, weak, strong)]
  assert names[:2] == ["strong", "weak"]
  assert "permutation lock" in names[2:]
  cells = written(tmp_path, weak, strong)
  assert cells[0][2] == "128" and cells[0][5] == "the key in 0 of 9 games"
  assert cells[-1][3] == "none run"


def test_every_registered_scheme_is_on_the_board_and_in_the_config() -> None:
  page = (ROOT / "docs/leaderboard.md").read_text()
  config = load_config("leaderboard.py")
  assert {x.scheme for x in config.schemes.values()} == set(registry.names())
  rows = headlines.read(ROOT / "results/attacks.json")
  rows += headlines.read(ROOT / "results" / leaderboard.FILE)
  titles = {x["title"] for x in rows if x["condition"] != "right"}
  played = {x["mechanism"] for x in rows}
  titles |= {x.replace("_", " ") for x in set(registry.names()) - played}
  shown = {x.split(" | ")[0].strip("| ") for x in page.splitlines()}
  same = leaderboard._locks(rows)
  assert {x.title for x in same} <= shown and {x.title for x in same} <= titles


def test_a_new_scheme_and_a_new_attack_are_in_the_config() -> None:
  registry.register("mine", identity)
  try:
    with attacks.temporary():
      needs = Attacker(queries=1)
      attacks.register("guess", "key", ("mine",), needs)(
        lambda view, budget: ()
      )
      config = load_config("leaderboard.py")
  finally:
    registry.unregister("mine")
  assert config.schemes.mine.title == "mine"
  assert dict(config.attacks.guess.attacker) == {"images": 64, "queries": 64}
  assert "transfer_stolen" not in config.attacks


def test_rows_of_one_scheme_replace_its_own(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  file = tmp_path / leaderboard.FILE
  old = [row("hpnn_relax", (0.1, 0.1, 0.1), scheme=x) for x in ("shf", "hpnn")]
  file.write_text(json.dumps(old))
  monkeypatch.setattr(command, "_FILE", file)
  found = row("hpnn_relax", (0.5, 0.5, 0.5), scheme="hpnn", attack="relax")
  found |= {"cost": {"queries": 0, "seconds": 2.0}, "details": {}, "right": 0.9}
  found |= {"jax": "1", "budget": {}, "row": "a"}
  found |= {k: found[k][0] for k in ("command", "commit", "hardware", "date")}
  price = {"scheme": "hpnn", "key_bits": 150.0, "row": "b"}
  lines = "".join(json.dumps(x) + "\n" for x in (found, price))
  run = {"config": dict(dataset="digits", model="cnn", model_args={})}
  run["config"]["train"] = {"epochs": 1.0}
  folders = [tmp_path / str(seed) for seed in range(3)]
  for folder in folders:
    folder.mkdir()
    (folder / "rows.jsonl").write_text(lines)
    (folder / "run.json").write_text(json.dumps(run))
  monkeypatch.setattr(command.playing, "play", lambda *given: folders)
  command.measure("hpnn", 3, tmp_path)
  first, second = json.loads(file.read_text())
  assert [first["scheme"], second["scheme"]] == ["hpnn", "shf"]
  assert first["value"] == 0.5 and first["key_bits"] == [150.0] * 3
  assert first["seconds"] == [2.0] * 3 and second["value"] == 0.1


@pytest.mark.parametrize("field", ["attacker", "low", "mechanism"])
def test_rows_of_an_older_release_are_refused(tmp_path, field) -> None:
  made = row("fine_tune", (0.7, 0.8, 0.9))
  made = {k: v for k, v in made.items() if k != field}
  (tmp_path / leaderboard.FILE).write_text(json.dumps([made]))
  for function in leaderboard.leaderboard, leaderboard.measured:
    with pytest.raises(ValueError, match=f"leaderboard.json: .*'{field}'"):
      function(tmp_path)


@pytest.mark.parametrize("text", ["", '[{"config"', "{}", "[null]"])
def test_a_damaged_file_is_named(tmp_path, text) -> None:
  (tmp_path / leaderboard.FILE).write_text(text)
  with pytest.raises(
    ValueError, match=r"leaderboard.json is (damaged|no list)"
  ):
    leaderboard.measured(tmp_path)
