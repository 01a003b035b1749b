"""What a config asks for: victims, attackers, and what a service answers."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.membership import replies
from experiments.membership.plan import NONE, check_train
from experiments.run.config import meaning
from keyjax.attacks.fit import Recipe

PARTS = ("knockoff", "ownership", "rebuild")
# Query sets, and what reports call them.
SETS = {
  "uniform": "uniform noise",
  "marginal": "noise, pixels of the real inputs",
  "mixup": "mixtures of the real inputs",
  "real": "real inputs that the victim never saw",
  "other": "another data set",
}
# Answers that are controls, and no service's.
CONTROLS = {
  "swapped": "control: answers of other queries",
  "labels": "no victim: the right labels",
}
ALL = "all"  # What a service answers that hides nothing.
_RECIPE = ("optimizer", "learning_rate", "batch_size", "epochs", "weight_decay")
_FIELD = "copies.replies"
# What an attacker does who knows the temperature of a service.
_KNOWING = {
  "undone": "undone by the attacker",
  "distilled": "and the copy at it",
}


class Reply(NamedTuple):
  """What an attacker has of an answer.

  Attributes:
    name: Name in the config.
    title: Title in reports.
    apply: Function from logits to what is left of them.
    temperature: At which copies are trained; see `knockoff.train`.
  """

  name: str
  title: str
  apply: Callable[[np.ndarray], np.ndarray]
  temperature: float = 1.0


def configure(config: ConfigDict, **fields: Any) -> None:
  """Add `config.copies`, which `experiments.copies` reads.

  Args:
    config: Config with `schemes`, one of which is `none`.
    **fields: Fields of `config.copies` that differ.
  """
  made = ConfigDict(sort_keys=False)
  made.parts = PARTS
  made.victims = 3  # Each with its own half of the data, weights and key.
  made.inputs = 40  # Real inputs of an attacker, of the other half.
  made.queries = (40, 200, 1000, 2000)
  made.query_sets = ("uniform", "marginal", "mixup", "real")
  made.locked_sets = ("marginal", "real")  # For locked models.
  made.other = ""  # Data set whose images are the query set `other`.
  made.replies = (ALL, "label")  # See `parse`.
  made.locked_replies = (ALL,)  # For locked models with the key.
  made.wrong_keys = 1
  made.steps = 500  # Of each copy, at the victim's learning rate.
  made.suspects = 6  # Models of each kind that dataset inference judges.
  # What an attacker takes for an unknown network or recipe, by its title.
  made.networks = ConfigDict(convert_dict=False, sort_keys=False)
  made.recipes = ConfigDict(convert_dict=False, sort_keys=False)
  made.side_by_side = 64  # Models that train at the same time.
  made.lock()
  made.networks.unlock()
  made.recipes.unlock()
  made.update(fields)
  made.networks.lock()
  made.recipes.lock()
  with config.unlocked():
    config.copies = made


def parse(text: str) -> Reply:
  """Return what a service answers, and what an attacker makes of it.

  Args:
    text: `all`; or `label`, `temperature:T`, `top:K` or `round:DIGITS`, joined
      by `+`. The last may be what an attacker does who knows a temperature:
      `undone:T` multiplies by it, `distilled:T` trains the copy at it.

  Raises:
    ValueError: If it is something else.

  Example:
    >>> parse("temperature:20+round:3+undone:20").title
    'temperature 20, then 3-digit probabilities, undone by the attacker'
    >>> parse("temperature:20+distilled:20").temperature
    20.0
  """
  if text == ALL:
    return Reply(text, "all probabilities", np.asarray)
  *service, last = text.split("+")
  name, _, number = last.partition(":")
  if name not in _KNOWING or not service:
    service, name = [*service, last], ""
  said = [replies.parse(part, _FIELD) for part in service]
  title = ", then ".join(words for words, _ in said)
  functions = [function for _, function in said]
  temperature = 1.0
  if name:
    title += f", {_KNOWING[name]}"
    known = _known(text, number)
    if name == "distilled":
      temperature = known
    else:
      functions.append(replies.parse(f"temperature:{1 / known}")[1])
  apply = functools.partial(_chain, functions)
  return Reply(text, title, apply, temperature)


def _known(text: str, number: str) -> float:
  """Return the temperature that an attacker knows."""
  try:
    found = float(number)
  except ValueError:
    found = 0.0
  if not 0 < found < np.inf:
    raise ValueError(
      f"{_FIELD}: {text!r}: an attacker knows a temperature above 0"
    )
  return found


def _chain(functions: Sequence[Callable[[Any], Any]], logits: Any) -> Any:
  for function in functions:
    logits = function(logits)
  return logits


def recipe(
  config: ConfigDict, examples: int, changes: Mapping[str, Any] | None = None
) -> tuple[Recipe, int]:
  """Return how a victim is trained, or rebuilt, and for how many steps.

  Args:
    config: The config.
    examples: Number of its training examples.
    changes: Fields of `config.train` that differ.
  """
  fields = {name: config.train[name] for name in _RECIPE} | dict(changes or {})
  epochs = fields.pop("epochs")
  fields["batch_size"] = min(fields["batch_size"], examples)
  steps = round(epochs * examples / fields["batch_size"])
  return Recipe(**fields), max(1, steps)


def check(config: ConfigDict) -> None:
  """Check `config.copies` before anything is opened.

  Raises:
    ValueError: If a field is wrong; the message says which.
  """
  if "copies" not in config:
    raise ValueError(
      "the config has no copies: see experiments.copying.plan.configure, or "
      "use configs/copies.py"
    )
  if NONE not in config.schemes:
    raise ValueError(f"schemes: add `{NONE}`, the model without a lock")
  check_train(config.train)
  fields = config.copies
  _check_numbers(fields)
  _one_of(fields.parts, PARTS, "parts")
  known = [name for name in SETS if name != "other" or fields.other]
  _one_of(fields.query_sets, known, "query_sets")
  _one_of(fields.locked_sets, known, "locked_sets")
  for text in (*fields.replies, *fields.locked_replies):
    if text not in CONTROLS:
      parse(text)
  for title, changes in fields.recipes.items():
    unknown = sorted(set(changes) - set(_RECIPE))
    if unknown or not changes:
      raise ValueError(
        f"copies.recipes: {title!r} has {', '.join(unknown) or 'no field'}: "
        f"choose from {', '.join(_RECIPE)}"
      )


def _check_numbers(fields: ConfigDict) -> None:
  least = {
    "victims": 1,
    "inputs": 2,
    "wrong_keys": 0,
    "steps": 1,
    "suspects": 1,
    "side_by_side": 1,
  }
  for name, value in least.items():
    if fields[name] < value:
      raise ValueError(f"copies.{name}={fields[name]}: at least {value}")
  if not fields.queries or min(fields.queries) < 1:
    raise ValueError(f"copies.queries={fields.queries}: numbers above 0")


def _one_of(names: Sequence[str], known: Sequence[str], field: str) -> None:
  for name in names:
    if name not in known:
      hint = "; set copies.other" if name == "other" else ""
      raise ValueError(
        f"copies.{field}: {name!r}: choose from {', '.join(known)}{hint}"
      )


def row_name(config: ConfigDict, scheme: str, parts: Sequence[Any]) -> str:
  """Return a task's name: a hash of all that its figures depend on."""
  fields: dict[str, Any] = meaning(config)
  dropped = ("schemes", "copies", "attacks", "name", "evaluate")
  hashed = {k: v for k, v in fields.items() if k not in dropped}
  hashed["scheme"] = fields["schemes"][scheme]
  own = fields["copies"]
  used = ["victims", "inputs", "wrong_keys"]
  if parts[0] == "knockoff":
    used += ["queries", "steps", "other"]
    used += ["query_sets" if scheme == NONE else "locked_sets"]
  if parts[0] == "ownership":
    used += ["suspects", "steps", "queries"]
  if parts[0] == "rebuild":
    used += ["networks", "recipes"]
  text = json.dumps(
    [hashed, {k: own[k] for k in used}, *parts], sort_keys=True, default=str
  )
  return hashlib.sha256(text.encode()).hexdigest()[:16]
