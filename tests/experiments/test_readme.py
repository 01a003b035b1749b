"""Headline rows: what is out of date, rows over seeds, blocks of the docs."""

import json
import pathlib
from typing import Any

import pytest

from experiments.attacking import plan
from experiments.tables import (
  blocks,
  code,
  headlines,
  robustness,
  speed,
  survey,
)
from experiments.tables.headlines import Run
from keyjax.attacks.intervals import clopper_pearson
from tests import cards
from tests.conftest import ROOT
from tests.experiments.docstrings import load_config

SEEDS = (0, 1, 2)


def played(value: float, **details: Any) -> list[dict[str, Any]]:
  """Return the rows of one seed: an attack, and one that was not played."""
  made = cards.config()
  first = cards.attack(made, "counter", "tune", value)
  first["details"] |= details
  return [first, cards.attack(made, "counter", "base", None)]


def rows() -> list[dict[str, Any]]:
  found = [
    played(x, bits_right=b, bits=256)
    for x, b in zip((0.3, 0.8, 0.4), (190, 256, 199), strict=True)
  ]
  return headlines.over_runs(found, SEEDS, "digits, mlp")


def test_the_spread_over_seeds_is_shown() -> None:
  (row,) = rows()
  assert row["values"] == [0.3, 0.8, 0.4] and row["network"] == "digits, mlp"
  assert [row[k] for k in ("low", "value", "high")] == [0.3, 0.4, 0.8]
  assert blocks._gets(row) == "40.0 (30.0 to 80.0); 190 to 256 of 256 bits"


def test_results_name_no_folder_of_a_machine() -> None:
  found = played(0.5)
  found[0]["command"] = "python -m x --workdir=/disk/a/b_0 --only=hpnn/(a|b)"
  (row,) = headlines.over_runs([found], [0], "")
  assert row["command"] == ["python -m x --workdir=b_0 --only=hpnn/(a|b)"]
  for file in (ROOT / "results").glob("*.json"):
    assert "workdir=/" not in file.read_text(), file.name


def test_games_of_all_seeds_count_together() -> None:
  found = [played(1.0, won=9, games=9) for _ in SEEDS]
  (row,) = headlines.over_runs(found, SEEDS, "")
  low, high = clopper_pearson(27, 27)
  assert row["games"] == {"won": 27, "of": 27, "low": low, "high": high}
  assert blocks._gets(row) == "27 of 27 games [87.2, 100.0]"


def test_what_moved_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
  asked: list[str] = []

  def same_code(commit: str, paths: Any) -> bool:
    asked.extend(paths)
    return commit == "0123abc"

  monkeypatch.setattr(code, "same", same_code)
  run = Run("matrix", ".*")
  found = rows()
  assert headlines.moved(run, [], 3) == "never run"
  assert headlines.moved(run, found, 4) == "3 seeds only"
  assert headlines.moved(run, found, 3) == ""
  attack = "keyjax/attacks/any_scheme/fine_tune.py"
  used = {attack, "configs/matrix.py", "keyjax/schemes/registry.py"}
  assert used <= set(asked)
  unused = {"keyjax/attacks/any_scheme/extract.py"}
  unused |= {f"keyjax/schemes/{x}.py" for x in ("hpnn", "deep_lock")}
  assert not unused & set(asked)
  found[0]["commit"][1] = "89abcde"
  assert headlines.moved(run, found, 3) == "code moved since 89abcde"


@pytest.mark.parametrize("run", headlines.RUNS, ids=lambda run: run.name)
def test_every_run_has_its_config_and_pairs(run: Run) -> None:
  config = load_config(f"{run.name}.py")
  assert config.name == run.name
  if not run.is_table:
    assert plan.pairs(config, run.only)


def test_a_wrong_pair_is_refused() -> None:
  config = load_config("attack_hpnn.py")
  with pytest.raises(ValueError, match="matches no pair .* such as hpnn/"):
    plan.pairs(config, "hpnn/nope")
  with pytest.raises(ValueError, match="--only='\\('"):
    plan.pairs(config, "(")


def test_a_block_is_written_between_its_markers(tmp_path: pathlib.Path) -> None:
  text = "a\n<!-- begin {0}: x -->\nold\n<!-- end {0} -->\nb\n"
  made = blocks.fill(text.format("attacks"), tmp_path)
  assert made == text.format("attacks").replace("old\n", "\n")
  with pytest.raises(ValueError, match="unknown block 'mine'"):
    blocks.fill(text.format("mine"), tmp_path)


def test_what_a_new_key_costs_is_shown(tmp_path: pathlib.Path) -> None:
  found = [played(x) for x in (0.90, 0.95, 0.94)]
  for steps, (row, _) in zip((10, 20, 40), found, strict=True):
    last = row["curve"][0] | {"steps": steps, "value": row["value"]}
    first = last | {"steps": 0, "value": 0.1}
    more = {"cost": row["cost"] | {"seconds": 1.5}, "right": 0.944}
    row |= {"condition": "right", "curve": [first, last]} | more
  made = headlines.over_runs(found, SEEDS, "digits, mlp")
  assert blocks._regained(made[0]) == "20 to 40; 1 of 3 never"
  made[0]["right"]["values"] = [0.99, 0.99, 0.99]
  assert blocks._regained(made[0]) == "not after 10"
  (tmp_path / "attacks.json").write_text(json.dumps(made))
  lines = blocks.new_key(tmp_path)
  assert lines[2].split(" | ")[-3:-1] == ["1.5", "94.0 (90.0 to 95.0)"]
  assert not blocks.attacks(tmp_path)


def test_speed_is_that_of_the_files(tmp_path: pathlib.Path) -> None:
  assert speed.speed(tmp_path) == []
  measured = {
    "command": "python -m experiments.benchmark peers",
    "commit": "abc",
    "hardware": "cpu",
    "date": "2026-01-02T03:04:05",
    "value": 0.5,
    "low": 0.25,
    "high": 2.0,
  }
  of = "save 1 GiB in 200 leaves, KeyJAX / Orbax: "
  made = [measured | {"name": of + kind} for kind in ("time", "processor time")]
  memory = measured | {"name": "save 1 GiB, Orbax: memory above the start"}
  (tmp_path / "peers.json").write_text(json.dumps([*made, memory]))
  head, _, row, _, origin = speed.peers(tmp_path)
  assert row == "| Orbax | 0.50 [0.25, 2.00] | 0.50 [0.25, 2.00] |"
  assert head.count("save 1 GiB") == 2 and "memory" not in head
  assert "commit abc" in origin and "2026-01-02;" in origin
  short = speed.speed(tmp_path)
  assert short[2].endswith("| Orbax | 0.50 [0.25, 2.00] |") and len(short) == 5


def test_docs_quote_the_results_files() -> None:
  files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
  texts = [file.read_text() for file in files]
  for file, text in zip(files, texts, strict=True):
    assert blocks.fill(text, ROOT / "results") == text, (
      f"{file}: python -m experiments.readme --nomeasure writes it"
    )
  assert sum(text.count("<!-- begin ") for text in texts) == len(blocks._BLOCKS)


def test_robust_accuracies_are_those_of_the_files(
  tmp_path: pathlib.Path,
) -> None:
  assert robustness.robustness(tmp_path) == []
  base = {
    "metric": "robust accuracy",
    "model_name": "shf/none",
    "title": "SHF",
    "norm": "linf",
    "low": 0.1,
    "high": 0.9,
    "images": 40,
    "command": "python -m experiments.robustness",
    "commit": "abc",
    "hardware": "a cpu",
    "date": "2026-01-02",
  }
  found = [  # Attack, its title, attacker, epsilon, accuracy.
    ("worst", "worst case", "any", 0.1, 0.2),
    ("clean", "no attack", "right", 0.0, 1.0),
    ("pgd", "PGD", "keys", 0.1, 0.25),
    ("pgd", "PGD", "keys", 0.2, 0.0),
    ("square", "Square", "api", 0.1, 0.5),
    ("cw", "C&W", "no_key", 0.1, None),  # Proves nothing.
  ]
  names = ("attack", "attack_title", "condition", "epsilon", "value")
  rows = [base | dict(zip(names, x, strict=True)) for x in found]
  (tmp_path / "robustness_mnist.json").write_text(json.dumps(rows))
  lines = robustness.robustness(tmp_path)
  assert lines[0] == "**MNIST**, accuracy in %, linf 0.1:"
  assert lines[2] == (
    "| model | no attack | PGD, over random keys | Square, with queries "
    "| worst case |"
  )
  assert lines[4] == "| SHF | 100.0 | 25.0 | 50.0 | 20.0 (10.0 to 90.0) |"
  assert "40 images; commit abc; a cpu; 2026-01-02" in lines[-1]


def test_claims_are_those_of_the_files(tmp_path: pathlib.Path) -> None:
  assert survey.survey(tmp_path) == []
  base = {
    "metric": "study",
    "study": "iterative",
    "study_title": "Many steps",
    "sentence": "It breaks them.",
    "command": "python -m experiments.robustness",
    "commit": "abc",
    "hardware": "a cpu",
    "date": "2026-01-02",
  }
  share = base | {
    "title": "PGD",
    "interval": "Clopper-Pearson",
    "target": "3 %",
  }
  number = base | {"title": "sure", "interval": "", "target": ""}
  for name in ("digits", "mnist"):
    given = [
      what | {"value": value, "seed": seed, "dataset": name}
      for what, values in (
        (share, (0.25, 0.5, 0.75)),
        (number, (0.9999, 0.9998)),
      )
      for seed, value in enumerate(values)
    ]
    rows = survey.over_seeds(given)
    (tmp_path / f"survey_{name}.json").write_text(json.dumps(rows))
  lines = survey.survey(tmp_path)
  assert lines[0] == "**Many steps.** It breaks them."
  assert lines[2] == "| figure | digits | elsewhere | MNIST | elsewhere |"
  spread = "50.0 % (25.0 to 75.0)"
  sure = "0.99985 (0.99980 to 0.99990)"
  assert lines[4] == f"| PGD | {spread} | 3 % | {spread} | 3 % |"
  assert lines[5] == f"| sure | {sure} |  | {sure} |  |"
  assert "3 seeds; commit abc; a cpu; 2026-01-02" in lines[-1]
