"""Two seeds of one config become a table; anything else is refused."""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from experiments import models
from experiments.benchmarks import overhead
from experiments.protection import evaluate, judge
from experiments.run import results
from experiments.run.config import base, scheme, set_schemes, table_schemes
from experiments.run.workdir import Workdir
from experiments.tables import markdown, over_seeds, published, runs, steps
from keyjax import tasks
from keyjax.attacks.intervals import mean_interval
from tests.conftest import ROOT


def counts(seed: int, keys: int, images: int) -> evaluate.Judged:
  rng = np.random.default_rng([7, seed, keys])
  correct = rng.integers(0, images, keys)
  hits = np.arange(images) < correct[:, None]  # [keys, images]
  zeros = np.zeros(keys, np.int64)
  return evaluate.Judged(tasks.CLASSES, {"hits": hits}, zeros, images)


def scheme_rows(base: dict[str, Any], seed: int, changed: int) -> list[Any]:
  right = counts(seed, keys=1, images=40)
  no_key = counts(seed + 9, keys=1, images=40)
  wrong = counts(seed, keys=3, images=20)
  return [
    results.number(base, "parameters", 610),
    results.number(base, "changed_parameters", changed),
    results.number(base, "key_bytes", 16),
    results.number(base, "key_bits", 128.0 if changed else 44.25 + seed),
    results.number(base, "encrypt_seconds", 0.001 * (1 + seed)),
    results.number(base, "decrypt_seconds", 0.002),
    judge.metric_row(base, right, "right"),
    judge.metric_row(base, no_key, "no_key") | {"nonfinite_weights": 0},
    judge.mean_row(base, wrong, "wrong"),
    judge.drop(base, no_key, "no_key", 0.9),
    judge.drop(base, wrong, "wrong", 0.9),
    judge.mean_row(base, wrong, "near") | {"distance": 1},
  ]


def write(folder: pathlib.Path, seed: int) -> None:
  """Write the files of a finished run; `test_main` reads a real one."""
  config = base()
  config.name = "tiny"
  config.train.seed = seed
  set_schemes(
    config,
    float32=scheme("deep_lock", "Deep-Lock"),
    shf=scheme("shf", "SHF", block_size=4),
  )
  Workdir(config, str(folder))
  this = results.provenance() | {
    **{"config": "tiny", "dataset": "digits", "model": "mlp"},
    "command": f"python -m experiments.main --workdir={folder}",
  }
  named = this | {"scheme": "plain", "title": "plain"}
  rows = [judge.metric_row(named, counts(seed + 5, 1, 40), "plain")]
  for label, changed in (("float32", 610), ("shf", 0)):
    spec = this | results.names(label, config.schemes[label])
    rows += scheme_rows(spec, seed, changed)
    if changed:
      rows.append(results.number(spec, "outside_range", seed + 1))
      rows.append(results.number(spec, "times_range", 30 * seed))
  results.write_json(folder / "results.json", rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
  home = tmp_path_factory.mktemp("runs")
  for seed in (1, 0):
    write(home / f"tiny_{seed}", seed)
  return [str(home / "tiny_1"), str(home / "tiny_0")]


def rows_of(folder: str) -> list[dict[str, Any]]:
  return json.loads((pathlib.Path(folder) / "results.json").read_text())


def one(rows: list[dict[str, Any]], *names: str) -> dict[str, Any]:
  (found,) = (
    r for r in rows if (r["scheme"], r["metric"], r["condition"]) == names
  )
  return found


def test_rows_are_means_over_seeds(folders: list[str]) -> None:
  rows = over_seeds.rows(runs.read(folders))
  right = one(rows, "shf", "accuracy", "right")
  values = [
    one(rows_of(f), "shf", "accuracy", "right")["value"] for f in folders[::-1]
  ]
  assert right["seeds"] == [0, 1] and right["values"] == values
  assert right["value"] == pytest.approx(np.mean(values))
  assert right["sd"] == pytest.approx(np.std(values, ddof=1))
  assert values[0] != values[1]
  assert (right["low"], right["high"]) == mean_interval(np.array(values))
  wrong = one(rows, "shf", "accuracy", "wrong")
  largest = [
    one(rows_of(f), "shf", "accuracy", "wrong")["max"] for f in folders
  ]
  assert wrong["max"] == max(largest)
  assert wrong["max_mean"] == pytest.approx(np.mean(largest))
  assert (wrong["seen"], wrong["keys"]) == (2 * 3 * 20, 3)
  assert not [r for r in rows if r["condition"] == "near"]
  for row in rows:
    for name in ("command", "commit", "hardware", "date"):
      assert len(row[name]) == 2
    assert row["command"][0].endswith(" --workdir=tiny_0")


def test_the_interval_of_a_drop_may_be_below_zero() -> None:
  made = over_seeds.summary("drop", [-10.0, 20.0, 5.0])
  spread = 4.302653 * np.std([-10, 20, 5], ddof=1) / np.sqrt(3)
  assert made["low"] == pytest.approx(5 - spread, rel=1e-5)
  assert made["high"] == pytest.approx(5 + spread, rel=1e-5)
  same = over_seeds.summary("accuracy", [0.5, 0.5])
  assert (same["sd"], same["low"], same["interval"]) == (0, None, "")
  times = over_seeds.summary("encrypt_seconds", [1.0, 5.0, 2.0])
  assert (times["value"], times["low"], times["high"]) == (2, 1, 5)


def test_the_page_says_nan_in_words(folders: list[str]) -> None:
  rows = over_seeds.rows(runs.read(folders))
  head, rule, plain, deep_lock, shf = markdown.table(rows)
  assert len({line.count("|") for line in (head, rule, plain, shf)}) == 1
  assert plain.startswith("| plain | ") and " ± " in plain
  assert "none" in shf.split("|")[11]
  outside = "1 to 2 outside their layer's range, up to 30 times its largest"
  assert f"| obfuscation | 128 | all 610; {outside} |" in deep_lock
  assert "| broken by: four known float32 weights" in deep_lock
  assert "| access control by degradation | 44.2 to 45.2 |" in shf
  for row in rows:
    if row["metric"] == "accuracy" and row["condition"] in ("no_key", "wrong"):
      row["nonfinite"] = row["seen"] if row["scheme"] == "float32" else 1
  _, _, _, deep_lock, shf = markdown.table(rows)
  assert deep_lock.split("|")[3:6] == [" NaN on all ", " NaN on all ", " -; - "]
  assert "no key: NaN on 1.2 %; wrong keys: NaN on 0.83 %" in shf
  page = markdown.page(rows)
  assert "train.seed 0, 1" in page and "Wrong keys: 3 per seed" in page


def test_one_seed_has_no_interval(folders: list[str]) -> None:
  rows = over_seeds.rows(runs.read(folders[:1]))
  page = markdown.page(rows)
  assert "One seed: no deviation and no interval" in page and "±" not in page


def test_the_command_writes_both_files(
  folders: list[str], tmp_path: pathlib.Path
) -> None:
  command = [sys.executable, "-m", "experiments.table", *folders]
  command.append(f"--out={tmp_path}/results")
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  page = (tmp_path / "results" / "tiny.md").read_text()
  assert page in done.stdout
  rows = json.loads((tmp_path / "results" / "tiny.json").read_text())
  assert rows == over_seeds.rows(runs.read(folders))


# ------------------------------------------------------------------- errors


def changed(folder: str, to: pathlib.Path, **train: Any) -> str:
  shutil.copytree(folder, to)
  run = json.loads((to / "run.json").read_text())
  run["config"]["train"].update(train)
  (to / "run.json").write_text(json.dumps(run))
  return str(to)


def test_runs_of_two_configs(
  folders: list[str], tmp_path: pathlib.Path
) -> None:
  other = changed(folders[0], tmp_path / "other", seed=5, epochs=9.0)
  with pytest.raises(ValueError, match="not runs of one config.*train.epochs"):
    runs.read([*folders, other])
  same = changed(folders[0], tmp_path / "same")
  with pytest.raises(ValueError, match="have the same train.seed=1"):
    runs.read([*folders, same])


def test_folders_that_are_not_runs(
  folders: list[str], tmp_path: pathlib.Path
) -> None:
  with pytest.raises(ValueError, match="name the workdirs"):
    runs.read([])
  with pytest.raises(ValueError, match="has no run.json: name folders of fin"):
    runs.read([str(tmp_path)])
  cut = pathlib.Path(changed(folders[0], tmp_path / "cut"))
  (cut / "results.json").unlink()
  with pytest.raises(ValueError, match="has no results.json"):
    runs.read([str(cut)])
  for text in ("[]", "null", "[1]", '[{"condition": "right"}]', "[{"):
    (cut / "results.json").write_text(text)
    with pytest.raises(ValueError, match="is not the folder of a run"):
      runs.read([str(cut)])
  (cut / "run.json").write_text("[]")
  with pytest.raises(ValueError, match="is not the folder of a run"):
    runs.read([str(cut)])


# ------------------------------------------------------------------- papers


def row(mechanism: str, dataset: str, model: str, **options: Any) -> Any:
  names = {"mechanism": mechanism, "dataset": dataset, "model": model}
  return names | {"options": options}


def test_figures_of_papers_are_shown_where_scheme_and_data_match() -> None:
  said = published.report(row("shf", "cifar10", "cnn", block_size=4))
  assert "92.56" in said and "resnet18" in said
  said = published.report(row("ffx", "cifar10", "resnet18"))
  assert said.startswith("right key 92.30") and "resnet18" not in said
  assert published.report(row("", "cifar10", "resnet18")).startswith("95.45")
  assert "73.22 to 80.17" in published.report(row("hpnn", "cifar10", "cnn"))
  for other in (
    row("shf", "cifar10", "resnet18", block_size=2),
    row("shf", "mnist", "cnn", block_size=4),
    row("adv_params", "mnist", "cnn"),
    row("deep_lock", "cifar10", "cnn"),
  ):
    assert published.report(other) == ""


def timed(scheme: str, metric: str, value: float, spread: float) -> Any:
  ends = {"low": value - spread, "high": value + spread}
  names = {"config": "tiny", "scheme": scheme, "metric": metric}
  return results.provenance() | names | {"value": value} | ends


def test_the_cost_of_steps_is_a_column(
  folders: list[str], tmp_path: pathlib.Path
) -> None:
  file = tmp_path / "overhead.json"
  rows = [
    timed("float32", "training_step", 1.0, 0.0),
    timed("float32", "forward_pass", 1.1, 0.05),
    timed("shf", "training_step", 1.02, 0.01),
    {"name": "a row of another section", "value": 3.0},
  ]
  results.write_json(file, rows)
  found = steps.read([str(file)], "tiny")
  assert found == rows[:3]
  assert steps.times(str(file), "tiny") and not steps.times(str(file), "other")
  seeds = over_seeds.rows(runs.read(folders))
  _, _, plain, deep_lock, shf = markdown.table(seeds, found)
  assert deep_lock.split("|")[10] == " 1; 1.10 [1.05, 1.15]; - "
  assert shf.split("|")[10] == " 1.02 [1.01, 1.03]; -; - "
  assert plain.split("|")[10] == " - "
  page = markdown.page(seeds, found)
  assert "medians of the ratios to plain" in page
  assert "medians of the ratios" not in markdown.page(seeds)
  with pytest.raises(ValueError, match="times no step of other"):
    steps.read([str(file)], "other")
  file.write_text("[1]")
  with pytest.raises(ValueError, match="times no step of tiny"):
    steps.read([str(file)], "tiny")


@pytest.mark.slow
def test_a_scheme_is_timed_next_to_plain() -> None:
  with jax.numpy_dtype_promotion("standard"):
    net = overhead.net_of("tiny", "tiny", mlp(), (8, 8, 1), batch=16)
    batch = {"image": np.zeros((16, 8, 8, 1), np.uint8)}
    batch["label"] = np.zeros(16, np.int32)
    rows = overhead.time_training(net, batch, rounds=3)
    rows += overhead.time_inference(net, rounds=3)
  shown = {x: steps.cell([r for r in rows if "metric" in r], x) for x in SHOWN}
  assert shown["float32"].startswith("1; ") and "-" not in shown["float32"]
  assert shown["hpnn"].count("[") == 2 and shown["hpnn"].endswith("; -")
  assert all(r["value"] > 0 for r in rows)


SHOWN = tuple(table_schemes())


def mlp() -> Any:
  return models.create("mlp", 10, (0.5,), (0.25,), hidden=(4,))
