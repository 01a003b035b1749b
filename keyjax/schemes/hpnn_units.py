"""Units of a matrix multiplier, and which neuron of a model runs on which."""

from typing import Any

import jax
import numpy as np

from keyjax import secrets
from keyjax.secrets import Secret

# Columns of a TPU's matrix unit, Google Cloud's "TPU architecture". The paper's
# array has 256, which other devices take as well: they have no such unit.
_COLUMNS = {"TPU v2": 128, "TPU v3": 128, "TPU v4": 128, "TPU v5": 128}


def matrix_units(device_kind: str | None = None) -> int:
  """Return the number of columns of a device's matrix unit: one key bit each.

  It is 128 for TPU v2 to v5, and 256 for later ones, for the array of the paper
  and for all devices without such a unit. The number only sizes the key: the
  signs are a multiplication in software, see `bind`.

  Args:
    device_kind: Kind of device as JAX names it; by default that of the first.

  Example:
    >>> matrix_units("TPU v5 lite"), matrix_units("TPU v6 lite")
    (128, 256)
  """
  kind = device_kind or jax.devices()[0].device_kind
  return next((n for k, n in _COLUMNS.items() if kind.startswith(k)), 256)


def schedule(
  secret: Secret, path: str, features: int, units: int
) -> np.ndarray:
  """Map the neurons of a layer to units: int32[features].

  Neurons run in waves of one per unit, each wave in its own order, so that
  units are used evenly.
  """
  waves = -(-features // units)
  orders = [
    secrets.permutation(secret, f"hpnn/schedule/{path}/{i}", units)
    for i in range(waves)
  ]
  return np.concatenate(orders)[:features]  # [waves * units] -> [features]


def used_units(key: Any) -> np.ndarray:
  """Return the units on which neurons of a key run, int32[at most units]."""
  return np.unique(np.concatenate([np.asarray(u) for u in key.units.values()]))
