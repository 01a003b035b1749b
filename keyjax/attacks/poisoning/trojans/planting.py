"""A trojan in a locked file, planted by someone who has no key.

Locks whose weights are usable numbers (AdvParams, HPNN, keyed noise, the input
transformations) authenticate nothing: whoever passes a file on can train it
first. The attacker runs the file without a key, where it is degraded, and
trains it to return their class for a trigger and its own answers for everything
else. What the holder of the key gets is another function, as the key changes
weights, neurons or inputs; how much of the trojan is left is to be measured.

An attacker who knows the scheme does better. AdvParams: weights far outside the
range of their layer are what the lock changed; they are 0 while the rest is
trained, and are in the file again afterwards (`outliers`). HPNN and input
transformations: a trojan is trained under many random keys (`over_keys`), and
more of it is left under the right one. A bright block is the same in every
order of its pixels.

Needs: the file and some images without labels. Cost: a fine-tuning. A seal
(`keyjax.seal`, encrypted checkpoints) refuses the changed file.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import labelled
from keyjax.arguments import require_apply
from keyjax.attacks import fit
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.adv_params.outliers import far_weights
from keyjax.attacks.evasion import checks, keyed
from keyjax.attacks.game import Examples
from keyjax.attacks.poisoning.trojans.checks import check_images
from keyjax.attacks.poisoning.trojans.trigger import Trigger
from keyjax.attacks.privacy.signals import check_above
from keyjax.scheme import ApplyFn, Key, PyTree, Scheme, binds

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
  keep: PyTree = None,
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
    keep: Tree of bool like the variables, such as `outliers`: these weights
      are 0 while the others are trained, and are returned as they were. None
      for none.
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
  images, file, mask = jnp.asarray(images), variables, None
  if keep is not None:
    _check_keep(keep, file)
    mask = jax.tree.map(lambda k: jnp.asarray(~k, jnp.float32), keep)
    variables = jax.tree.map(lambda k, x: jnp.where(k, 0, x), keep, file)
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
  [last] = fit.fit(apply_fn, variables, data, [steps], recipe, seed, mask)
  if keep is None:
    return last.params
  return jax.tree.map(
    lambda k, x, y: jnp.where(k, y, x), keep, last.params, file
  )


def outliers(variables: PyTree, spread: float = 3.0) -> PyTree:
  """Return which weights of kernels are far outside the range of their layer.

  Args:
    variables: The file, as floats.
    spread: Number of interquartile ranges beyond the quartiles.

  Returns:
    A tree of bool arrays like the variables.

  Example:
    >>> found = outliers({"kernel": jnp.asarray([1.0, 2, 3, 4, 5, 6, 99])})
    >>> found["kernel"].tolist()
    [False, False, False, False, False, False, True]
  """
  spread = check_above(spread, "spread", 0)
  searched = set(kernels.indices(variables))
  leaves, treedef = jax.tree.flatten(variables)
  found = [
    far_weights(np.asarray(x, np.float32), spread)[0]
    if i in searched
    else np.zeros(np.shape(x), bool)
    for i, x in enumerate(leaves)
  ]
  return jax.tree.unflatten(treedef, found)


def over_keys(
  scheme: Scheme, apply_fn: ApplyFn, keys: Sequence[Key]
) -> ApplyFn:
  """Return a pass whose logits are a mean over keys, as for `plant`.

  Args:
    scheme: Scheme of the file, known to the attacker, that binds a key.
    apply_fn: Plain forward pass.
    keys: Keys of one shape, such as random ones.

  Raises:
    ValueError: If there are no keys, or the scheme binds none.
  """
  if not binds(scheme):
    raise ValueError(
      "over_keys: the scheme acts on weights alone, not in a pass"
    )
  every = keyed.stacked(keys)

  def mean(variables: PyTree, images: jax.Array, **options: Any) -> jax.Array:
    def one(key: Key) -> jax.Array:
      found: jax.Array = scheme.bind(key, apply_fn)(
        variables, images, **options
      )
      return found

    return jax.vmap(one)(every).mean(0)

  return mean


def _check_keep(keep: PyTree, variables: PyTree) -> None:
  """Raise ValueError unless `keep` is bool, with the shapes of variables."""
  ours, theirs = map(jax.tree.structure, (keep, variables))
  pairs = zip(jax.tree.leaves(keep), jax.tree.leaves(variables), strict=False)
  if str(ours) != str(theirs) or any(
    np.shape(k) != np.shape(x) or np.asarray(k).dtype != np.bool_
    for k, x in pairs
  ):
    raise ValueError("keep: pass bool arrays in a tree like the variables")
