"""Measurements that a run makes one after another, and resumes."""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.run import files, results

Row = dict[str, Any]


class Task(NamedTuple):
  """Some rows that are measured together.

  Attributes:
    name: Name, a hash of what its figures depend on.
    title: Title for people.
    measure: Function that returns the rows.
  """

  name: str
  title: str
  measure: Callable[[], list[Row]]


def measured(
  todo: Sequence[Task],
  file: files.AnyPath,
  base: Mapping[str, Any],
  say: Callable[[str], None],
  summary: Callable[[list[Row]], Iterable[str]],
) -> list[Row]:
  """Measure the tasks that have no rows yet; return the rows of all.

  Args:
    todo: Tasks.
    file: Rows, one per line; see `results.resume`.
    base: Fields of all rows; each also gets the `seconds` of its task.
    say: Where progress goes: titles, figures and the time left.
    summary: Function from the rows of a task to lines about them.
  """
  start, counted = time.monotonic(), itertools.count(1)

  def measure_one(task: Task) -> list[Row]:
    say(f"{task.title} ...")
    begun = time.monotonic()
    new = task.measure()
    seconds = round(time.monotonic() - begun, 3)
    return [{**r, **base, "seconds": seconds} for r in new]

  def done(name: str, new: list[Row], left: int) -> None:
    del name
    for line in summary(new):
      say(f"  {line}")
    count = next(counted)
    minutes = (time.monotonic() - start) / count * left / 60
    say(f"  {count} of {count + left}, about {minutes:.0f} min left")

  functions = {t.name: functools.partial(measure_one, t) for t in todo}
  return results.resume(file, functions, done)
