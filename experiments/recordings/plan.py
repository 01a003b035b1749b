"""What a config asks for: scenes in which a worker's gradient is observed."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments import models

PARTS = ("gradients", "online")
ATTACKS = {
  "division": "division, first dense layer",
  "dlg": "DLG",
  "idlg": "iDLG",
  "inverting": "Inverting Gradients",
}
LOCKS = ("hpnn", "shf", "np", "ffx")
ANSWERS = ("told", "own")


class Scene(NamedTuple):
  """What is observed.

  Attributes:
    model: Label of the model in the config.
    size: Number of images behind the gradient.
    view: `device`, before devices average, or `average`.
    defense: `none`, `clip`, or `noise`.
    noise: Noise multiplier.
    lock: Label in `LOCKS`; empty for none.
    trained: Whether the network is trained, not fresh.
  """

  model: str
  size: int = 1
  view: str = "device"
  defense: str = "none"
  noise: float = 0.0
  lock: str = ""
  trained: bool = False

  def title(self) -> str:
    """Return the scene in words, without its model.

    Example:
      >>> Scene("mlp", size=8, view="average").title()
      '8 images, averaged over devices'
    """
    parts = ["1 image" if self.size == 1 else f"{self.size} images"]
    if self.view == "average":
      parts.append("averaged over devices")
    if self.trained:
      parts.append("trained network")
    if self.defense == "clip":
      parts.append("clipped")
    if self.defense == "noise":
      parts.append(f"clipped, noise {self.noise:g}")
    if self.lock:
      parts.append(self.lock.upper())
    return ", ".join(parts)


def scenes(config: ConfigDict) -> Iterator[Scene]:
  """Yield the scenes of `config.gradients`, those of one image first.

  Args:
    config: `config.gradients`.
  """
  for model in config.networks:
    one = Scene(model)
    yield one
    if config.train_steps:
      yield one._replace(trained=True)
    if config.clip:
      yield one._replace(defense="clip")
      for noise in config.noise:
        yield one._replace(defense="noise", noise=noise)
    for lock in config.locks:
      yield one._replace(lock=lock)
  for model in config.networks:
    for size in config.batch_sizes:
      if size > 1:
        yield Scene(model, size)
    if config.devices > 1:
      yield Scene(model, config.devices, "average")


def attacks(config: ConfigDict, scene: Scene) -> tuple[str, ...]:
  """Return the attacks on a scene: all, or the strongest where there is more.

  Args:
    config: `config.gradients`.
    scene: What is observed.
  """
  if scene == Scene(scene.model, scene.size):
    return tuple(config.attacks)
  return tuple(config.strongest)


def check(config: ConfigDict) -> None:
  """Raise a ValueError that names a field which is out of range."""
  _require("seeds", config.seeds, config.seeds >= 2)
  parts = tuple(config.parts)
  _require("parts", parts, parts and set(parts) <= set(PARTS))
  own = config.gradients
  for name in ("victims", "unrelated", "steps", "restarts", "devices"):
    _require(f"gradients.{name}", own[name], own[name] >= 1)
  _require("gradients.train_steps", own.train_steps, own.train_steps >= 0)
  labels = tuple(own.networks)
  known = labels and set(labels) <= set(own.models)
  _require("gradients.networks", labels, known)
  sizes = tuple(own.batch_sizes)
  _require("gradients.batch_sizes", sizes, sizes and min(sizes) >= 1)
  _require("gradients.clip", own.clip, own.clip >= 0)
  noise = tuple(own.noise)
  _require("gradients.noise", noise, all(x > 0 for x in noise))
  for name, names in (
    ("attacks", ATTACKS),
    ("strongest", ATTACKS),
    ("locks", LOCKS),
  ):
    _require(f"gradients.{name}", tuple(own[name]), set(own[name]) <= {*names})
  _require("gradients.attacks", tuple(own.attacks), len(own.attacks) > 0)
  for label, spec in own.models.items():
    field = f"gradients.models.{label}.model"
    _require(field, spec.model, spec.model in models.image_names())
  other = config.online
  for name in ("pool", "served", "steps", "batch_size"):
    _require(f"online.{name}", other[name], other[name] >= 1)
  passes = tuple(other.passes)
  _require("online.passes", passes, passes and min(passes) >= 1)
  answers = tuple(other.answers)
  _require("online.answers", answers, answers and set(answers) <= {*ANSWERS})
  _require("online.noise", other.noise, 0 <= other.noise < 1)


def name(config: ConfigDict, part: str, what: str, seed: int) -> str:
  """Return a task's name, with a hash of all that its figures depend on."""
  kept = ConfigDict(
    {k: v for k, v in config[part].items() if k not in _LISTS[part]}
  )
  text = f"{config.dataset} {kept.to_json_best_effort()} {what}"
  return f"{part}/{seed}/{hashlib.sha256(text.encode()).hexdigest()[:12]}"


# What only says which rows are measured.
_LISTS = {
  "gradients": (
    "models",
    "networks",
    "batch_sizes",
    "noise",
    "locks",
    "devices",
  ),
  "online": (),
}


def _require(field: str, value: object, right: object) -> None:
  if not right:
    raise ValueError(f"{field}={value}: out of range")
