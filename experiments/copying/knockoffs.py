"""Copies against queries: what answers are worth, by condition of the key.

    plain     no lock
    right     a service with the key
    wrong     a service with another key
    no_key    the stolen file, run as it is

Agreement is with the victim as its users know it, with the right key.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from experiments.copying import figures, plan
from experiments.copying.victims import Asked, Victims
from experiments.interpretation.conditions import Condition
from experiments.protection.job import Rows
from keyjax.attacks.copies import knockoff, likeness
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import stacked


class _Place(NamedTuple):
  """What a copy is trained on."""

  number: int  # Of the victim.
  kind: str  # Of the queries.
  queries: int  # Their number.


def measure(victims: Victims, scheme: str, condition: str, reply: str) -> Rows:
  """Return agreement and accuracy of copies, by query set and budget.

  Args:
    victims: The victims.
    scheme: Label of the protection.
    condition: `plain`, `right`, `wrong` or `no_key`.
    reply: What the service answers: see `plan.parse` and `plan.CONTROLS`.
  """
  fields = victims.config.copies
  kinds = fields.query_sets if scheme == plan.NONE else fields.locked_sets
  places, rows, tables, lost = [], [], [], []
  start = 0
  for number in range(fields.victims):
    for service in _services(victims, number, scheme, condition):
      for kind in kinds:
        found = _answered(victims, number, service, kind, reply)
        if found is None:
          continue
        table, share = found
        tables.append(table)
        for count in _counts(fields.queries, len(table.label)):
          places.append(_Place(number, kind, count))
          rows.append((start, start + count))
          lost.append(share)
        start += len(table.label)
  if not places:
    return []
  logits = _train(victims, tables, rows, start, reply)
  return list(_rows(victims, scheme, condition, reply, places, logits, lost))


def _services(
  victims: Victims, number: int, scheme: str, condition: str
) -> list[Condition]:
  wanted = "right" if condition == "plain" else condition
  return victims.services(number, scheme, wanted)


def _answered(
  victims: Victims, number: int, service: Condition, kind: str, reply: str
) -> tuple[Examples, float] | None:
  """Return queries with what an attacker reads, and the share that is lost."""
  asked: Asked = victims.asked(number)[kind]
  if reply == "labels":
    if asked.label is None:
      return None
    return Examples(asked.image, asked.label), 0.0
  logits, lost = knockoff.read(victims.answers(service, asked.image))
  if reply == "swapped":
    said = knockoff.swapped(logits, victims.seed(number))
  else:
    said = plan.parse(reply).apply(logits)
  return Examples(asked.image, said), lost


def _counts(queries: Any, size: int) -> list[int]:
  """Return the budgets, and all there are if a budget asks for more."""
  return sorted({min(count, size) for count in queries})


def _train(
  victims: Victims,
  tables: list[Examples],
  rows: list[tuple[int, int]],
  total: int,
  reply: str,
) -> np.ndarray:
  """Train the copies; return their logits for the test images."""
  members = np.zeros((len(rows), total), bool)
  for own, (start, end) in zip(members, rows, strict=True):
    own[start:end] = True
  answered = Examples(
    np.concatenate([x.image for x in tables]),
    np.concatenate([x.label for x in tables]),
  )
  fields = victims.config.copies
  recipe, _ = plan.recipe(victims.config, total)
  controlled = reply in plan.CONTROLS
  params = knockoff.train(
    victims.job.model.apply,
    victims.init,
    answered,
    members,
    recipe,
    victims.config.train.seed + fields.victims,  # No victim's weights.
    steps=fields.steps,
    chunk=fields.side_by_side,
    temperature=1.0 if controlled else plan.parse(reply).temperature,
  )
  return stacked.answers(
    victims.job.model.apply,
    params,
    victims.test.image,
    chunk=fields.side_by_side,
  )


def _rows(
  victims: Victims,
  scheme: str,
  condition: str,
  reply: str,
  places: list[_Place],
  logits: np.ndarray,
  lost: list[float],
) -> Iterator[dict[str, Any]]:
  """Yield a row for each query set, budget and metric, over victims."""
  truth = {
    number: victims.answers(
      victims.services(number, scheme, "right")[0], victims.test.image
    )
    for number in {p.number for p in places}
  }
  base = figures.base(victims, scheme, "knockoff", condition) | {
    "reply": reply,
    "reply_title": plan.CONTROLS.get(reply) or plan.parse(reply).title,
  }
  for kind, count in dict.fromkeys((p.kind, p.queries) for p in places):
    own = [
      i for i, p in enumerate(places) if (p.kind, p.queries) == (kind, count)
    ]
    found: dict[str, list[float]] = {"agreement": [], "accuracy": []}
    for i in own:
      right = truth[places[i].number]
      label = victims.test.label
      found["agreement"].append(float(likeness.agreement(logits[i], right)))
      found["accuracy"].append(float(likeness.accuracy(logits[i], label)))
    fields = base | {
      "query_set": kind,
      "set_title": plan.SETS[kind],
      "queries": count,
      "lost": float(np.mean([lost[i] for i in own])),
      "victim_accuracy": figures.mean_accuracy(truth.values(), victims.test),
    }
    for metric, values in found.items():
      yield figures.row(fields, metric, values, len(victims.test.label))
