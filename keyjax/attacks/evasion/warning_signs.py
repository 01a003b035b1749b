"""Signs that robust accuracy is overestimated: AutoAttack's warnings.

Each function returns a dictionary of warnings by name, empty for none.
"""

from collections.abc import Callable

import jax
import numpy as np

from keyjax.attacks.evasion import checks

Flags = dict[str, str]

_RUNS = 5  # Of a model that may be random.
_SAME = 1e-4  # Largest difference of its outputs, scaled to length 1.
_GAIN = 0.002  # Accuracy that the black-box attack may take from the others.
_LEAST = {"apgd_dlr": 3, "apgd_t": 4}  # Classes that a loss needs.
_TARGETS = 9  # Wrong classes of targeted attacks.


def possible(
  names: tuple[str, ...], classes: int
) -> tuple[tuple[str, ...], Flags]:
  """Return the attacks that a number of classes allows."""
  kept = tuple(name for name in names if classes >= _LEAST.get(name, 2))
  flags = {}
  if kept != names:
    left = ", ".join(name for name in names if name not in kept)
    flags["classes"] = f"with {classes} classes there is no loss for {left}"
  elif classes <= _TARGETS and {"apgd_t", "fab_t"} & set(kept):
    flags["classes"] = (
      f"targeted attacks aim at {classes - 1} wrong classes, not {_TARGETS}"
    )
  if not kept:
    raise ValueError(f"no attack of {', '.join(names)} has a loss: {flags}")
  return kept, flags


def randomness(
  logits_fn: Callable[[jax.Array], jax.Array], inputs: jax.Array
) -> Flags:
  """Run a model several times, and compare."""
  runs = np.stack([np.asarray(logits_fn(inputs)) for _ in range(_RUNS)])
  runs = runs.astype(np.float64)
  scaled = runs / (np.linalg.norm(runs, axis=-1, keepdims=True) + 1e-10)
  spread = np.linalg.norm(scaled - scaled[:1], axis=-1).max()
  classes = runs.argmax(-1)
  if spread <= _SAME and (classes == classes[:1]).all():
    return {}
  return {
    "random": f"outputs of the same inputs differ by {spread:.2g}: pass a "
    "logits_fn of inputs and a PRNG key, randomized=True, version='rand'"
  }


def probabilities(logits: np.ndarray) -> Flags:
  """Look for outputs that are probabilities."""
  if not checks.are_probabilities(logits):
    return {}
  return {
    "probabilities": "logits_fn returns probabilities, whose gradients vanish: "
    "return the logits, before softmax"
  }


def zero_gradients(flat: np.ndarray) -> Flags:
  """Count gradients that are zero."""
  if not flat.any():
    return {}
  return {
    "zero_gradients": f"{flat.sum()} of {len(flat)} gradients are exactly 0: "
    "attacks along them cannot move; replace the flat parts in the backward "
    "pass, run version='plus' and more queries"
  }


def results(accuracy: dict[str, float], broken: np.ndarray) -> Flags:
  """Compare attacks: gradients should find what random search finds."""
  flags = {}
  if broken.any():
    flags["not_finite"] = (
      f"logits or gradients of {broken.sum()} of {len(broken)} examples were "
      "NaN or infinite: success means nothing there"
    )
  names = list(accuracy)
  if "square" not in names or names.index("square") < 2:
    return flags
  before = accuracy[names[names.index("square") - 1]]
  gain = before - accuracy["square"]
  if gain > _GAIN:
    flags["black_box"] = (
      f"random search lowers the accuracy by {gain:.2%} below the attacks "
      "along gradients: these are masked; run version='plus', more queries, or "
      "an adaptive attack"
    )
  return flags
