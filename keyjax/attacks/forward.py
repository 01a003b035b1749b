"""Forward passes of claimed models, over all devices of a process."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from keyjax import device_rows
from keyjax.attacks.game import Model
from keyjax.scheme import ApplyFn


# One compilation for each forward pass, not for each claim.
@functools.lru_cache(maxsize=16)
def _compiled(apply_fn: ApplyFn, mesh: Mesh | None) -> ApplyFn:
  return jax.jit(device_rows.each_device(apply_fn, mesh))


def logits(
  model: Model,
  images: np.ndarray,
  batch_size: int,
  devices: Sequence[jax.Device] | None = None,
) -> np.ndarray:
  """Return a model's logits, computed by all devices of this process.

  Args:
    model: Model whose logits of an image depend on no other image.
    images: float32[n, h, w, c], at least one.
    batch_size: Images of a call over all devices.
    devices: Some of this process's devices; all by default.
  """
  mesh = device_rows.over(devices)
  forward = _compiled(model.apply_fn, mesh)
  params = device_rows.copy_to(mesh, model.params)
  found = []
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    count = len(batch)
    if mesh:
      padding = [(0, -count % mesh.size), *[(0, 0)] * (batch.ndim - 1)]
      batch = np.pad(batch, padding)
    rows = device_rows.cut_rows(mesh, batch)
    found.append(np.asarray(forward(params, rows))[:count])
  return np.concatenate(found)
