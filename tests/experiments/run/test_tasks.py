"""Measuring one task after another."""

import json
import pathlib

from experiments.run import tasks


def test_what_is_measured_is_kept_and_not_measured_again(
  tmp_path: pathlib.Path,
) -> None:
  said: list[str] = []
  begun: list[str] = []

  def task(name: str) -> tasks.Task:
    def measure() -> list[tasks.Row]:
      begun.append(name)
      return [{"value": 1}, {"value": 2}]

    return tasks.Task(name, f"the {name}", measure)

  def run(*names: str) -> list[tasks.Row]:
    todo = [task(name) for name in names]
    file = tmp_path / "rows.jsonl"
    return tasks.measured(todo, file, {"commit": "c"}, said.append, summary)

  def summary(rows: list[tasks.Row]) -> list[str]:
    return [f"sum {sum(r['value'] for r in rows)}"]

  assert len(run("a")) == 2
  rows = run("a", "b")
  assert begun == ["a", "b"]
  assert [r["value"] for r in rows] == [1, 2, 1, 2]
  assert all(r["commit"] == "c" and r["seconds"] >= 0 for r in rows)
  assert said[-3:] == ["the b ...", "  sum 3", "  1 of 1, about 0 min left"]
  lines = (tmp_path / "rows.jsonl").read_text().splitlines()
  assert [json.loads(x)["row"] for x in lines] == ["a/0", "a/1", "b/0", "b/1"]
