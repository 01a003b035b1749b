"""The measurements of a config, each with its name."""

import functools
from collections.abc import Iterator

from ml_collections import ConfigDict

from experiments.copying import knockoffs, plan, rebuild, whose
from experiments.copying.victims import Victims
from experiments.run.tasks import Task

_CONDITIONS = ("right", "wrong", "no_key")


def tasks(config: ConfigDict, victims: Victims) -> list[Task]:
  """Return what a config asks for.

  Args:
    config: Config with `copies`.
    victims: Its victims.
  """
  parts = config.copies.parts
  found: list[Task] = []
  if "knockoff" in parts:
    found += _knockoffs(config, victims)
  if "ownership" in parts:
    found.append(
      Task(
        plan.row_name(config, plan.NONE, ("ownership",)),
        "dataset inference",
        functools.partial(whose.measure, victims),
      )
    )
  if "rebuild" in parts:
    for scheme, spec in config.schemes.items():
      found.append(
        Task(
          plan.row_name(config, scheme, ("rebuild",)),
          f"built again from data and recipe, {spec.title}",
          functools.partial(rebuild.measure, victims, scheme),
        )
      )
  return found


def _knockoffs(config: ConfigDict, victims: Victims) -> Iterator[Task]:
  for scheme, spec in config.schemes.items():
    for condition, reply in _places(config, scheme):
      said = plan.CONTROLS.get(reply) or plan.parse(reply).title
      yield Task(
        plan.row_name(config, scheme, ("knockoff", condition, reply)),
        f"copies of {spec.title}, {condition}: {said}",
        functools.partial(knockoffs.measure, victims, scheme, condition, reply),
      )


def _places(config: ConfigDict, scheme: str) -> Iterator[tuple[str, str]]:
  """Yield the conditions of a model, with what is answered in each."""
  fields = config.copies
  if scheme == plan.NONE:
    for reply in (*fields.replies, *plan.CONTROLS):
      yield "plain", reply
    return
  for condition in _CONDITIONS:
    if condition == "right":
      for reply in fields.locked_replies:
        yield condition, reply
    elif condition == "no_key" or fields.wrong_keys:
      yield condition, plan.ALL
