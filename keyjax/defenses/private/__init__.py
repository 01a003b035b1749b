"""Differentially private training (DP-SGD), its accountant and its audit.

    what is spent     `epsilon`, `noise_multiplier`, `Training`, `Guarantee`
    who is in a batch `poisson_rows`
    what is released  `clipped_sum`, `with_noise`, `noise_rng`
    is it true        `lower_bound`

Clipping, noise, sampling and the audit are those of jax-privacy, the accountant
is that of dp-accounting: `pip install 'keyjax[privacy]'`. A training step is in
`experiments.training.dp`.

Guarantees:
  A model that was trained with `clipped_sum` and `with_noise` on batches of
  `poisson_rows` is (epsilon, delta)-differentially private for one example more
  or less in its training set, as `Guarantee` states. So is whatever is computed
  from the model without the training set: a locked copy, its answers.

Known limits:
  - It is about one example: what many examples share is learned, and shown.
  - Noise is drawn in floats. Its low bits are not those of the real numbers
    that the proof is about (Mironov, "On significance of the least significant
    bits for differential privacy", CCS 2012).
  - Whoever has the secret of the noise can subtract it.
  - Several models that were trained on the same examples spend more together.

Reference:
  Abadi et al., "Deep learning with differential privacy", CCS 2016.
"""

from typing import TYPE_CHECKING

from keyjax import lazy

if TYPE_CHECKING:
  from keyjax.defenses.private.accountant import (
    Guarantee,
    Training,
    epsilon,
    noise_multiplier,
  )
  from keyjax.defenses.private.audit import lower_bound
  from keyjax.defenses.private.gradients import (
    clipped_sum,
    noise_rng,
    with_noise,
  )
  from keyjax.defenses.private.sampling import poisson_rows

__all__ = [
  "Guarantee",
  "Training",
  "clipped_sum",
  "epsilon",
  "lower_bound",
  "noise_multiplier",
  "noise_rng",
  "poisson_rows",
  "with_noise",
]

__getattr__, __dir__ = lazy.attach(
  __name__,
  {
    "accountant": ("Guarantee", "Training", "epsilon", "noise_multiplier"),
    "audit": ("lower_bound",),
    "gradients": ("clipped_sum", "noise_rng", "with_noise"),
    "sampling": ("poisson_rows",),
  },
)
