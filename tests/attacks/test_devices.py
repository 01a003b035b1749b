"""Attacks and referees on several devices find what they find on one."""

from typing import Any

import jax
import numpy as np
import pytest

from keyjax import device_rows
from keyjax.attacks import fit, forward
from keyjax.attacks.game import Examples, Model
from tests import trees
from tests.attacks import toys

RNG = np.random.default_rng(0)
DATA = Examples(
  RNG.random((40, 8, 8, 1)).astype(np.float32),
  RNG.integers(0, 10, 40).astype(np.int32),
)
ONE = jax.devices()[:1]


@pytest.mark.parametrize("size", [40, 9, 3])
def test_devices_share_a_forward_pass(size: int) -> None:
  """9 does not divide 40, 8 does not divide 9, and 3 are fewer than devices."""
  model = Model(trees.variables(toys.NET, DATA.image[:1]), toys.NET.apply)
  want = forward.logits(model, DATA.image, 40, ONE)
  found = forward.logits(model, DATA.image, size)
  assert found.shape == (40, 10)
  np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_each_device_runs_its_own_rows() -> None:
  seen = []

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    seen.append(x.shape)  # Of one device.
    return x.reshape(len(x), -1)

  forward.logits(Model((), apply_fn), DATA.image, 40)
  assert {*seen} == {(5, 8, 8, 1)}


@pytest.mark.parametrize("count", [8, 3])
def test_devices_share_a_training_step(
  count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
  """With batch statistics of the whole batch; 3 do not divide it."""
  model = toys.Normed()
  start = trees.fresh(model, DATA.image[:1])
  placed = []
  cut_rows = device_rows.cut_rows

  def recorded(*args: Any) -> Any:
    placed.append(cut_rows(*args))
    return placed[-1]

  monkeypatch.setattr(device_rows, "cut_rows", recorded)
  recipe = fit.Recipe("sgd", 0.1, batch_size=16)
  one, shared = (
    [*fit.fit(model.apply, start, DATA, [1, 4], recipe, devices=devices)]
    for devices in (ONE, jax.devices()[:count])
  )
  for want, found in zip(one, shared, strict=True):
    assert found.flops == want.flops
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
      found.params,
      want.params,
    )
    assert {d for x in jax.tree.leaves(found.params) for d in x.devices()} == {
      *ONE
    }
  shares = [x[0].addressable_shards[0].data.shape[0] for x in placed]
  assert shares == [16] * 4 + [2 if count == 8 else 16] * 4
