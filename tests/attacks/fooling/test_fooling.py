"""Each search fools trained networks; what holds for all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, tree
from keyjax.attacks import fooling
from keyjax.defenses import saturation
from tests.attacks import toys
from tests.attacks.fooling import models

RNG = jax.random.key(0)
SHAPE = models.SHAPE
ENCODINGS = {
  "direct": fooling.direct(SHAPE),
  "cppn": fooling.cppn(SHAPE, hidden=(6,)),
}
SEARCHES = {
  "gradient": functools.partial(fooling.gradient_ascent, shape=SHAPE, steps=30),
  **{
    name: functools.partial(
      fooling.map_elites, encoding=encoding, generations=80, children=60
    )
    for name, encoding in ENCODINGS.items()
  },
}
each = pytest.mark.parametrize("name", SEARCHES)


@functools.cache
def compiled(name: str):
  """Return a search as a function of a network and an rng."""
  run = jax.jit(lambda net, rng: SEARCHES[name](net, rng=rng))
  return lambda net=None, rng=RNG: run(net or models.plain(), rng)


@each
def test_every_class_is_fooled_and_results_are_what_they_say(name):
  found = compiled(name)()
  rows, queries = {"gradient": (31, 310)}.get(name, (81, 81 * 60))
  assert found.inputs.shape == (10, *SHAPE) and found.curve.shape == (rows, 10)
  assert found.inputs.dtype == found.curve.dtype == jnp.float32
  assert found.inputs.min() >= 0 and found.inputs.max() <= 1
  probability = jnp.diagonal(jax.nn.softmax(models.plain()(found.inputs)))
  np.testing.assert_allclose(found.confidence, probability, rtol=1e-4)
  np.testing.assert_array_equal(found.curve[-1], found.confidence)
  assert (jnp.diff(found.curve, axis=0) >= 0).all()
  assert found.queries == queries and found.nonfinite == 0
  assert jnp.median(found.confidence) > 0.999 and found.confidence.min() > 0.95
  # It took a search: the start fools few classes.
  assert jnp.median(found.curve[0]) < 0.95


@each
def test_a_key_for_randomness_decides_everything(name):
  run = compiled(name)
  found, again, other = run(), run(), run(rng=jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, found, again)
  assert (found.inputs != other.inputs).any((1, 2, 3)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
  "name",
  [
    "direct",
    pytest.param("gradient", marks=pytest.mark.slow),
    pytest.param("cppn", marks=pytest.mark.slow),
  ],
)
def test_rngs_are_mapped(name):
  rngs = jax.random.split(RNG, 2)
  search = functools.partial(SEARCHES[name], models.linear)
  if name != "gradient":
    search = functools.partial(search, generations=10, children=20)
  many = jax.jit(jax.vmap(lambda rng: search(rng=rng)))(rngs)
  one = jax.jit(lambda rng: search(rng=rng))
  for i in range(2):
    found = jax.tree.map(lambda leaf, i=i: leaf[i], many)
    wanted = one(rngs[i])
    np.testing.assert_allclose(found.curve, wanted.curve, atol=1e-4)
    np.testing.assert_allclose(found.inputs, wanted.inputs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gradient", "direct"])
def test_eager_is_compiled(name):
  rng = jax.random.PRNGKey(3)  # A key of the old form, too.
  options = {} if name == "gradient" else {"generations": 5, "children": 12}
  search = functools.partial(SEARCHES[name], models.linear, **options)
  eager = search(rng=rng)
  wanted = jax.jit(lambda rng: search(rng=rng))(rng)
  same = functools.partial(np.testing.assert_allclose, atol=1e-5)
  jax.tree.map(same, eager, wanted)


@pytest.mark.slow
@each
def test_64_bits(name):
  with jax.enable_x64(True):
    w = jnp.asarray(models.weights(), jnp.float64)

    def model(x):
      return 4 * (x - 0.5).reshape(len(x), -1) @ w

    if name == "gradient":
      search = functools.partial(
        fooling.gradient_ascent, model, SHAPE, steps=5, dtype=jnp.float64
      )
    else:
      encoding = getattr(fooling, name)(SHAPE, dtype=jnp.float64)
      search = functools.partial(
        fooling.map_elites, model, encoding, generations=5
      )
    found = jax.jit(lambda rng: search(rng=rng))(jax.random.key(0))
    assert found.inputs.dtype == found.curve.dtype == jnp.float64
    assert found.queries.dtype == found.nonfinite.dtype == jnp.int32
    wanted = jnp.diagonal(jax.nn.softmax(model(found.inputs)))
    np.testing.assert_allclose(found.confidence, wanted, rtol=1e-10)


@each
def test_logits_that_are_not_finite_are_counted_and_never_a_champion(name):
  """The network breaks on images with a bright corner."""
  found = compiled(name)(models.plain()._replace(limit=0.6))
  assert 0 < found.nonfinite < found.queries
  champions = found.confidence > 0
  assert champions.any() and (found.inputs[champions, 0, 0, 0] <= 0.6).all()
  assert jnp.isfinite(found.curve).all()


@each
def test_a_network_that_is_never_finite_has_no_champion(name):
  found = compiled(name)(models.plain()._replace(limit=-1.0))
  assert found.nonfinite == found.queries
  assert not found.confidence.any() and not found.curve.any()
  assert jnp.isfinite(found.inputs).all()


def test_a_locked_model_is_fooled_with_its_key_and_without():
  """Through the key it is the plain model; the file alone is another one."""
  scheme = keyjax.deep_lock("counter")
  params = toys.trained()
  key = scheme.keygen(Secret.generate(), params, {})
  locked = scheme.encrypt(key, params)
  run = compiled("direct")
  opened = run(models.Net(scheme.decrypt(key, locked)))
  jax.tree.map(np.testing.assert_array_equal, opened, run())
  # Ciphertext has weights of any size: champions of the file are certain, or
  # its logits are not finite. They do not fool the model.
  stolen = run(models.Net(tree.as_floats(locked, params)))
  certain = jnp.diagonal(jax.nn.softmax(models.plain()(stolen.inputs)))
  assert stolen.nonfinite > 0 or stolen.confidence.max() == 1
  assert jnp.median(certain) < 0.5 < jnp.median(opened.confidence)


@pytest.mark.parametrize(
  "activation", ["sigmoid", pytest.param("relu", marks=pytest.mark.slow)]
)
def test_a_saturated_network_is_fooled_by_evolution(activation):
  net = models.saturated(activation)
  test = toys.digits()[1]
  right = net(jnp.asarray(test.image)).argmax(-1) == test.label
  assert right.mean() > 0.85
  far = saturation([net.hidden(jnp.asarray(test.image))], activation)
  assert far.mean() / 32 < (0.1 if activation == "sigmoid" else 0.3)
  found = compiled("direct")(net)
  assert jnp.median(found.confidence) > 0.99


def test_a_network_without_gradients_stops_ascent_but_not_evolution():
  net = models.plain()._replace(rounded=True)
  climbed = compiled("gradient")(net)
  np.testing.assert_array_equal(climbed.curve[0], climbed.curve[-1])
  evolved = compiled("direct")(net)
  assert jnp.median(climbed.confidence) < 0.5 < evolved.confidence.min()


@pytest.mark.slow
def test_a_search_runs_on_several_devices():
  """The children of a generation are judged on eight devices."""
  mesh = jax.make_mesh((8,), ("batch",))
  search = functools.partial(
    fooling.map_elites,
    encoding=ENCODINGS["direct"],
    generations=5,
    children=64,
    rng=RNG,
  )

  def sharded(x):
    return models.linear(jax.reshard(x, jax.P("batch")))

  wanted = search(models.linear)
  with jax.set_mesh(mesh):
    found = jax.jit(lambda: search(sharded))()
  np.testing.assert_allclose(found.curve, wanted.curve, atol=1e-5)


@pytest.mark.parametrize("name", ["gradient", "direct"])
def test_probabilities_are_refused(name):
  with pytest.raises(ValueError, match="probabilities"):
    SEARCHES[name](lambda x: jax.nn.softmax(models.linear(x)), rng=RNG)
  with pytest.raises(ValueError, match="expected"):
    SEARCHES[name](lambda x: x, rng=RNG)
