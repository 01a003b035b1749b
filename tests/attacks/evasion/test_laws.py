"""What holds for each attack that stays inside a ball."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.attacks import evasion
from tests.attacks import toys
from tests.attacks.evasion import models

RNG = jax.random.key(0)
EPSILON = {"linf": 0.02, "l2": 0.15, "l1": 0.6}
ATTACKS = {
  "fgsm": evasion.fgsm,
  "bim": functools.partial(evasion.bim, steps=4, momentum=1.0),
  "pgd": functools.partial(evasion.pgd, steps=4, restarts=2, rng=RNG),
  "apgd": functools.partial(evasion.apgd, steps=12, loss="dlr", rng=RNG),
  "apgd_targeted": functools.partial(
    evasion.apgd_targeted, steps=6, n_targets=2, rng=RNG
  ),
  "square": functools.partial(evasion.square, n_queries=40, rng=RNG),
  "fab": functools.partial(evasion.fab, steps=4, n_targets=2, rng=RNG),
}
# All norms of what moves in its own way; the others share its steps.
PAIRS = [(name, "linf") for name in ATTACKS]
PAIRS += [(x, "l2") for x in ("apgd", "square", "fab")]
PAIRS += [
  pytest.param(*pair, marks=pytest.mark.slow)
  for pair in (
    ("pgd", "l2"),  # `test_adversarial_loss` takes its steps in l2.
    *((x, "l1") for x in ("pgd", "apgd", "square", "fab")),
  )
]
each = pytest.mark.parametrize("name", ATTACKS)


@functools.cache
def compiled(name, norm="linf"):
  """Return an attack on a linear model as a function of its weights."""

  @jax.jit
  def run(x, y, w, epsilon):
    model = functools.partial(models.linear, w=w)
    return ATTACKS[name](model, x, y, norm=norm, epsilon=epsilon)

  def call(x, y, w=1.0, epsilon=EPSILON[norm]):
    return run(x, y, w * models.weights(), epsilon)

  return call


def same(found, wanted):
  np.testing.assert_array_equal(found.success, wanted.success)
  np.testing.assert_array_equal(found.queries, wanted.queries)
  np.testing.assert_allclose(found.inputs, wanted.inputs, atol=1e-5)


@pytest.mark.parametrize("name, norm", PAIRS)
def test_changes_stay_inside_and_results_are_what_they_say(name, norm):
  x, y = models.inputs(), models.labels().at[0].add(-1)  # One label is wrong.
  found = compiled(name, norm)(x, y)
  size = evasion.problem.sizes(found.inputs - x, norm)
  assert size.max() <= EPSILON[norm] + 1e-6
  assert found.inputs.min() >= 0 and found.inputs.max() <= 1
  np.testing.assert_allclose(found.distance, size, atol=1e-6)
  right = models.linear(found.inputs).argmax(-1) == y
  np.testing.assert_array_equal(found.success, ~right)
  assert found.success[0] and found.distance[0] == 0
  assert found.finite.all() and (found.queries >= 1).all()
  assert found.inputs.dtype == x.dtype and found.queries.dtype == jnp.int32


@each
def test_unusual_models_and_balls(name):
  x, y = models.inputs(), models.labels()
  run = compiled(name)
  # An example depends on no other.
  found, wanted = run(x.at[4:].set(0.5), y), run(x, y)
  same(*(jax.tree.map(lambda leaf: leaf[:4], r) for r in (found, wanted)))
  # A ball that holds the box.
  found = run(x, y, epsilon=10.0)
  assert found.success.all() and found.distance.max() <= 1
  # No gradients.
  found = run(x, jnp.full_like(y, 9), w=0.0)
  assert not found.success.any() and found.finite.all()
  # Logits that are not finite.
  found = run(x, y, w=np.nan)
  assert not found.success.any() and not found.finite.any()
  np.testing.assert_array_equal(found.inputs, x)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(
      name, marks=[] if name in ("apgd", "square") else [pytest.mark.slow]
    )
    for name in ATTACKS
  ],
)
def test_inputs_can_be_sharded(name):
  x, y = models.inputs(), models.labels()
  wanted = compiled(name)(x, y)
  axis = jax.sharding.AxisType.Explicit
  mesh = jax.make_mesh((8,), ("batch",), axis_types=(axis,))
  with jax.set_mesh(mesh):
    spread = jax.sharding.NamedSharding(mesh, jax.P("batch"))
    found = compiled(name)(*jax.device_put((x, y), spread))
    assert found.inputs.sharding.is_equivalent_to(spread, x.ndim)
  same(found, wanted)


@each
@pytest.mark.parametrize("norm", EPSILON)
def test_64_bits(name, norm):
  """Trace it alone: what does not promote is an error there."""

  def model(x):
    return models.linear(x.astype(jnp.float32)).astype(jnp.float64)

  with jax.enable_x64(True):
    x, y = models.inputs().astype(jnp.float64), models.labels()
    found = jax.eval_shape(
      lambda x: ATTACKS[name](model, x, y, norm=norm, epsilon=0.1), x
    )
    assert found.inputs.dtype == found.distance.dtype == jnp.float64
    assert found.success.dtype == bool and found.queries.dtype == jnp.int32


@pytest.mark.parametrize("name", ["bim", "square"])
def test_eager_is_compiled(name):
  x, y = models.inputs(), models.labels()
  found = ATTACKS[name](
    models.linear, np.asarray(x), np.asarray(y, np.uint8), epsilon=0.02
  )
  same(found, compiled(name)(x, y))


def test_axes_of_a_mesh_can_be_automatic():
  x, y = models.inputs(), models.labels()
  mesh = jax.make_mesh((8,), ("batch",))
  spread = jax.sharding.NamedSharding(mesh, jax.P("batch"))
  found = compiled("apgd")(*jax.device_put((x, y), spread))
  same(found, compiled("apgd")(x, y))


def test_random_keys_are_mapped():
  x, y = models.inputs(), models.labels()
  rngs = jax.random.split(RNG, 2)

  def run(rng):
    return evasion.apgd(
      models.linear, x, y, epsilon=0.02, steps=12, loss="dlr", rng=rng
    )

  many = jax.jit(jax.vmap(run))(rngs)
  one = jax.jit(run)
  for i in range(2):
    found, wanted = jax.tree.map(lambda leaf, i=i: leaf[i], many), one(rngs[i])
    np.testing.assert_array_equal(found.success, wanted.success)
    # Products in another order: a gradient near 0 may have the other sign.
    assert (jnp.abs(found.inputs - wanted.inputs) > 1e-5).mean() < 0.01


@pytest.mark.slow
def test_one_pixel_of_one_example():
  x, y = jnp.full((1, 1), 0.5), jnp.asarray([0])

  def model(x):
    return jnp.concatenate([x * 4, 1 + x, -x, -x], -1)

  for name in ("pgd", "square", "fab"):
    found = ATTACKS[name](model, x, y, epsilon=0.4)
    assert found.success.all() and found.inputs < 1 / 3


@each
def test_wrong_arguments_are_refused(name):
  x, y = models.inputs(), models.labels()
  run = functools.partial(ATTACKS[name], models.linear)
  with pytest.raises(ValueError, match="epsilon is 0"):
    run(x, y, epsilon=0.0)
  with pytest.raises(ValueError, match="norm is 'l0'"):
    run(x, y, epsilon=0.1, norm="l0")
  with pytest.raises(ValueError, match="outside the bounds"):
    run(x * 255, y, epsilon=0.1)
  with pytest.raises(ValueError, match="probabilities"):
    ATTACKS[name](lambda x: jax.nn.softmax(models.linear(x)), x, y, epsilon=0.1)


def test_gradients_that_are_not_finite_are_an_error():
  x, y = models.inputs(), jnp.zeros(8, jnp.int32)

  def model(x):  # 0 / 0 in the gradient of the root.
    flat = jnp.sqrt(jnp.maximum(x - 2, 0)).sum((1, 2, 3))[:, None]
    return jnp.concatenate([flat + 3, flat, flat - 2, flat - 4], -1)

  with pytest.raises(ValueError, match="fgsm: .* of 8 of 8 examples"):
    evasion.fgsm(model, x, y, epsilon=0.1)


@pytest.mark.slow
def test_a_locked_model_is_attacked_through_its_key():
  scheme = keyjax.deep_lock("counter")
  params = toys.trained()
  key = scheme.keygen(Secret.generate(), params, {})
  locked = scheme.encrypt(key, params)
  apply_fn = keyjax.authorize(scheme, key, toys.NET.apply)
  x, y = models.digits(8)
  run = functools.partial(evasion.fgsm, inputs=x, labels=y, epsilon=0.1)
  same(run(lambda x: apply_fn(locked, x)), run(models.net))
