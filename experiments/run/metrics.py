"""Training metrics: a log file, TensorBoard, a trace, a progress bar.

metrics.jsonl   one JSON object per line: loss, accuracy, speed, memory
tensorboard/    the same, for `tensorboard --logdir=WORKDIR`
profile/        a trace of the steps in `config.train.profile`

Only the first process writes. If the workdir is in a bucket, these files grow
in a local folder, which is copied at every checkpoint and at the end.
"""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import rich.progress
import rich.table
import tensorboardX

from experiments.run import files
from keyjax import processes


def _whole() -> rich.table.Column:
  return rich.table.Column(no_wrap=True)


class MetricsLog:
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
    """Open the log of a run.

    Args:
      folder: Folder of the run; lines of steps after `done` are dropped.
      done: Step that the run resumes after.
      steps: Number of steps of the whole run.
      title: Title of the progress bar.
      unit: Unit of what `add` counts.
      every: Number of steps per line.
      profile: First and last step to trace, from 1; (0, 0) for none.
    """
    self._mirror = files.Mirror(folder)
    self._path = self._mirror.folder / "metrics.jsonl"
    self._steps = steps
    self._unit = unit
    self._every = every
    self._done = done
    self._profile = profile
    self._tracing = False
    # Since the last line.
    self._start = time.monotonic()
    self._count = 0
    self._last = done
    self._writes = processes.is_first()
    self._board: tensorboardX.SummaryWriter | None = None
    if self._writes:
      self._mirror.fetch(self._path.name)
      _drop_later_lines(self._path, done)
    self._bar = rich.progress.Progress(
      # In 80 columns the bar becomes short, and nothing else.
      rich.progress.TextColumn("{task.description:<20}"),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.MofNCompleteColumn(table_column=_whole()),
      rich.progress.TimeRemainingColumn(table_column=_whole()),
      rich.progress.TextColumn("{task.fields[text]}"),
      disable=not self._writes,
    )
    self._task = self._bar.add_task(title, total=steps, completed=done, text="")

  def __enter__(self) -> "MetricsLog":
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
    """Write all lines so far to the workdir."""
    if not self._writes:
      return
    if self._board is not None:
      self._board.flush()
    self._mirror.flush()

  def begin(self, step: int) -> None:
    """Start the trace, if this is the first step of `profile`."""
    if self._writes and step == self._profile[0]:
      jax.profiler.start_trace(str(self._path.parent / "profile"))
      self._tracing = True

  def add(self, step: int, metrics: Any, count: int) -> None:
    """Count a step; every few steps, read its metrics and write a line.

    Args:
      step: Number of the finished step, from 1.
      metrics: Scalars on the device, by name.
      count: Number of images or characters in the step.
    """
    self._count += count
    if self._tracing and step >= self._profile[1]:
      jax.block_until_ready(metrics)
      self._stop_trace()
    if step % self._every and step != self._steps:
      return
    values = {k: float(np.asarray(v)) for k, v in metrics.items()}
    speed = self._speed(step)
    shown = [
      f"{k} {values[k]:.3f}" for k in ("loss", "accuracy") if k in values
    ]
    rate = f"{speed[f'{self._unit}_per_second']:,.0f}/s"
    text = "  ".join([*shown, rate])
    self._bar.update(self._task, completed=step, text=text)
    if self._writes:
      self._write(step, values | speed)

  def _speed(self, step: int) -> dict[str, float]:
    """Measure the steps since the last line; the first include compilation."""
    now = time.monotonic()
    seconds = now - self._start
    count = self._count
    each = seconds / (step - self._last)
    self._start = now
    self._count = 0
    self._last = step
    found = {
      f"{self._unit}_per_second": round(count / seconds, 1),
      "step_seconds": round(each, 6),
      "seconds_left": round(each * (self._steps - step), 1),
    }
    # None on backends without this figure, such as CPUs.
    memory = jax.local_devices()[0].memory_stats() or {}
    if "bytes_in_use" in memory:
      peak = memory.get("peak_bytes_in_use", memory["bytes_in_use"])
      found["device_bytes"] = peak
    return found

  def _write(self, step: int, values: dict[str, float]) -> None:
    with self._path.open("a") as file:
      file.write(json.dumps({"step": step, **values}) + "\n")
    if self._board is None:  # Not earlier: a finished run writes nothing.
      folder = str(self._path.parent / "tensorboard")
      self._board = tensorboardX.SummaryWriter(
        folder,
        purge_step=self._done + 1,
        # Names have a resolution of a second; a run may resume within it.
        filename_suffix=f".{self._done}",
      )
    for name, value in values.items():
      self._board.add_scalar(f"train/{name}", value, step)

  def _stop_trace(self) -> None:
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()


def _drop_later_lines(path: pathlib.Path, done: int) -> None:
  """Drop the lines of steps after the checkpoint that a run resumes from."""
  if not path.exists():
    return
  lines = path.read_text(errors="replace").splitlines(keepends=True)
  # Without a last line that was cut short.
  whole = [line for line in lines if line.endswith("\n")]
  try:
    kept = [line for line in whole if json.loads(line)["step"] <= done]
  except (ValueError, KeyError, TypeError):
    raise ValueError(f"{path} has a damaged line; delete that line") from None
  files.write(path, "".join(kept))
