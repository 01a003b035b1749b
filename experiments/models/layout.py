"""Public layouts of model families: names and axes of their weight files."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from experiments.run.registry import Registry

Arrays = Mapping[str, np.ndarray]
THIRDS = ("query", "key", "value")
LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "embedding": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}


class Layout(NamedTuple):
  """The public layout of a family of models.

  Attributes:
    modules: Patterns of our module paths, with the name of the public module;
      in the name, `{+N}` is group N plus 1, `{N}` is group N.
    parameters: Our leaves outside any module, with their public names.
    thirds: Last parts of modules that share one public module, in order.
    transposed: Whether linear kernels are [out, in].
    ignored: Pattern of public names to leave out.
    adapt: Function of the model and the tensors of a file in another layout of
      the family, which returns them in this one; it keeps those of this one.
    prefix: Pattern of what a file may have in front of its names.
    leaves: Public names of our leaves, behind the module's.
    changes: Patterns of our leaves, with their change of axes where it is not
      the usual one.
  """

  modules: Mapping[str, str]
  parameters: Mapping[str, str] = {}
  thirds: tuple[str, ...] = ()
  transposed: bool = True
  ignored: str = ""
  adapt: Callable[[Any, Arrays], Arrays] = lambda model, arrays: arrays
  prefix: str = r"(module\.|transformer\.)+"
  leaves: Mapping[str, str] = LEAVES
  changes: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {}


LAYOUTS: dict[type[nn.Module], Layout] = {}
# Functions from a config of Hugging Face to a model, by its `model_type`.
Architecture = Callable[[Mapping[str, Any]], nn.Module]
ARCHITECTURES: Registry[Architecture] = Registry(
  "architecture", "experiments.models"
)


def register_layout(module: type[nn.Module], layout: Layout) -> None:
  """Register the public layout of a model family."""
  LAYOUTS[module] = layout


def register_architecture(name: str, make: Architecture) -> None:
  """Register a model family by the `model_type` of its `config.json`."""
  ARCHITECTURES.add(name, make)
