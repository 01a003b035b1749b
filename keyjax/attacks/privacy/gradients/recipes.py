"""How examples are searched whose gradient was observed.

    DLG         squared distance by L-BFGS, images and labels together
    IDLG        the same with known labels; see `labels`
    INVERTING   cosine distance and total variation, Adam on signs of gradients

Sources: see the package.
"""

from typing import NamedTuple

from keyjax.arguments import require_choice, whole_number
from keyjax.attacks.privacy import signals

_OPTIMIZERS = ("adam", "lbfgs")
_DISTANCES = ("cosine", "squared")


class Recipe(NamedTuple):
  """How examples are searched.

  Attributes:
    optimizer: `adam` or `lbfgs`.
    distance: `cosine` or `squared`, of gradients.
    steps: Number of steps.
    rate: Initial step size of Adam; L-BFGS searches along a line.
    signed: Whether Adam gets the sign of the gradient.
    variation: Weight of the mean absolute difference of neighbouring pixels.
    restarts: Number of searches.
  """

  optimizer: str
  distance: str
  steps: int
  rate: float = 0.1
  signed: bool = False
  variation: float = 0.0
  restarts: int = 4

  def check(self) -> None:
    """Raise a ValueError that names a setting which is wrong."""
    require_choice(self.optimizer, "optimizer", _OPTIMIZERS)
    require_choice(self.distance, "distance", _DISTANCES)
    whole_number(self.steps, "steps")
    whole_number(self.restarts, "restarts")
    signals.check_above(self.rate, "rate", 0)
    if self.variation != 0:
      signals.check_above(self.variation, "variation", 0)


DLG = Recipe("lbfgs", "squared", steps=300)
IDLG = DLG
INVERTING = Recipe("adam", "cosine", 1000, 0.1, signed=True, variation=1e-3)
