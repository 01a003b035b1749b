"""The file that is published, and what each key opens of it."""

import pathlib
import tempfile
from typing import Any

from experiments.capabilities.training import BASE, EXPERT, TIERS, WHOLE
from keyjax import tiers
from keyjax.keyring import HpkePrivateKey
from keyjax.tiers import Tier, Unlocked


def sealed(params: Any) -> tuple[Unlocked, Unlocked]:
  """Seal params in two tiers; return what everyone opens, and the owner.

  Both keys are new and are not kept. Attackers start from the former: no leaf
  of the expert is in it.

  Args:
    params: Params of a model with an expert.

  Raises:
    RuntimeError: If a key opened other tiers than its own.
  """
  owner = HpkePrivateKey.generate("mlkem768x25519")
  everyone = HpkePrivateKey.generate("x25519")
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "model"
    parts = [
      Tier(EXPERT, TIERS[EXPERT], [owner.public], opens=["base"]),
      Tier("base", TIERS["base"], [everyone.public]),
    ]
    tiers.save(path, params, parts)
    stolen, opened = (tiers.restore(path, x) for x in (everyone, owner))
  if stolen.present != BASE or opened.present != WHOLE:
    raise RuntimeError(f"opened {stolen.present} and {opened.present}")
  return stolen, opened
