"""Subjects: published models, and how their outputs are judged."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from ml_collections import ConfigDict

from experiments.run.registry import Registry
from keyjax import tasks
from keyjax.tasks import Task

Forward = Callable[[Any], Any]


class Figure(NamedTuple):
  """What a model's outputs are worth, by one metric.

  Attributes:
    task: Task, which brings the metric that judges.
    statistics: Its statistics, of each example.
  """

  task: Task
  statistics: Any


class Judged(NamedTuple):
  """What one pass over all inputs gives.

  Attributes:
    figures: Figures, by name.
    nonfinite: Share of output numbers that are NaN or infinite.
  """

  figures: Mapping[str, Figure]
  nonfinite: float


class Subject(NamedTuple):
  """A model with its inputs.

  Attributes:
    model: Module.
    variables: Its variables.
    batch: What the generation of keys looks at: `image`, an input, and `label`
      where a loss is known.
    layers: Pattern of the layers that HPNN locks; None for its own choice.
    judge: Function from a forward pass, of inputs alone, to its figures.
    about: Fields for rows: package, licence, what the inputs are.
    task: What the model does with the batch.
  """

  model: nn.Module
  variables: Any
  batch: Mapping[str, Any]
  layers: str | None
  judge: Callable[[Forward], Judged]
  about: Mapping[str, Any]
  task: Task = tasks.CLASSES


# Functions from a section of a config to a subject.
SUBJECTS: Registry[Callable[[ConfigDict], Subject]] = Registry(
  "subject", "experiments.published"
)


def register(name: str, make: Callable[[ConfigDict], Subject]) -> None:
  """Register a subject; a file of this folder does so for its own."""
  SUBJECTS.add(name, make)
