"""What users of Orbax's CheckpointManager expect of a Manager."""

import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint.checkpoint_managers import (
  preservation_policy,
  save_decision_policy,
)

from keyjax import Secret, checkpoint, keyring
from keyjax.errors import ArgumentError

OWNER = keyring.SymmetricKey(Secret(b"M" * 32))
SEALED: Any = {"recipients": OWNER, "identities": OWNER}
PLAIN: Any = {}
BOTH = pytest.mark.parametrize("people", [PLAIN, SEALED], ids=["plain", "seal"])


def state(value: float) -> dict[str, Any]:
  return {"w": np.full(3, value, np.float32)}


def loss(metrics: dict[str, float]) -> float:
  return metrics["loss"]


def steps_on_disk(folder: pathlib.Path) -> list[int]:
  return sorted(int(x.name) for x in folder.iterdir() if x.is_dir())


# ---------------------------------------------------------------- intervals


@BOTH
def test_saves_at_an_interval(people: Any, tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(
    tmp_path, 9, save_interval_steps=3, **people
  ) as manager:
    done = [step for step in range(1, 8) if manager.save(step, state(step))]
    assert done == [1, 3, 6] == manager.all_steps()
    assert not manager.should_save(8) and manager.should_save(9)
    assert manager.save(np.int64(8), state(8), force=True)
    manager.wait_until_finished()
    assert steps_on_disk(tmp_path) == [1, 3, 6, 8]
    assert manager.restore(step=np.int32(3))["w"][0] == 3


def test_policies_of_orbax(tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(
    tmp_path,
    save_decision_policy=save_decision_policy.SpecificStepsPolicy({2, 5, 7}),
    preservation_policy=preservation_policy.BestN(get_metric_fn=loss, n=1),
  ) as manager:
    for step, value in enumerate([0, 3, 9, 1, 4, 9, 2]):
      manager.save(step + 1, state(step), metrics={"loss": value})
  assert steps_on_disk(tmp_path) == [5]


def test_a_policy_that_fails_removes_nothing(tmp_path: pathlib.Path) -> None:
  policy = preservation_policy.BestN(get_metric_fn=loss, n=1)
  with checkpoint.Manager(tmp_path, preservation_policy=policy) as manager:
    manager.save(1, state(1), metrics={"loss": 1})
    with pytest.warns(UserWarning, match="no step is removed: .*KeyError: 'lo"):
      assert manager.save(2, state(2), metrics={"lost": 1})
    manager.wait_until_finished()
    assert manager.all_steps() == steps_on_disk(tmp_path) == [1, 2]


# ------------------------------------------------------------------ the best


@BOTH
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_and_the_last_are_kept(
  people: Any, mode: str, tmp_path: pathlib.Path
) -> None:
  values = [5, 1, 9, 3, 4] if mode == "min" else [5, 9, 1, 7, 6]
  more = {"best_fn": loss, "best_mode": mode, "keep_best": 2, **people}
  with checkpoint.Manager(tmp_path, 1, **more) as manager:
    assert manager.best_step() is None
    for step, value in enumerate(values):
      manager.save(step, state(step), metrics={"loss": jnp.float32(value)})
      if step == 2:
        assert manager.best_step() == 1
  assert steps_on_disk(tmp_path) == [1, 3, 4]
  # A Manager that resumes knows the same.
  with checkpoint.Manager(tmp_path, 1, **more) as manager:
    assert manager.best_step() == 1
    assert manager.metadata(3).metrics == {"loss": float(values[3])}
    assert manager.restore(state(0), manager.best_step())["w"][0] == 1
    manager.save(9, state(9), metrics={"loss": values[1]})
    manager.wait_until_finished()
    assert manager.best_step() == 9  # Of two that are as good, the later one.
    assert manager.all_steps() == steps_on_disk(tmp_path) == [1, 9]


@BOTH
def test_metrics_that_decide_nothing_are_refused(
  people: Any, tmp_path: pathlib.Path
) -> None:
  bad: list[tuple[Any, str]] = [
    (None, "best_fn needs metrics="),
    ({}, "metrics=a dict: a dict of numbers by name"),
    ([1.0], "metrics=a list: a dict of numbers"),
    ({"loss": float("nan")}, "metric loss=nan: a finite number"),
    ({"loss": 1, "other": np.inf}, "metric other=inf: a finite number"),
    ({"loss": jnp.nan * jnp.ones(1)}, "metric loss=nan: a finite number"),
    ({"loss": jnp.ones(2)}, "metric loss=float32.2.: a finite number"),
    ({"loss": "low"}, "metric loss='low': a finite number"),
    ({"loss": 10**400}, "metric loss=a number of more than 64 bits: a finite"),
    ({"loss": True}, "metric loss=True: a finite number"),
    ({1: 1.0}, "name of a metric is 1 to 64 printable"),
    ({"a\n": 1.0}, "name of a metric is 1 to 64 printable"),
    ({"a" * 65: 1.0}, "name of a metric is 1 to 64 printable"),
    ({"lost": 1.0}, "best_fn needs the metric 'loss'; there is a dict of lost"),
  ]
  with checkpoint.Manager(tmp_path, best_fn=loss, **people) as manager:
    for metrics, message in bad:
      with pytest.raises(ArgumentError, match=message):
        manager.save(1, state(1), metrics=metrics)
    assert manager.latest_step() is manager.best_step() is None
  returned: list[Any] = [float("nan"), "high", None]
  for value in returned:
    with (
      checkpoint.Manager(
        tmp_path, best_fn=lambda _, value=value: value, **people
      ) as manager,
      pytest.raises(ArgumentError, match="best_fn returned .*: it has to be a"),
    ):
      manager.save(1, state(1), metrics={"loss": 1.0})
  assert steps_on_disk(tmp_path) == []


@BOTH
def test_steps_whose_metrics_are_unusable_are_kept_and_never_the_best(
  people: Any, tmp_path: pathlib.Path
) -> None:
  with checkpoint.Manager(tmp_path, 9, **people) as manager:
    manager.save(1, state(1))  # As before there were metrics.
    manager.save(2, state(2), metrics={"lost": 7.0})
    manager.save(3, state(3), metrics={"loss": 7.0})
    with pytest.raises(ArgumentError, match="give this Manager a best_fn"):
      manager.best_step()
  with pytest.warns(UserWarning, match="step 2 is left out of what is best"):
    manager = checkpoint.Manager(tmp_path, 1, best_fn=loss, **people)
  with manager:
    assert manager.best_step() == 3
    manager.save(4, state(4), metrics={"loss": 8.0})
    manager.save(5, state(5), metrics={"loss": 6.0})
  assert steps_on_disk(tmp_path) == [1, 2, 4, 5]


def test_nan_in_a_file_of_orbax_is_never_the_best(
  tmp_path: pathlib.Path,
) -> None:
  options = ocp.CheckpointManagerOptions(best_fn=loss)
  with ocp.CheckpointManager(tmp_path, options=options) as orbax:
    for step, value in ((1, 3.0), (2, float("nan"))):
      args = ocp.args.Composite(state=ocp.args.StandardSave(state(step)))
      orbax.save(step, args=args, metrics={"loss": value})
  with pytest.warns(UserWarning, match="step 2 is left out"):
    manager = checkpoint.Manager(tmp_path, best_fn=loss)
  with manager:
    assert manager.best_step() == 1
    assert manager.restore(state(0))["w"][0] == 2


# ------------------------------------------------------- steps that are there


@BOTH
def test_delete_and_reload(people: Any, tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(tmp_path, 9, **people) as manager:
    reader = checkpoint.Manager(tmp_path, 9, **people)
    for step in (1, 2, 3):
      manager.save(step, state(step))
    manager.delete(3)  # It waits for the save.
    manager.delete(np.int64(1))
    assert manager.all_steps() == steps_on_disk(tmp_path) == [2]
    with pytest.raises(FileNotFoundError, match="no step 3 in"):
      manager.delete(3)
    with pytest.raises(ValueError, match="step=-1: a whole number"):
      manager.delete(-1)
    assert reader.all_steps() == []
    reader.reload()
    assert reader.latest_step() == 2
    assert reader.restore(state(0))["w"][0] == 2
    with pytest.raises(checkpoint.CheckpointError, match="another Manager"):
      reader.delete(2)
    reader.close()
    assert manager.save(3, state(3))  # It is free again.
  with pytest.raises(ValueError, match="is closed"):
    manager.delete(2)
  assert steps_on_disk(tmp_path) == [2, 3]


@BOTH
def test_odd_steps(people: Any, tmp_path: pathlib.Path) -> None:
  with checkpoint.Manager(tmp_path, **people) as manager:
    assert manager.save(np.uint8(0), state(0))
    assert manager.save(5, state(5))
    for step in (5, 4, np.int64(0)):
      for force in (False, True):  # Orbax saves a step out of order then.
        with pytest.raises(ValueError, match="is not after step 5"):
          manager.save(step, state(1), force=force)
    odd: list[Any] = [-1, 1.5, True, None, "6", np.float32(6)]
    for step in odd:
      with pytest.raises(ValueError, match=r"step=.*: a whole number, 0 or"):
        manager.save(step, state(1))
      with pytest.raises(ValueError, match=r"step=.*: a whole number, 0 or"):
        manager.should_save(step)
    with pytest.raises(ArgumentError, match=r"give step=5 by its name"):
      manager.restore(5)
    with pytest.raises(ValueError, match=r"step=-1: a whole number"):
      manager.restore(step=-1)
    assert manager.all_steps() == [0, 5]


@BOTH
def test_a_save_that_fails_loses_no_step(
  people: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Orbax forgets at once what it would remove later, even the best."""

  def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")

  more = {"best_fn": loss, **people}
  with checkpoint.Manager(tmp_path, 1, **more) as manager:
    manager.save(1, state(1), metrics={"loss": 1})
    manager.wait_until_finished()
    with monkeypatch.context() as patch:
      patch.setattr(os, "rename", full)
      manager.save(2, state(2), metrics={"loss": 2})
      with pytest.raises(checkpoint.CheckpointError, match="No space left"):
        manager.wait_until_finished()
    assert manager.all_steps() == steps_on_disk(tmp_path) == [1]
    assert manager.best_step() == 1
    assert manager.save(2, state(2), metrics={"loss": 2})
  assert steps_on_disk(tmp_path) == [2]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
  "interval": ({"save_interval_steps": 0}, "save_interval_steps=0: a whole"),
  "function": ({"best_fn": "loss"}, "best_fn='loss': a function of the metr"),
  "mode": ({"best_fn": loss, "best_mode": "best"}, "best_mode='best'"),
  "best": ({"keep_best": 2}, "keep_best needs best_fn"),
  "none": ({"best_fn": loss, "keep_best": 0}, "keep_best=0: a whole number"),
  "two": (
    {
      "best_fn": loss,
      "keep_best": 1,
      "preservation_policy": preservation_policy.PreserveAll(),
    },
    "is not for a preservation_policy",
  ),
  "decisions": (
    {
      "save_interval_steps": 2,
      "save_decision_policy": save_decision_policy.InitialSavePolicy(),
    },
    "save_interval_steps or save_decision_policy, not both",
  ),
  "metadata": ({"metadata": "text"}, "metadata=a str: a dict"),
  "json": ({"metadata": {"a": OWNER}}, "metadata does not fit into JSON"),
  "keys": ({"metadata": {1: "a"}}, "a key of a dict is text, not of int"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_options(case: Any, tmp_path: pathlib.Path) -> None:
  options, message = case
  with pytest.raises(ValueError, match=message):
    checkpoint.Manager(tmp_path / "m", **options)
  assert not (tmp_path / "m").exists()
