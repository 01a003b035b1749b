"""What a run says while it trains; only the first process writes.

metrics.jsonl   a JSON object a line: loss, accuracy, speed, memory
tensorboard/    the same, for `tensorboard --logdir=WORKDIR`
profile/        a trace of the steps in `config.train.profile`

Of a workdir in a bucket all of it grows in a local folder, which is copied at
every checkpoint and at the end.
"""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import rich.progress
import tensorboardX

from experiments.run import files
from keyjax import parallel


class Log:
  """Metrics as JSON lines and for TensorBoard, and a progress bar."""

  def __init__(
    self,
    folder: files.AnyPath,
    done: int,
    steps: int,
    title: str = "",
    unit: str = "images",
    every: int = 50,
    profile: tuple[int, int] = (0, 0),
  ):
    """Opens the log of a run.

    Args:
      folder: of the run; lines of steps after `done` are dropped.
      done: steps that the run resumes after.
      steps: how many there will be.
      title: what the progress bar says.
      unit: what `add` counts.
      every: how many steps a line is for.
      profile: first and last step to trace, from 1; (0, 0) for none.
    """
    self._mirror = files.Mirror(folder)
    self._path = self._mirror.folder / "metrics.jsonl"
    self._steps = steps
    self._unit, self._every = unit, every
    self._done, self._profile, self._tracing = done, profile, False
    self._start, self._count, self._last = time.monotonic(), 0, done
    self._writes = parallel.is_first()
    self._board: tensorboardX.SummaryWriter | None = None
    if self._writes:
      self._mirror.fetch(self._path.name)
      _forget(self._path, done)
    columns = (
      rich.progress.TextColumn("{task.description:<24}"),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn("{task.fields[text]}"),
    )
    self._bar = rich.progress.Progress(*columns, disable=not self._writes)
    self._task = self._bar.add_task(title, total=steps, completed=done, text="")

  def __enter__(self) -> "Log":
    self._bar.start()
    return self

  def __exit__(self, *_: Any) -> None:
    self._stop_trace()
    self._bar.stop()
    if self._board is not None:
      self._board.close()
    if self._writes:
      self._mirror.close()

  def flush(self) -> None:
    """Brings what is said so far to where it stays."""
    if not self._writes:
      return
    if self._board is not None:
      self._board.flush()
    self._mirror.flush()

  def begin(self, step: int) -> None:
    """Starts the trace before the first step that `profile` chooses."""
    if self._writes and step == self._profile[0]:
      jax.profiler.start_trace(str(self._path.parent / "profile"))
      self._tracing = True

  def add(self, step: int, metrics: Any, count: int) -> None:
    """Counts a step; now and then reads its metrics and writes them.

    Args:
      step: which one is done, from 1.
      metrics: scalars on the device.
      count: how many images or characters the step saw.
    """
    self._count += count
    if self._tracing and step >= self._profile[1]:
      jax.block_until_ready(metrics)
      self._stop_trace()
    if step % self._every and step != self._steps:
      return
    values = {k: float(np.asarray(v)) for k, v in metrics.items()}
    speed = self._speed(step)
    text = (
      f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.3f}  "
      f"{speed[f'{self._unit}_per_second']:,.0f} {self._unit}/s"
    )
    self._bar.update(self._task, completed=step, text=text)
    if self._writes:
      self._write(step, values | speed)

  def _speed(self, step: int) -> dict[str, float]:
    """Measures the steps since the last line; compilation is in the first."""
    now = time.monotonic()
    seconds, count = now - self._start, self._count
    each = seconds / (step - self._last)
    self._start, self._count, self._last = now, 0, step
    found = {
      f"{self._unit}_per_second": round(count / seconds, 1),
      "step_seconds": round(each, 6),
      "seconds_left": round(each * (self._steps - step), 1),
    }
    # None on backends that do not say, such as CPUs.
    memory = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in memory:
      peak = memory.get("peak_bytes_in_use", memory["bytes_in_use"])
      found["device_bytes"] = peak
    return found

  def _write(self, step: int, values: dict[str, float]) -> None:
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
    if self._board is None:  # Not before: a run that is done writes nothing.
      folder = str(self._path.parent / "tensorboard")
      self._board = tensorboardX.SummaryWriter(
        folder,
        purge_step=self._done + 1,
        # Names hold the second: a run may resume within it.
        filename_suffix=f".{self._done}",
      )
    for name, value in values.items():
      self._board.add_scalar(f"train/{name}", value, step)

  def _stop_trace(self) -> None:
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()


def _forget(path: pathlib.Path, done: int) -> None:
  """Drops the lines of steps after the checkpoint that a run resumes from."""
  if not path.exists():
    return
  lines = path.read_text(errors="replace").splitlines(keepends=True)
  whole = [line for line in lines if line.endswith("\n")]  # None cut short.
  try:
    kept = [line for line in whole if json.loads(line)["step"] <= done]
  except (ValueError, KeyError, TypeError):
    raise ValueError(f"{path} has a damaged line; delete that line") from None
  files.write(path, "".join(kept))
