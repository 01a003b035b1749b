"""Mutations against their distributions, and networks that draw by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from keyjax.attacks import fooling
from keyjax.attacks.fooling import Encoding, Pattern, polynomial_mutation

RNG = jax.random.key(0)


@pytest.mark.parametrize("eta", [0.0, 2.0, 15.0])
def test_polynomial_mutation_has_its_density(eta):
  """P(|d| <= s) = 1 - (1 - s)^(eta + 1), by a test that rejects another eta."""
  box = (-3.0, 1.0)
  middle = jnp.full(4000, -1.0)
  moved = polynomial_mutation(RNG, middle, eta=eta, bounds=(-5.0, 3.0))
  d = np.asarray(moved - middle) / 8
  inside = polynomial_mutation(RNG, middle, eta=eta, bounds=box)
  assert inside.min() >= -3 and inside.max() <= 1

  def distribution(s, eta):
    return 1 - (1 - s) ** (eta + 1)

  # Changes of more than half the width are clipped, equally on both sides.
  def p_value(eta):
    size = np.abs(d)
    whole = size[size < 0.5]
    cut = distribution(0.5, eta)
    return scipy.stats.kstest(
      whole, lambda s: distribution(s, eta) / cut
    ).pvalue

  assert p_value(eta) > 0.01 > 1e-6 > p_value(eta + 1 + eta / 4)
  assert scipy.stats.binomtest(int((d > 0).sum()), d.size).pvalue > 0.01
  half = (np.abs(d) > 0.4999).sum()
  assert (
    scipy.stats.binomtest(int(half), d.size, 0.5 ** (eta + 1)).pvalue > 0.01
  )


def test_values_at_the_bounds_stay_inside():
  ends = jnp.asarray([0.0, 1.0] * 500)
  moved = polynomial_mutation(RNG, ends)
  assert moved.min() == 0 and moved.max() == 1
  assert 0.4 < (moved == ends).mean() < 0.6


def test_the_rate_of_mutated_pixels_is_halved():
  encoding = fooling.direct((100, 100), rate=0.2, half_life=10)
  image = encoding.draw(RNG)
  assert scipy.stats.kstest(np.ravel(image), "uniform").pvalue > 0.01
  for generation, rate in ((0, 0.2), (9, 0.2), (10, 0.1), (35, 0.025)):
    mutant = encoding.mutate(RNG, image, jnp.int32(generation))
    changed = int((mutant != image).sum())
    assert scipy.stats.binomtest(changed, 10_000, rate).pvalue > 0.01


def test_a_pattern_mutates_at_its_rates():
  encoding = fooling.cppn(
    (2, 2, 3), hidden=(60, 60), activation_rate=0.4, strength=0.5
  )
  old = jax.jit(encoding.draw)(RNG)
  new = jax.jit(encoding.mutate)(jax.random.key(1), old, jnp.int32(0))
  # The first layer sees four coordinates; the others see them as well.
  assert [w.shape for w in old.weights] == [(4, 60), (64, 60), (64, 3)]
  step = np.concatenate(
    [np.ravel(b - a) for a, b in zip(old.weights, new.weights, strict=True)]
  )
  moved = step[step != 0]
  assert scipy.stats.binomtest(moved.size, step.size, 0.3).pvalue > 0.01
  assert scipy.stats.kstest(moved / 0.5, "norm").pvalue > 0.01
  before, after = (np.concatenate(x.activations) for x in (old, new))
  kinds = np.bincount(before, minlength=4)
  assert kinds.size == 4 and scipy.stats.chisquare(kinds).pvalue > 0.01
  # One in four draws the same activation.
  changed = int((before != after).sum())
  assert scipy.stats.binomtest(changed, 120, 0.4 * 3 / 4).pvalue > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pattern_is_the_function_of_its_coordinates(channels):
  height, width = 3, 5
  encoding = fooling.cppn((height, width, channels), hidden=(4,))
  drawn = jax.jit(encoding.draw)(RNG)
  pattern = Pattern(drawn.weights, (jnp.asarray([0, 1, 2, 3], jnp.int32),))
  first, last = (np.asarray(w, np.float64) for w in pattern.weights)
  image = np.zeros((height, width, channels))
  for i, y in enumerate(np.linspace(-1, 1, height)):
    for j, x in enumerate(np.linspace(-1, 1, width)):
      seen = np.array([x, y, np.hypot(x, y), 1])
      a, b, c, d = seen @ first
      hidden = [np.sin(a), np.tanh(b), np.exp(-(c**2)), 1 / (1 + np.exp(-d))]
      image[i, j] = 1 / (1 + np.exp(-np.array([*hidden, *seen]) @ last))
  np.testing.assert_allclose(
    jax.jit(encoding.decode)(pattern), image, rtol=1e-5
  )
  wide = fooling.cppn(
    (height, width, channels), hidden=(4,), bounds=(-1.0, 3.0)
  )
  np.testing.assert_allclose(
    jax.jit(wide.decode)(pattern), 4 * image - 1, atol=1e-5
  )


def test_any_encoding_will_do():
  """A child takes over every niche that it is better in; others stay."""
  count = Encoding(
    draw=lambda rng: {"steps": jnp.zeros((), jnp.float32)},
    mutate=lambda rng, genome, generation: {"steps": genome["steps"] + 1},
    decode=lambda genome: genome["steps"][None],
  )

  def model(x):  # Class 0 wants many steps, class 1 none.
    return jnp.concatenate([x, -x], -1)

  found = jax.jit(
    lambda rng: fooling.map_elites(
      model, count, generations=6, children=16, rng=rng
    )
  )(RNG)
  assert found.inputs.tolist() == [[6.0], [0.0]]
  np.testing.assert_allclose(
    found.curve[:, 0], jax.nn.sigmoid(2 * jnp.arange(7.0)), rtol=1e-5
  )
  np.testing.assert_array_equal(found.curve[:, 1], 0.5)


@pytest.mark.slow
def test_ascent_follows_the_gradient_of_its_objective():
  """Plain steps of log p - l2 |x|^2, by hand; sign steps have one size."""
  w = jnp.asarray([[1.0, -1.0], [0.5, -2.0], [0.0, 0.0]])

  def model(x):
    return x @ w

  ascend = functools.partial(
    fooling.gradient_ascent, model, (3,), steps=1, step_size=0.1, rng=RNG
  )
  start = jax.vmap(lambda rng: jax.random.uniform(rng, (3,)))(
    jax.vmap(jax.random.fold_in, (None, 0))(RNG, jnp.arange(2, dtype=jnp.int32))
  )
  slope = jax.grad(
    lambda x: (
      jnp.diagonal(jax.nn.log_softmax(model(x))).sum() - 0.1 * (x**2).sum()
    )
  )(start)
  plain = ascend(step="plain", l2=0.1)
  np.testing.assert_allclose(
    plain.inputs, jnp.clip(start + 0.1 * slope, 0, 1), atol=1e-6
  )
  sign = ascend()
  moved = jnp.where(w.T == 0, 0, jnp.sign(w.T - w.T[::-1]))
  np.testing.assert_allclose(
    sign.inputs, jnp.clip(start + 0.1 * moved, 0, 1), atol=1e-6
  )


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: fooling.direct((0, 8)), r"shape is \(0, 8\)"),
    (lambda: fooling.direct((8, 8), rate=0.0), "rate 0.0"),
    (lambda: fooling.direct((8, 8), half_life=0), "half_life 0"),
    (lambda: fooling.direct((8, 8), eta=-1.0), "eta -1"),
    (lambda: fooling.direct((8, 8), bounds=(1.0, 0.0)), "bounds are"),
    (lambda: fooling.cppn((8, 8)), "height, width and"),
    (lambda: fooling.cppn((8, 8, 1), hidden=(0,)), "1 or more units"),
    (lambda: fooling.cppn((8, 8, 1), weight_rate=2.0), "weight_rate 2"),
    (lambda: fooling.cppn((8, 8, 1), strength=0.0), "strength 0"),
    (lambda: _ascend(steps=0), "steps 0"),
    (lambda: _ascend(step_size=0.0), "step_size 0"),
    (lambda: _ascend(l2=-1.0), "l2 -1"),
    (lambda: _ascend(step="newton"), "step is 'newton'"),
    (lambda: _evolve(generations=0), "generations 0"),
    (lambda: _evolve(children=0), "children 0"),
  ],
)
def test_wrong_arguments_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def _ascend(**options):
  return fooling.gradient_ascent(lambda x: x, (3,), rng=RNG, **options)


def _evolve(**options):
  encoding = fooling.direct((3,))
  return fooling.map_elites(lambda x: x, encoding, rng=RNG, **options)
