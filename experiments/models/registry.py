"""Models by name."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from experiments import data
from experiments.models.base import Classifier
from experiments.run.registry import Registry
from keyjax import tasks


class Entry(NamedTuple):
  """A registered model.

  Attributes:
    module: Class of the model; one for text takes the number of tokens as
      `vocabulary`.
    fixed: Attributes that the name stands for.
    defaults: Attributes that a config may change.
    task: What the model does: one of `keyjax.tasks.names()`.
  """

  module: type[nn.Module]
  fixed: Mapping[str, Any]
  defaults: Mapping[str, Any]
  task: str

  @property
  def takes_text(self) -> bool:
    """Whether inputs are tokens."""
    return self.task in ("tokens", "pairs")


_HAS = {"masks": "images with masks", "boxes": "images with boxes"}
MODELS: Registry[Entry] = Registry("model", "experiments.models")


def register(
  name: str,
  module: type[nn.Module],
  fixed: Mapping[str, Any] | None = None,
  defaults: Mapping[str, Any] | None = None,
  task: str = "",
) -> None:
  """Register a model; a file of this folder does so for each of its own.

  Args:
    name: Name in a config.
    module: Class of the model; see `Entry`.
    fixed: Attributes that the name stands for, such as the depth of
      `resnet18`.
    defaults: Attributes that a config may change.
    task: What the model does; by default `classes` for a `Classifier`, and
      `tokens` for anything else.

  Raises:
    ValueError: If the name is taken, or the task unknown.
  """
  found = task or ("classes" if issubclass(module, Classifier) else "tokens")
  tasks.get(found)
  MODELS.add(name, Entry(module, fixed or {}, defaults or {}, found))


def names() -> tuple[str, ...]:
  """Return the names of all models."""
  return MODELS.names()


def image_names() -> tuple[str, ...]:
  """Return the names of the models that classify images."""
  return names_for("classes")


def text_names() -> tuple[str, ...]:
  """Return the names of the models that take text."""
  return names_for("tokens")


def names_for(task: str) -> tuple[str, ...]:
  """Return the names of the models for a task of `keyjax.tasks`."""
  return tuple(name for name in names() if MODELS.get(name).task == task)


def create(
  name: str,
  num_classes: int,
  mean: Sequence[float],
  std: Sequence[float],
  **options: Any,
) -> nn.Module:
  """Make a model by name.

  Args:
    name: One of `names()`.
    num_classes: Number of logits; of a language model, the vocabulary.
    mean: Mean of pixels in [0, 1], per channel; a language model needs none.
    std: Standard deviation of the same; a language model needs none.
    **options: Further attributes of the model: `dtype` of every model, and
      those that its class lists (`features`, `width`, ...).

  Returns:
    The module. `apply(variables, x, train)` of an image model takes
    `float32[b, h, w, c]` in [0, 1] and returns `float32[b, num_classes]`, or
    what its task wants, such as logits of each pixel; that of a language model
    takes `int[b, t]` and returns `float32[b, t, num_classes]`.

  Raises:
    ValueError: If the name or an option is unknown, or mean and std do not fit.
  """
  entry = MODELS.get(name)
  if entry.takes_text:
    given: dict[str, Any] = {"vocabulary": num_classes}
  else:
    given = {"num_classes": num_classes, **_statistics(mean, std)}
  given |= entry.fixed
  _check_options(name, entry.module, options, given)
  # Tuples, because a module must be hashable to be an argument of jit.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  return entry.module(**{**entry.defaults, **options, **given})


def from_config(config: ConfigDict, dataset: data.Dataset) -> nn.Module:
  """Make `config.model` for a data set.

  Args:
    config: Config made by `experiments.run.config.base`.
    dataset: Data set of the config.

  Raises:
    ValueError: As `create`, or if the model is for another task than the data.
  """
  if MODELS.get(config.model).task != dataset.task:
    raise ValueError(
      f"model={config.model} does not fit dataset={dataset.name}, which has "
      f"{_HAS.get(dataset.task, dataset.unit)}: choose from "
      f"{', '.join(names_for(dataset.task))}"
    )
  options = {"dtype": config.train.dtype} | dict(config.model_args)
  if config.train.remat:
    options["remat"] = True
  mean, std = dataset.mean, dataset.std
  if config.train.dp.on:  # Statistics of private examples tell of them.
    mean, std = (0.5,) * len(mean), (0.5,) * len(std)
  return create(
    config.model, dataset.num_classes, mean=mean, std=std, **options
  )


def _statistics(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
  if not mean or len(mean) != len(std) or min(std) <= 0:
    raise ValueError(f"Expected a positive std={std} for each of mean={mean}.")
  return {"mean": tuple(mean), "std": tuple(std)}


def _check_options(
  name: str, module: Any, options: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
  """Raise a ValueError if an option is unknown, or not for a config to set."""
  taken = {*given, "parent", "name"}
  known = [f.name for f in dataclasses.fields(module) if f.name not in taken]
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"Unknown option {', '.join(unknown)} of model {name}: it has "
      f"{', '.join(known)}."
    )
