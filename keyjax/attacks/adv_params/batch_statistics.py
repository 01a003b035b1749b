"""Batch-norm statistics of the attacker's own images."""

from collections.abc import Iterator

from keyjax.attacks import fit, registry
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View


@registry.register(
  "batch_statistics", Goal.FUNCTION, kernels.SCHEMES, Attacker(images=1)
)
def batch_statistics(view: View, budget: Budget) -> Iterator[Claim]:
  """Estimate batch-norm statistics again, without looking at labels."""
  stolen = view.stolen()
  if not fit.has_statistics(stolen):
    yield Claim(Model(stolen, view.apply_fn), details={"no_batch_norm": True})
    return
  estimated = fit.estimate(view.apply_fn, stolen, view.data.image)
  yield Claim(Model(estimated, view.apply_fn), Cost(steps=1))
