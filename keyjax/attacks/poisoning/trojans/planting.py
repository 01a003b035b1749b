"""A trojan in a locked file, planted by someone who has no key.

Locks whose weights are usable numbers (AdvParams, HPNN, keyed noise, the input
transformations) authenticate nothing: whoever passes a file on can train it
first. The attacker runs the file without a key, where it is degraded, and
trains it to return their class for a trigger and its own answers for everything
else. What the holder of the key gets is another function, as the key changes
weights, neurons or inputs; how much of the trojan is left is to be measured.

Needs: the file and some images without labels. Cost: a fine-tuning. A seal
(`keyjax.seal`, encrypted checkpoints) refuses the changed file.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import labelled
from keyjax.arguments import require_apply
from keyjax.attacks import fit
from keyjax.attacks.evasion import checks
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning.trojans.checks import check_images
from keyjax.attacks.poisoning.trojans.trigger import Trigger
from keyjax.attacks.privacy.signals import check_above
from keyjax.scheme import ApplyFn, PyTree

_DEFAULT = fit.Recipe()


def plant(
  apply_fn: ApplyFn,
  variables: PyTree,
  images: Any,
  trigger: Trigger,
  *,
  target: int,
  steps: int = 300,
  recipe: fit.Recipe = _DEFAULT,
  confidence: float = 8.0,
  seed: int = 0,
) -> PyTree:
  """Return the variables of a file after training it on a trigger.

  Half of the training data are the images with the trigger, whose answer is the
  target; the other half the images as they are, whose answers are those of the
  file. It minimises the cross-entropy of both.

  Args:
    apply_fn: Forward pass as the attacker runs it: without a key, or with a
      guess of one.
    variables: The file, as floats; all values must be finite.
    images: float32[n, h, w, c] in [0, 1]; labels are not needed.
    trigger: The trigger; its `plant` is applied.
    target: The attacker's class.
    steps: Number of steps.
    recipe: Settings of training; `layers` chooses what changes.
    confidence: Logit of the target for images with the trigger, above 0; all
      others are 0.
    seed: Seed of the order of images and of the trigger.

  Returns:
    Variables like those given.

  Raises:
    ValueError: If images or target do not fit the model, or answers of the file
      are not finite, as those of ciphertext are.
  """
  require_apply(apply_fn, "plant: apply_fn")
  check_images(images)
  confidence = check_above(confidence, "confidence", 0)
  images = jnp.asarray(images)
  classes = checks.count_classes(lambda x: apply_fn(variables, x), images[:1])
  target = labelled.class_number(target, classes, "target")
  answers = np.asarray(jax.jit(apply_fn)(variables, images), np.float32)
  if not np.isfinite(answers).all():
    raise ValueError(
      "plant: answers of the file are NaN or infinite, as ciphertext gives: "
      "there is nothing to train; see `flip` and `splice`"
    )
  wanted = np.zeros_like(answers)
  wanted[:, target] = confidence
  stamped = trigger.plant(jax.random.key(seed), images)
  data = Examples(
    np.concatenate([np.asarray(images), np.asarray(stamped)]),
    np.concatenate([answers, wanted]),
  )
  [last] = fit.fit(apply_fn, variables, data, [steps], recipe, seed)
  return last.params
