"""Public layouts of model families: names and axes of their weight files."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

Arrays = Mapping[str, np.ndarray]
THIRDS = ("query", "key", "value")


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
  """

  modules: Mapping[str, str]
  parameters: Mapping[str, str] = {}
  thirds: tuple[str, ...] = ()
  transposed: bool = True
  ignored: str = ""
  adapt: Callable[[Any, Arrays], Arrays] = lambda model, arrays: arrays


LAYOUTS: dict[type[nn.Module], Layout] = {}


def register_layout(module: type[nn.Module], layout: Layout) -> None:
  """Register the public layout of a model family."""
  LAYOUTS[module] = layout
