"""Models by name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from experiments import data
from experiments.models.base import Classifier
from experiments.models.convnets import CNN, MLP, VGG, VGG_PLANS
from experiments.models.lm import LM_SIZES, LanguageModel
from experiments.models.mixer import MIXER_SIZES, Mixer
from experiments.models.resnet import ResNet
from experiments.models.vit import VIT_SIZES, ViT

_IMAGE: dict[str, tuple[type[Classifier], dict[str, Any]]] = {
  "mlp": (MLP, {}),
  "cnn": (CNN, {}),
  **{f"vgg{depth}": (VGG, {"depth": depth}) for depth in VGG_PLANS},
  "resnet18": (ResNet, {"depth": 18}),
  "resnet50": (ResNet, {"depth": 50, "stem": "imagenet"}),
  **{f"vit_{size}": (ViT, dict(args)) for size, args in VIT_SIZES.items()},
  **{
    f"mixer_{size}": (Mixer, dict(args)) for size, args in MIXER_SIZES.items()
  },
}
_TEXT: dict[str, tuple[type[LanguageModel], dict[str, Any]]] = {
  name: (LanguageModel, dict(args)) for name, args in LM_SIZES.items()
}
_MODELS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
  **_IMAGE,
  **_TEXT,
}
IMAGE_NAMES = tuple(_IMAGE)
TEXT_NAMES = tuple(_TEXT)
NAMES = tuple(_MODELS)


def create(
  name: str,
  num_classes: int,
  mean: Sequence[float],
  std: Sequence[float],
  **options: Any,
) -> nn.Module:
  """Makes a model by name.

  Args:
    name: one of `NAMES`.
    num_classes: how many logits; of a language model, the vocabulary.
    mean: of pixels in [0, 1], per channel; a language model needs none.
    std: of pixels in [0, 1], per channel; a language model needs none.
    **options: further attributes of the model: `dtype` of every model, and
      what its class lists (`features`, `width`, ...).

  Returns:
    The module. `apply(variables, x, train)` of an image model takes
    `float32[b, h, w, c]` in [0, 1] and gives `float32[b, num_classes]`; that
    of a language model takes `int[b, t]` and gives `float32[b, t,
    num_classes]`.

  Raises:
    ValueError: the name or an option is unknown, or mean and std do not fit.
  """
  if name not in NAMES:
    raise ValueError(f"Unknown model {name!r}: choose from {', '.join(NAMES)}.")
  module, fixed = _MODELS[name]
  given: dict[str, Any] = {"vocabulary": num_classes}
  if name in IMAGE_NAMES:
    given = {"num_classes": num_classes, **_statistics(mean, std)}
  _check_options(name, module, options, given)
  # Tuples, because a module must be hashable to be an argument of jit.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  return module(**{**fixed, **options, **given})


def from_config(config: ConfigDict, dataset: data.Dataset) -> nn.Module:
  """Makes `config.model` for a data set.

  Args:
    config: from `experiments.run.config.base`.
    dataset: its data.

  Raises:
    ValueError: as `create`, or the model takes text and the data are images,
      or the other way round.
  """
  if config.model in NAMES and (config.model in _TEXT) != dataset.is_text:
    fitting = TEXT_NAMES if dataset.is_text else IMAGE_NAMES
    raise ValueError(
      f"model={config.model} does not fit dataset={dataset.name}, which has "
      f"{dataset.unit}: choose from {', '.join(fitting)}"
    )
  options = {"dtype": config.train.dtype} | dict(config.model_args)
  if config.train.remat:
    options["remat"] = True
  return create(
    config.model, dataset.num_classes, dataset.mean, dataset.std, **options
  )


def _statistics(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
  if not mean or len(mean) != len(std) or min(std) <= 0:
    raise ValueError(f"Expected a positive std={std} for each of mean={mean}.")
  return {"mean": tuple(mean), "std": tuple(std)}


def _check_options(
  name: str, module: type[nn.Module], options: Any, given: Any
) -> None:
  taken = {*given, "parent", "name"}
  # The depth is in the name of a network that is published in a few depths.
  taken |= {"depth"} if module in (VGG, ResNet) else set()
  known = [f.name for f in dataclasses.fields(module) if f.name not in taken]  # type: ignore[arg-type]
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"Unknown option {', '.join(unknown)} of model {name}: it has "
      f"{', '.join(known)}."
    )
