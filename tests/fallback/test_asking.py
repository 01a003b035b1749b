"""`ask`, its rules, and confidences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import keyjax
from keyjax import Secret, fallback, seal

CONFIDENCES = (
  fallback.max_softmax,
  fallback.margin,
  fallback.negative_entropy,
  fallback.negative_energy,
  fallback.best_over_deferral,
)
SURE = fallback.unless(fallback.max_softmax, above=0.9)
PARAMS = {"w": jnp.float32([[0.0, 4.0]])}
INPUTS = jnp.float32([[1.0], [0.1]])


def linear(params, x):
  return x @ params["w"]


def confidences(logits):
  return [confidence(logits) for confidence in CONFIDENCES]


def test_confidences_rank_and_reject():
  logits = jnp.asarray([[9.0, 1.0, 0.0], [1.5, 1.0, 0.0], [jnp.nan, 0.0, 0.0]])
  run = jax.jit(confidences)
  each = jax.jit(jax.vmap(confidences))(logits)
  for found, one in zip(run(logits), each, strict=True):
    assert found.shape == (3,) and found[0] > found[1]
    assert found[2] == -jnp.inf
    np.testing.assert_allclose(one, found, rtol=1e-6)
  # One class that is ruled out is not finite either; more axes; less precision.
  odd = jnp.stack([logits, logits.at[0, 1].set(-jnp.inf)])
  for found in run(odd.astype(jnp.bfloat16)):
    assert found.shape == (2, 3) and found.dtype == jnp.float32
    assert found[1, 0] == -jnp.inf and found[0, 0] > found[0, 1]


def test_confidences_are_what_they_say():
  logits = np.asarray([2.0, 1.0, 0.0], np.float32)
  p = np.exp(logits) / np.exp(logits).sum()
  wanted = [
    p[0],
    p[0] - p[1],
    -scipy.stats.entropy(p),
    np.log(np.exp(logits).sum()),
    2.0,
  ]
  found = jax.jit(confidences)(logits)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_where_it_is_sure_it_answers_with_the_same_logits():
  logits, asked = fallback.ask(linear, SURE)(PARAMS, INPUTS)
  np.testing.assert_array_equal(logits, linear(PARAMS, INPUTS))
  assert asked.tolist() == [False, True] and asked.dtype == bool


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_logits_that_are_not_finite_ask(bad):
  def never(logits):
    return jnp.zeros(logits.shape[:-1], bool)

  asked = fallback.ask(linear, never)(PARAMS, INPUTS.at[0].set(bad)).ask
  assert asked.tolist() == [True, False]


def test_a_confidence_that_is_nan_asks():
  rule = fallback.unless(lambda logits: logits[..., 0] / 0, above=0.0)
  assert rule(jnp.zeros((2, 3))).all()


def shuffled(inside):
  """Return a model under a lock, as a function of key and threshold."""
  scheme = keyjax.pixel_shuffle("shf", 2)
  draw = np.random.default_rng(0)
  image = draw.uniform(size=(8, 2, 2, 1)).astype(np.float32)
  params = 9 * draw.normal(size=(4, 3)).astype(np.float32)
  keys = [
    scheme.keygen(Secret.generate(), params, {"image": image}) for _ in range(3)
  ]

  def model(params, x):
    return x.reshape(len(x), -1) @ params

  def forward(key, threshold):
    rule = fallback.unless(fallback.max_softmax, above=threshold)
    if inside:
      asking = keyjax.authorize(scheme, key, fallback.ask(model, rule))
    else:
      asking = fallback.ask(keyjax.authorize(scheme, key, model), rule)
    return asking(params, image)

  return forward, keys


@pytest.mark.parametrize("inside", [False, True])
def test_under_a_lock_jit_and_vmap_agree(inside):
  """`ask` outside `authorize` or inside, in one compilation for all keys."""
  forward, keys = shuffled(inside)
  traced = []

  @jax.jit
  def compiled(key, threshold):
    traced.append(True)
    return forward(key, threshold)

  assert [compiled(keys[0], x).ask.sum() for x in (0.0, 1.0)] == [0, 8]
  middle = np.median(fallback.max_softmax(compiled(keys[0], 0.0).logits))
  found = [compiled(key, float(middle)) for key in keys]
  assert len(traced) == 1 and found[0].ask.sum() == 4
  stacked = jax.tree.map(lambda *x: np.stack(x), *keys)
  many = jax.jit(jax.vmap(forward, (0, None)))(stacked, float(middle))
  for i, one in enumerate(found):
    np.testing.assert_allclose(many.logits[i], one.logits, rtol=1e-5)
    np.testing.assert_array_equal(many.ask[i], one.ask)


def test_the_tag_decides_first():
  """Inside `jit`; on the host a wrong key is an error, and nothing runs."""
  secret = Secret.generate()
  data = np.asarray(PARAMS["w"]).reshape(-1).view(np.uint8)
  key = secret.derive("test", 32)
  sealed = np.frombuffer(seal.seal(key, data.tobytes()), np.uint8)
  salt = sealed[: seal.SALT_BYTES].tobytes()

  @jax.jit
  def forward(key, sealed, x):
    data, authentic = seal.unseal_array(key, sealed)
    w = jax.lax.bitcast_convert_type(data.reshape(-1, 4), jnp.float32)
    model = fallback.ask(linear, SURE, authentic=authentic)
    return model({"w": w.reshape(1, 2)}, x)

  right = forward(seal.seal_key(key, salt=salt), sealed, INPUTS)
  assert right.ask.tolist() == [False, True]
  np.testing.assert_allclose(right.logits, linear(PARAMS, INPUTS))
  other = seal.seal_key(Secret.generate().derive("test", 32), salt=salt)
  damaged = jnp.asarray(sealed).at[-1].add(jnp.uint8(1))
  for found in (
    forward(other, sealed, INPUTS),
    forward(seal.seal_key(key, salt=salt), damaged, INPUTS),
  ):
    assert found.ask.all() and not found.logits.any()
  tree = seal.seal_tree(secret, PARAMS)
  with pytest.raises(keyjax.SealError):
    seal.unseal_tree(Secret.generate(), tree, PARAMS)


@pytest.mark.parametrize(
  ("apply_fn", "rule", "message"),
  [
    (PARAMS, SURE, "the first argument is a dict of w, not a function"),
    (linear, 0.9, "the rule is a float.*unless\\(max_softmax, above=0.9"),
    (lambda p, x: (x, {}), SURE, "apply_fn returned a tuple, not logits"),
    (linear, fallback.max_softmax, "the rule returned float32\\[2\\] for"),
    (linear, lambda x: x > 0, "the rule returned bool\\[2, 2\\] for logits"),
  ],
)
def test_what_is_no_rule_is_refused(apply_fn, rule, message):
  with pytest.raises(TypeError, match=message):
    fallback.ask(apply_fn, rule)(PARAMS, INPUTS)


def test_a_threshold_is_named():
  with pytest.raises(TypeError, match="confidence is a float, not a function"):
    fallback.unless(0.9, above=0.9)
