"""Transfer: adversarial images from a model without the key, for one with it.

The question is whether a key defends the served model: the attacker changes
each pixel of each victim by at most epsilon, so that the *authorised* model
misclassifies it, and has gradients of another model only.

- `transfer_stolen`: the stolen file without the key; for input keys, the
  network on plain images;
- `transfer_tuned`: that file, fine-tuned on the attacker's images;
- `transfer_surrogate`: a fresh model, from those images or from queries;
- `transfer_keys`: for input keys, the mean gradient over random keys
  (`pixel_shuffle.transfer`);
- `transfer_with_key`: the authorised model itself. It shows how strong such an
  attack is without a lock; where it is below about 100 % at an epsilon, lower
  scores of the others mean little;
- `transfer_noise`: random signs of the same size, the floor.

The ascent is projected gradient ascent on the cross-entropy from the images and
from random starts, with the momentum of MI-FGSM as a setting. Of the restarts
the attacker takes, for each image, the one with the largest loss on *their*
model.

References:
  Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
  ICLR 2018 (PGD). Dong et al., "Boosting Adversarial Attacks with Momentum",
  CVPR 2018 (MI-FGSM). Athalye et al., "Synthesizing Robust Adversarial
  Examples", ICML 2018 (expectation over transformations), and "Obfuscated
  Gradients Give a False Sense of Security", ICML 2018 (gradients through steps
  that have none). Papernot et al., "Practical Black-Box Attacks against Machine
  Learning", AsiaCCS 2017 (substitutes). MaungMaung, Kiya, "Encryption Inspired
  Adversarial Defense", ICIP 2020, arXiv 2005.07998, and "Block-wise Image
  Transformation with Secret Key for Adversarially Robust Defense", IEEE TIFS
  16, 2021, arXiv 2010.00801 (input keys as a defence); MaungMaung, Echizen,
  Kiya, arXiv 2309.01620 (attacks that adapt to it).
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from keyjax.attacks import registry
from keyjax.attacks.any_scheme import fine_tune
from keyjax.attacks.any_scheme.ascent import Ball, ascend, cross_entropies
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import (
  Adversarial,
  Attacker,
  Budget,
  Claim,
  Cost,
  Examples,
  Goal,
  keyed,
)
from keyjax.attacks.views import View
from keyjax.scheme import ApplyFn, PyTree

EPSILON = 0.1
GRID = tuple({"momentum": m} for m in (0.0, 1.0))


@registry.register(
  "transfer_noise",
  Goal.TRANSFER,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, victims=1),
  condition="api",
)
def transfer_noise(
  view: View, budget: Budget, epsilon: float = EPSILON
) -> Iterator[Claim]:
  """Change every pixel by epsilon, up or down at random."""
  clean = _victims(view).image
  rng = np.random.default_rng([budget.seed, 3])
  signs = rng.choice(np.array([-1, 1], np.float32), clean.shape)
  image = np.clip(clean + np.float32(epsilon) * signs, 0, 1)
  yield Claim(Adversarial(image, epsilon), Cost(steps=1))


@registry.register(
  "transfer_stolen",
  Goal.TRANSFER,
  (registry.ANY,),
  Attacker(knows_scheme=False, victims=1),
  GRID,
)
def transfer_stolen(view: View, budget: Budget, **ball: Any) -> Iterator[Claim]:
  """Climb on the stolen file without the key; noise becomes fresh weights."""
  params, renewed = fine_tune.usable(view, budget.seed)
  more = {"renewed_leaves": renewed}
  yield from _climb(view, budget, params, view.apply_fn, Ball(**ball), more)


@registry.register(
  "transfer_tuned",
  Goal.TRANSFER,
  (registry.ANY,),
  Attacker(knows_scheme=False, images=1, victims=1),
  GRID,
)
def transfer_tuned(
  view: View,
  budget: Budget,
  train_steps: int = 200,
  learning_rate: float = 1e-3,
  **ball: Any,
) -> Iterator[Claim]:
  """Fine-tune the stolen file first, as `fine_tune`."""
  recipe = Recipe(learning_rate=learning_rate)
  start, renewed = fine_tune.usable(view, budget.seed)
  params = _train(view, start, view.data, train_steps, recipe)
  more = {"renewed_leaves": renewed, "train_steps": train_steps}
  yield from _climb(view, budget, params, view.apply_fn, Ball(**ball), more)


@registry.register(
  "transfer_surrogate",
  Goal.TRANSFER,
  (registry.ANY,),
  Attacker(knows_scheme=False, has_locked=False, images=1, victims=1),
  GRID,
  condition="api",
)
def transfer_surrogate(
  view: View,
  budget: Budget,
  train_steps: int = 300,
  learning_rate: float = 3e-3,
  **ball: Any,
) -> Iterator[Claim]:
  """Train a fresh model: on answers to queries if allowed, else on labels."""
  recipe = Recipe(learning_rate=learning_rate)
  data = view.data
  if view.oracle is not None:
    images = data.image[: view.oracle.left]
    data = Examples(images, view.oracle(images))
  start = view.init(jax.random.key(budget.seed))
  params = _train(view, start, data, train_steps, recipe)
  more = {"trained_on": len(data.label), "train_steps": train_steps}
  asked = 0 if view.oracle is None else view.oracle.used
  found = _climb(view, budget, params, view.apply_fn, Ball(**ball), more)
  for claim in found:
    yield claim._replace(cost=claim.cost._replace(queries=asked))


@registry.register(
  "transfer_with_key",
  Goal.TRANSFER,
  (registry.ANY,),
  Attacker(victims=1, has_key=True),
  GRID,
  condition="right",
)
def transfer_with_key(
  view: View, budget: Budget, **ball: Any
) -> Iterator[Claim]:
  """Climb on the authorised model, as the owner could."""
  assert view.scheme is not None
  forward = keyed(view.scheme, view.apply_fn)
  pair = (view.key, view.opened())
  yield from _climb(view, budget, pair, forward, Ball(**ball), {})


def _victims(view: View) -> Examples:
  assert view.victims is not None
  return view.victims


def _climb(
  view: View,
  budget: Budget,
  params: PyTree,
  forward: ApplyFn,
  ball: Ball,
  details: dict[str, Any],
) -> Iterator[Claim]:
  loss = cross_entropies(forward)
  yield from ascend(
    loss, lambda _: params, _victims(view), budget, ball, details
  )


def _train(
  view: View, start: PyTree, data: Examples, steps: int, recipe: Recipe
) -> PyTree:
  if not steps:
    return start
  return next(fit(view.apply_fn, start, data, [steps], recipe)).params
