"""The laws, for schemes that bind the forward pass."""

import functools
from typing import Any

import chex
import jax
import numpy as np
import pytest

import keyjax
from keyjax import Scheme, Secret, laws
from keyjax.schemes.feature_permutation import feature_permutation
from tests import trees
from tests.law_cases import BATCH, IMAGES, Net, stack

pytestmark = [
  pytest.mark.laws,
  # A small key may be that of the plain model.
  pytest.mark.filterwarnings("ignore:.*the key of this secret changes nothing"),
]


BOUND_SCHEMES = {
  "hpnn": lambda: keyjax.hpnn(Net().apply, units=16),
  "feature_permutation": lambda: feature_permutation(Net().apply),
  "shf": lambda: keyjax.pixel_shuffle("shf", 2),
  "np": lambda: keyjax.pixel_shuffle("np", 2),
  "ffx": lambda: keyjax.pixel_shuffle("ffx", 2),
  "shf_hpnn_deep_lock": lambda: keyjax.chain(
    keyjax.pixel_shuffle("shf", 4),
    keyjax.hpnn(Net().apply),
    keyjax.deep_lock(),
  ),
}


@functools.cache
def bound_setup(name: str) -> tuple[Scheme, Any, list[Any], list[Any]]:
  scheme = BOUND_SCHEMES[name]()
  variables = trees.fresh(Net(), IMAGES)
  made = [scheme.keygen(Secret.generate(), variables, BATCH) for _ in range(8)]
  return scheme, variables, made, [scheme.encrypt(k, variables) for k in made]


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_1_bound_schemes_keep_or_restore_params(name: str) -> None:
  scheme, variables, made, locked = bound_setup(name)
  trees.assert_same_bits(scheme.decrypt(made[0], locked[0]), variables)


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_4_bound_passes(name: str) -> None:
  scheme, variables, made, locked = bound_setup(name)

  def forward(key: Any, params: Any) -> jax.Array:
    return keyjax.authorize(scheme, key, Net().apply)(params, IMAGES)

  eager = [forward(k, p) for k, p in zip(made, locked, strict=True)]
  jitted = jax.jit(forward)
  stacked = stack(*made), stack(*locked)
  by_vmap = np.asarray(jax.jit(jax.vmap(forward))(*stacked))
  by_pmap = np.asarray(jax.pmap(forward)(*stacked))
  for i, one in enumerate(eager):
    for other in (jitted(made[i], locked[i]), by_vmap[i], by_pmap[i]):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  assert np.ptp(by_vmap, axis=0).max() > 0


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_5_one_compilation_serves_every_key(name: str) -> None:
  chex.clear_trace_counter()
  scheme, _, made, locked = bound_setup(name)
  forward = jax.jit(
    chex.assert_max_traces(
      lambda k, p: keyjax.authorize(scheme, k, Net().apply)(p, IMAGES), 1
    )
  )
  for key, params in zip(made, locked, strict=True):
    forward(key, params)


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_laws_check_passes_for_bound_schemes(name: str) -> None:
  absorb = keyjax.absorb if name == "hpnn" else None
  laws.check(
    BOUND_SCHEMES[name](),
    bound_setup(name)[1],
    BATCH,
    apply_fn=Net().apply,
    absorb=absorb,
  )
