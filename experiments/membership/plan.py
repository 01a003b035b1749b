"""What a config asks for: groups of models x conditions x attacks.

A group is a scheme and a way of training, `SCHEME/TRAINING`: all its models
are trained alike, each on its own half of a pool of examples. Some of them are
judged, each with all the others as its shadow models.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.membership import attacks, replies
from experiments.run.config import base, meaning
from keyjax.attacks.fit import Recipe

NONE = "none"  # Label of no scheme, and of training as the config says.
# Fields of `config.train` that shadow models are trained by, and those that
# change no result. Any other would be taken for something that was measured.
_USED = ("optimizer", "learning_rate", "batch_size", "epochs", "weight_decay")
_FREE = (
  "seed",
  "parallel",
  "log_every",
  "checkpoint_every",
  "keep",
  "threads",
  "prefetch",
  "profile",
)
# Fields of a training: of `fit.Recipe`, and the number of steps.
_TRAINING = ("weight_decay", "epochs", "title")


def configure(
  config: ConfigDict,
  *,
  trainings: Mapping[str, Mapping[str, Any]] | None = None,
  **fields: Any,
) -> None:
  """Add `config.privacy`, which `experiments.privacy` reads.

  Args:
    config: Config with `schemes`, one of which is `none`.
    trainings: Other ways of training without a scheme, by label: `weight_decay`
      (decoupled), `epochs`, and `title`.
    **fields: Other fields of `config.privacy`.
  """
  made = ConfigDict(sort_keys=False)
  made.pool = 600  # Training images, half of which each model sees.
  made.noise = 0.0  # Share of labels that are replaced by another class.
  made.models = 65  # Models of a group: one judged, the others its shadows.
  made.side_by_side = 65  # Models that train at the same time.
  made.targets = 3  # Models of a group that are judged.
  made.wrong_keys = 2
  made.attacks = tuple(attacks.ATTACKS)
  made.replies = ()  # What a service answers: see `replies.parse`.
  made.trainings = ConfigDict(
    dict(trainings or {}), convert_dict=False, sort_keys=False
  )
  made.lock()
  made.update(fields)
  with config.unlocked():
    config.privacy = made


def groups(config: ConfigDict) -> list[str]:
  """Return the names `SCHEME/TRAINING`."""
  found = [f"{scheme}/{NONE}" for scheme in config.schemes]
  return found + [f"{NONE}/{label}" for label in config.privacy.trainings]


def title(config: ConfigDict, group: str) -> str:
  """Return what reports call a group."""
  scheme, training = group.split("/")
  if training == NONE:
    return str(config.schemes[scheme].title)
  return str(config.privacy.trainings[training].get("title", training))


def recipe(config: ConfigDict, group: str) -> tuple[Recipe, int]:
  """Return how the models of a group are trained, and for how many steps."""
  train, members = config.train, config.privacy.pool // 2
  changes = _changes(config, group)
  size = min(train.batch_size, members)
  epochs = changes.get("epochs", train.epochs)
  made = Recipe(
    optimizer=train.optimizer,
    learning_rate=train.learning_rate,
    batch_size=size,
    weight_decay=changes.get("weight_decay", train.weight_decay),
  )
  return made, max(1, round(epochs * members / size))


def _changes(config: ConfigDict, group: str) -> Mapping[str, Any]:
  training = group.split("/")[1]
  if training == NONE:
    return {}
  return dict(config.privacy.trainings[training])


def check(config: ConfigDict) -> None:
  """Check `config.privacy` before anything is opened.

  Raises:
    ValueError: If a field is wrong; the message says which.
  """
  if "privacy" not in config:
    raise ValueError(
      "the config has no privacy: see experiments.membership.plan.configure, "
      "or use configs/privacy.py"
    )
  fields = config.privacy
  _check_numbers(fields)
  if NONE not in config.schemes:
    raise ValueError(f"schemes: add `{NONE}`, the model without a lock")
  check_train(config.train)
  for name in fields.attacks:
    attacks.get(name)
  for text in fields.replies:
    replies.parse(text)
  for label, changes in fields.trainings.items():
    unknown = sorted(set(changes) - set(_TRAINING))
    if label == NONE or unknown:
      raise ValueError(
        f"privacy.trainings.{label}: {', '.join(unknown) or 'choose another'}: "
        f"a label other than {NONE}, with {', '.join(_TRAINING)}"
      )


def check_train(train: ConfigDict) -> None:
  """Refuse settings of training that shadow models do not have.

  Raises:
    ValueError: If there is one; the message says which.
  """
  default = base().train
  for field, value in train.items():
    if field not in (*_USED, *_FREE) and value != default[field]:
      raise ValueError(
        f"train.{field} is not used here: shadow models are trained by "
        f"{', '.join(_USED)} alone"
      )
  if train.optimizer not in ("adam", "sgd"):
    raise ValueError(
      f"train.optimizer={train.optimizer!r}: shadow models are trained "
      "by adam or sgd"
    )


def _check_numbers(fields: ConfigDict) -> None:
  for name, least in (("targets", 1), ("wrong_keys", 0), ("side_by_side", 1)):
    if fields[name] < least:
      raise ValueError(f"privacy.{name}={fields[name]}: at least {least}")
  if fields.models < 5:
    raise ValueError(
      f"privacy.models={fields.models}: at least 5, so that each example has "
      "2 shadow models with it and 2 without it"
    )
  if fields.targets > fields.models:
    raise ValueError(
      f"privacy.targets={fields.targets} of models={fields.models}"
    )
  if fields.pool < 20:
    raise ValueError(f"privacy.pool={fields.pool}: at least 20")
  if not 0 <= fields.noise < 1:
    raise ValueError(f"privacy.noise={fields.noise}: from 0 to less than 1")


def row_name(config: ConfigDict, group: str, parts: Sequence[Any]) -> str:
  """Return a task's name: a hash of all that its figures depend on."""
  fields: dict[str, Any] = meaning(config)
  dropped = ("schemes", "privacy", "attacks", "name", "evaluate")
  hashed = {k: v for k, v in fields.items() if k not in dropped}
  hashed["scheme"] = fields["schemes"][group.split("/")[0]]
  hashed["training"] = dict(_changes(config, group))
  lists = ("attacks", "replies", "trainings", "side_by_side")
  kept = {k: v for k, v in fields["privacy"].items() if k not in lists}
  text = json.dumps([hashed, kept, *parts], sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
