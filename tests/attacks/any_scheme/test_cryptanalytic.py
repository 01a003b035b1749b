"""Extraction through hyperplanes: exact where the logits are straight."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.attacks import referee, registry, views
from keyjax.attacks.game import Attacker, Budget, Examples, Target
from keyjax.schemes import hpnn
from tests import trees

THIEF = Attacker(knows_scheme=False, has_locked=False, queries=12_000)
BIAS = nn.initializers.normal(0.3)


class Planted(nn.Module):
  """One hidden layer, which computes in the precision of its input."""

  activation: Callable[[jax.Array], jax.Array] = nn.relu
  depth: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.reshape(len(x), -1)
    for i in range(self.depth):
      name = f"dense_{i}"
      x = nn.Dense(8, dtype=x.dtype, bias_init=BIAS, name=name)(x)
      x = self.activation(x)
    return nn.Dense(4, dtype=x.dtype, bias_init=BIAS, name="head")(x)


def planted(model: nn.Module, scheme: keyjax.Scheme | None = None) -> Target:
  """Return an untrained network of 10 inputs, labelled by itself."""
  scheme = scheme or keyjax.identity()
  rng = np.random.default_rng(0)
  image = rng.random((64, 2, 5, 1)).astype(np.float32)
  params = jax.tree.map(
    lambda x: x if x.ndim > 1 else rng.normal(scale=0.3, size=x.shape),
    trees.fresh(model, image),
  )
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  secret = Secret(bytes(range(32)))  # Not a real secret.
  key = scheme.keygen(secret, params, {"image": jnp.asarray(image)})
  logits = scheme.bind(key, model.apply)(params, jnp.asarray(image))
  data = Examples(image, np.asarray(logits).argmax(-1))
  return Target(
    name="planted",
    scheme=scheme,
    key=key,
    params=params,
    locked=scheme.encrypt(key, params),
    apply_fn=model.apply,
    init=lambda rng: model.init(rng, jnp.asarray(image)),
    train=data,
    test=data,
  )


def played(target: Target, thief: Attacker = THIEF) -> referee.AttackResult:
  attack = registry.get("cryptanalytic")
  return referee.play(attack, target, thief, Budget())


def claim(target: Target) -> Any:
  seen = views.view(target, THIEF)
  attack = registry.get("cryptanalytic")
  return next(iter(attack.run(seen, Budget()))).value


def test_in_float64_the_copy_is_exact() -> None:
  target = planted(Planted())
  with jax.enable_x64(True):
    result = played(target)
  assert result.details["reason"] == ""
  assert result.details["neurons"] == result.details["hidden"] == 8
  assert result.details["signs"]
  assert result.details["max_difference"] < 1e-10
  assert result.score.value == 1
  assert 0 < result.cost.queries <= THIEF.queries


def test_in_float32_the_copy_has_the_oracles_labels() -> None:
  result = played(planted(Planted(), keyjax.deep_lock("counter")))
  assert result.score.value == 1 and result.details["agreement"] == 1
  assert result.details["max_difference"] < 1e-3 * result.details["deviation"]


def test_hpnn_is_recovered_with_its_signs() -> None:
  """The rows show the signs; together with the file they reveal the key."""
  model = Planted()
  target = planted(model, keyjax.hpnn(model.apply, units=8))
  copy = claim(target)
  assert copy is not None
  rows = np.asarray(copy.params.rows)
  rows = rows / np.linalg.norm(rows, axis=0)
  stolen = np.asarray(target.params["params"]["dense_0"]["kernel"])
  cosine = (stolen / np.linalg.norm(stolen, axis=0)).T @ rows
  best = np.take_along_axis(cosine, np.abs(cosine).argmax(1)[:, None], 1)[:, 0]
  assert np.abs(best).min() > 0.9999
  signs = target.key.signs("dense_0")
  np.testing.assert_array_equal(np.sign(best), signs)
  plain = hpnn.absorb(target.key, target.params)
  want = model.apply(plain, jnp.asarray(target.test.image))
  got = copy.apply_fn(copy.params, jnp.asarray(target.test.image))
  np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
  ("model", "queries", "reason"),
  [
    (Planted(nn.gelu), 12_000, "not piecewise linear"),
    (Planted(), 200, "queries ran out"),
    (Planted(depth=2), 12_000, "no MLP with one hidden layer"),
  ],
)
def test_it_states_why_it_makes_no_claim(
  model: nn.Module, queries: int, reason: str
) -> None:
  result = played(planted(model), Attacker(queries=queries))
  assert reason in result.details["reason"]
  assert result.score.value == 0
  assert result.cost.queries <= queries
