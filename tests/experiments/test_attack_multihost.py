"""Two real processes divide the games of the attack command between them."""

import json
import pathlib
from typing import Any

import pytest

from keyjax import Secret, keyring
from tests import flags, ports
from tests.experiments import command

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

CONFIG = """
from experiments.run.config import attack, base, scheme
from experiments.run.config import set_attacks, set_schemes

def get_config():
  config = base()
  config.name = "two"
  config.model = "mlp"
  config.model_args.hidden = (16,)
  config.num_train, config.num_test = 256, 64
  config.train.update(batch_size=64, epochs=2.0, pad=1)
  hpnn = scheme("hpnn", "HPNN", units=16)
  deep = scheme("deep_lock", "Deep-Lock")
  set_schemes(config, deep=deep, hpnn=hpnn)
  few = dict(fraction=0.5, steps=20, points=2)
  set_attacks(
    config,
    price=attack("search_cost", "trying every key"),
    tune=attack("fine_tune", grid=({"learning_rate": 1e-2},), **few),
    scratch=attack("scratch", grid=({"learning_rate": 1e-2},), **few),
    known=attack("known_plaintext", known_weights=4, trials=3),
    base=attack("base_model", has_base=True),
  )
  return config
"""
SECRET = keyring.format_key(Secret(b"\x5a" * 32))


def start(folder: pathlib.Path, *args: str, count: int) -> command.Started:
  return command.Started(
    "attack",
    f"--config={folder.parent / 'config.py'}",
    f"--workdir={folder}",
    "--secret=env:TWO_SECRET",
    *args,
    TWO_SECRET=SECRET,
    XLA_FLAGS=flags.with_devices(count),
  )


def run_two(folder: pathlib.Path, *args: str) -> list[command.Ended]:
  at = f"--coordinator=127.0.0.1:{ports.free_port()}"
  started = [
    start(folder, at, "--num_processes=2", f"--process_id={i}", *args, count=2)
    for i in range(2)
  ]
  try:
    return [x.wait(400) for x in started]
  finally:
    for x in started:
      x.kill()


def rows_of(folder: pathlib.Path) -> dict[str, Any]:
  lines = (folder / "rows.jsonl").read_text().splitlines()
  rows = [json.loads(x) for x in lines]
  found = {f"{r['scheme']}/{r['attack_title']}": r for r in rows}
  assert len(found) == len(rows)
  return found


def test_two_processes_play_what_one_plays(tmp_path: pathlib.Path) -> None:
  (tmp_path / "config.py").write_text(CONFIG)
  one = start(tmp_path / "one", count=4).wait(400)
  assert one.code == 0, one
  ended = run_two(tmp_path / "two")
  assert [x.code for x in ended] == [0, 0], ended
  assert "Report:" in ended[0].stdout and "deep" not in ended[1].stdout
  rows, alone = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
  assert set(rows) == set(alone)
  for name, row in rows.items():
    if row["metric"] != "log10_years":  # A measured speed.
      assert row["value"] == pytest.approx(alone[name]["value"], abs=0.1), name
  assert rows["deep/known_plaintext"]["value"] == 1
  assert (tmp_path / "two" / "attacks.html").exists()
  left = {p.name for p in (tmp_path / "two").glob("rows*")}
  assert left == {"rows.jsonl"}

  # One process resumes what two began: what is there is not played again.
  again = start(tmp_path / "two", count=4).wait(400)
  assert again.code == 0 and "min left" not in again.stdout, again
  assert rows_of(tmp_path / "two") == rows

  # A process that fails stops the others. This is a line of no row.
  (tmp_path / "two" / "rows.1.jsonl").write_text("damaged\n")
  first, second = run_two(tmp_path / "two")
  assert first.code and "rows.1.jsonl: line 1 is damaged" in first.stderr
  assert second.code and "another process of this run failed" in second.stderr
