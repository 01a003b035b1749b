"""What a config asks for: groups of models x conditions x attacks.

A group is a scheme and a way of training, `SCHEME/TRAINING`: all its models
are trained alike, each on its own half of a pool of examples. Some of them are
judged, each with all the others as its shadow models.
"""

import hashlib
import json
import math
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
# Fields of a training: the title, of `fit.Recipe`, and the number of steps;
# those of differential privacy; and a fault that an audit is to find.
_TRAINING = (
  "title",
  "weight_decay",
  "learning_rate",
  "batch_size",
  "epochs",
  "dropout",
)
_PRIVATE = ("epsilon", "clip", "forget_noise")


def configure(
  config: ConfigDict,
  *,
  trainings: Mapping[str, Mapping[str, Any]] | None = None,
  **fields: Any,
) -> None:
  """Add `config.privacy`, which `experiments.privacy` reads.

  Args:
    config: Config with `schemes`, one of which is `none`.
    trainings: Other ways of training without a scheme, by label: `title`,
      `weight_decay` (decoupled), `learning_rate`, `batch_size`, `epochs`,
      `dropout`, the share of units that a step leaves out; or
      with differential privacy: `epsilon` at `privacy.delta`, `clip`, the
      largest norm of a gradient, 1 by default, and `forget_noise`.
    **fields: Other fields of `config.privacy`.
  """
  made = ConfigDict(sort_keys=False)
  made.pool = 600  # Training images, half of which each model sees.
  made.noise = 0.0  # Share of labels that are replaced by another class.
  made.models = 65  # Models of a group: one judged, the others its shadows.
  made.side_by_side = 65  # Models that train at once; at most 8 answer so.
  made.targets = 3  # Models of a group that are judged.
  made.wrong_keys = 2
  made.delta = 0.0  # Of private trainings, and of audits; 0: there are none.
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
  size = min(changes.get("batch_size", train.batch_size), members)
  epochs = changes.get("epochs", train.epochs)
  made = Recipe(
    optimizer=train.optimizer,
    learning_rate=changes.get("learning_rate", train.learning_rate),
    batch_size=size,
    weight_decay=changes.get("weight_decay", train.weight_decay),
  )
  return made, max(1, round(epochs * members / size))


def claim(config: ConfigDict, group: str) -> dict[str, float]:
  """Return the epsilon that a group may spend, delta and clip; {} for none."""
  changes = _changes(config, group)
  if "epsilon" not in changes:
    return {}
  return {
    "epsilon": changes["epsilon"],
    "delta": config.privacy.delta,
    "clip": changes.get("clip", 1.0),
  }


def dropout(config: ConfigDict, group: str) -> float:
  """Return the share of units that a step of a group leaves out."""
  return float(_changes(config, group).get("dropout", 0.0))


def forgets_noise(config: ConfigDict, group: str) -> bool:
  """Return whether a group leaves out the noise that it claims."""
  return bool(_changes(config, group).get("forget_noise", False))


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
    attacks.check_count(name, fields.models)
  for text in fields.replies:
    replies.parse(text)
  for label, changes in fields.trainings.items():
    known = (*_TRAINING, *_PRIVATE)
    unknown = sorted(set(changes) - set(known))
    if label == NONE or unknown:
      raise ValueError(
        f"privacy.trainings.{label}: {', '.join(unknown) or 'choose another'}: "
        f"a label other than {NONE}, with {', '.join(known)}"
      )
    if not 0 <= changes.get("dropout", 0.0) < 1:
      raise ValueError(
        f"privacy.trainings.{label}.dropout={changes['dropout']}: from 0 to "
        "less than 1"
      )
    _check_private(fields.delta, label, changes)


def _check_private(
  delta: float, label: str, changes: Mapping[str, Any]
) -> None:
  place = f"privacy.trainings.{label}"
  if "epsilon" not in changes:
    others = [name for name in _PRIVATE if name in changes]
    if others:
      raise ValueError(f"{place}: {', '.join(others)} without an epsilon")
    return
  if changes.get("dropout"):
    raise ValueError(f"{place}: dropout does not go with an epsilon")
  for name in ("epsilon", "clip"):
    if not 0 < changes.get(name, 1.0) < math.inf:
      raise ValueError(f"{place}.{name}={changes[name]}: must be more than 0")
  if not delta:
    raise ValueError(f"{place}: an epsilon needs privacy.delta, such as 1e-5")


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
  if not 0 <= fields.delta < 1:
    raise ValueError(f"privacy.delta={fields.delta}: from 0 to less than 1")
  if not 0 <= fields.noise < 1:
    raise ValueError(f"privacy.noise={fields.noise}: from 0 to less than 1")


def row_name(config: ConfigDict, group: str, parts: Sequence[Any]) -> str:
  """Return a task's name: a hash of all that its figures depend on."""
  lists = ("attacks", "replies", "trainings", "side_by_side")
  kept = {k: v for k, v in config.privacy.items() if k not in lists}
  if not kept.get("delta"):
    kept.pop("delta", None)  # Rows of runs from before there were audits stay.
  return _hash([_trained(config, group), kept, *parts])


def models_name(config: ConfigDict, group: str) -> str:
  """Return a group's name: a hash of all that its models depend on."""
  fields = config.privacy
  kept = {k: fields[k] for k in ("pool", "noise", "models", "delta")}
  if fields.delta:
    kept["targets"] = fields.targets  # Their members are drawn otherwise.
  return _hash([_trained(config, group), kept])


def _trained(config: ConfigDict, group: str) -> dict[str, Any]:
  """Return data, network, scheme and training of a group."""
  fields: dict[str, Any] = meaning(config)
  dropped = ("schemes", "privacy", "attacks", "name", "evaluate")
  found = {k: v for k, v in fields.items() if k not in dropped}
  found["scheme"] = fields["schemes"][group.split("/")[0]]
  found["training"] = dict(_changes(config, group))
  return found


def _hash(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
