"""Answers of shadow models: computed once under each key, and the same."""

import collections
import pathlib
from typing import Any

import pytest

from experiments.membership import measure
from tests.experiments.privacy_job import run, tiny


class _Forgets(dict[Any, Any]):
  def __setitem__(self, name: Any, value: Any) -> None:
    """Keep nothing."""


class _KeepsNoShadows(measure.Kept):
  def __init__(self) -> None:
    super().__init__()
    self.shadows = _Forgets()


def test_shadow_models_answer_once_under_each_key(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  config = tiny(targets=2, trainings={}, replies=(), attacks=("rmia",))
  asked: collections.Counter[str] = collections.Counter()
  answer = measure.logits_in

  def counted(
    condition: Any, apply_fn: Any, params: Any, *rest: Any, **k: Any
  ) -> Any:
    found = answer(condition, apply_fn, params, *rest, **k)
    if len(found) == config.privacy.models:
      asked[condition.name if condition else "plain"] += 1
    return found

  monkeypatch.setattr(measure, "logits_in", counted)
  rows = run(config, tmp_path)
  # Of pool and rest; each of two judged models has wrong keys of its own.
  assert asked == {"plain": 2, "right": 2, "wrong": 4, "no_key": 2}
  (tmp_path / "privacy.jsonl").unlink()
  monkeypatch.setattr(measure, "Kept", _KeepsNoShadows)
  again = run(config, tmp_path)
  assert asked["plain"] > 4  # Nothing was kept.
  both = [r for r in zip(rows, again, strict=True) if r[0]["attack"]]
  assert len(both) == 4 * 7
  for one, other in both:
    if one["condition"] != "wrong":  # Wrong keys are new each time.
      assert one["value"] == other["value"] and one["row"] == other["row"]
