"""Defences of `config.train.defense`: what a network is trained on instead.

    fgsm, pgd, fast, trades   attacked inputs: see `adversarial_loss`
    noise                     inputs with Gaussian noise, for smoothing too
    discrete                  inputs rounded to a few values
    distilled                 the softened predictions of a teacher
    saturated                 a penalty on hidden units that are not saturated

They work under any scheme: the attacks of `pgd` go through the keyed forward
pass. Two filter inputs at inference as well: see `filters`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from keyjax import defenses
from keyjax.attacks.evasion.losses import cross_entropy
from keyjax.defenses import adversarial_loss
from keyjax.scheme import ApplyFn

_TEACHER = "teacher"
_CLASHING = ("label_smoothing", "mixup", "cutout")


class Forward(NamedTuple):
  """The forward pass of one training step.

  Attributes:
    apply_fn: Keyed forward pass of the model.
    variables: Params and batch statistics.
    step: int32[], number of finished steps.
  """

  apply_fn: ApplyFn
  variables: dict[str, Any]
  step: jax.Array

  def logits(self, images: jax.Array) -> jax.Array:
    """Return logits with the statistics of this batch."""
    return self.hidden(images, capture=False)[0]

  def hidden(
    self, images: jax.Array, capture: bool = True
  ) -> tuple[jax.Array, list[jax.Array]]:
    """Return logits, and the outputs of hidden layers before they act."""
    mutable = [k for k in self.variables if k != "params"]
    options: dict[str, Any] = {}
    if capture:
      mutable.append("intermediates")
      options["capture_intermediates"] = _is_hidden
    logits, new = self.apply_fn(
      self.variables, images, train=True, mutable=mutable, **options
    )
    return logits, jax.tree.leaves(new.get("intermediates", {}))


DefenseLoss = Callable[[Forward, jax.Array, jax.Array, jax.Array], jax.Array]


def make_loss(
  config: ConfigDict, model: nn.Module, steps: int, teacher: Any = None
) -> DefenseLoss | None:
  """Return the loss of `config.defense`, or None if there is no defence.

  Args:
    config: `config.train`.
    model: Linen module.
    steps: Number of steps of the training.
    teacher: Trained variables, for `distilled`.

  Returns:
    Function `(forward, images, labels, rng) -> float[n]`.

  Raises:
    ValueError: If the defence is unknown, or does not fit the recipe or model.
  """
  defense = config.defense
  if not defense.name:
    return None
  check(config, model)
  if defense.name == "distilled":
    return _distilled(defense.temperature, teacher)
  if defense.name == "saturated":
    return _saturated(defense.weight, model, steps)
  return _LOSSES[defense.name](defense)


def check(config: ConfigDict, model: nn.Module) -> None:
  """Raise ValueError if `config.defense` is unknown or does not fit."""
  defense = config.defense
  if not defense.name:
    return
  if defense.name not in (*NAMES, _TEACHER):
    known = ", ".join(NAMES)
    raise ValueError(
      f"train.defense.name={defense.name!r}: choose from {known}; '' for none"
    )
  for field in _CLASHING:
    if config[field]:
      raise ValueError(
        f"train.{field} does not go with train.defense: its losses take "
        "unmixed labels and whole images"
      )
  for field in ("epsilon", "sigma", "temperature", "weight"):
    if not 0 < defense[field] < float("inf"):
      raise ValueError(
        f"train.defense.{field}={defense[field]}: must be more than 0"
      )
  if defense.norm not in ("linf", "l2", "l1"):
    raise ValueError(
      f"train.defense.norm={defense.norm!r}: choose from linf, l2, l1"
    )
  if defense.name == "saturated" and not hasattr(model, "activation"):
    raise ValueError(
      "train.defense.name='saturated' needs a model whose layers have one "
      "`activation`: mlp or cnn"
    )


def needs_teacher(config: ConfigDict) -> bool:
  """Return whether another network has to be trained first."""
  return bool(config.defense.name == "distilled")


def of_teacher(config: ConfigDict) -> ConfigDict:
  """Return `config.train` of the teacher."""
  changed = config.copy_and_resolve_references()
  changed.defense.name = _TEACHER
  return changed


def _adversarial(name: str, *fields: str) -> Any:
  """Return the maker of an adversarial loss with some fields of a config."""
  function = getattr(adversarial_loss, name)

  def make(defense: ConfigDict) -> DefenseLoss:
    options = {f: defense[f] for f in ("epsilon", "norm", *fields)}

    def loss(
      forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
    ) -> jax.Array:
      start = {} if name == "fgsm" else {"rng": rng}
      found: jax.Array = function(
        forward.logits, images, labels, **options, **start
      )
      return found

    return loss

  return make


def _noise(defense: ConfigDict) -> DefenseLoss:
  def loss(
    forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
  ) -> jax.Array:
    noise = jax.random.normal(rng, images.shape, images.dtype)
    return cross_entropy(forward.logits(images + defense.sigma * noise), labels)

  return loss


def _discrete(defense: ConfigDict) -> DefenseLoss:
  def loss(
    forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
  ) -> jax.Array:
    del rng  # Nothing is random.
    rounded = defenses.discrete(forward.logits, levels=defense.levels)
    return cross_entropy(rounded(images), labels)

  return loss


def _hard(defense: ConfigDict) -> DefenseLoss:
  """Return the loss of a teacher."""

  def loss(
    forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
  ) -> jax.Array:
    del rng
    return defenses.distilled_loss(
      forward.logits(images), labels, defense.temperature
    )

  return loss


def _distilled(temperature: float, teacher: Any) -> DefenseLoss:
  def loss(
    forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
  ) -> jax.Array:
    del labels, rng  # The teacher's predictions are the labels.
    taught = forward.apply_fn(teacher, images)
    soft = defenses.soft_labels(jax.lax.stop_gradient(taught), temperature)
    return defenses.distilled_loss(forward.logits(images), soft, temperature)

  return loss


def _saturated(weight: float, model: Any, steps: int) -> DefenseLoss:
  def loss(
    forward: Forward, images: jax.Array, labels: jax.Array, rng: jax.Array
  ) -> jax.Array:
    del rng
    logits, before = forward.hidden(images)
    act = getattr(nn, model.activation)
    hidden = [act(x) for x in before]
    units = sum(x[0].size for x in hidden)
    # From 0 to the weight, or the network saturates before it learns.
    grown = weight * (forward.step.astype(jnp.float32) / steps)
    penalty = defenses.saturation(hidden, model.activation) / units
    return cross_entropy(logits, labels) + grown * penalty

  return loss


def _is_hidden(module: nn.Module, method: str) -> bool:
  is_layer = isinstance(module, nn.Dense | nn.Conv) and module.name != "head"
  return is_layer and method == "__call__"


_LOSSES: dict[str, Callable[[ConfigDict], DefenseLoss]] = {
  "fgsm": _adversarial("fgsm", "share"),
  "pgd": _adversarial("pgd", "steps"),
  "fast": _adversarial("fast"),
  "trades": _adversarial("trades", "steps", "beta"),
  "noise": _noise,
  "discrete": _discrete,
  _TEACHER: _hard,
}
NAMES = (*(n for n in _LOSSES if n != _TEACHER), "distilled", "saturated")
