"""Private training: the accountant, the batches, the gradient, the audit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import Secret
from keyjax.defenses import private
from keyjax.defenses.private.accountant import in_words

dp_accounting = pytest.importorskip(
  "dp_accounting", reason="needs pip install 'keyjax[privacy]'"
)
pytest.importorskip("jax_privacy", reason="needs pip install 'keyjax[privacy]'")

SECRET = Secret(bytes(range(32)))
TRAINING = private.Training(500, 20, 10, delta=1e-4, truncated_at=40)


@pytest.mark.parametrize("limit", [None, 40, 22])
def test_epsilon_is_that_of_dp_accounting(limit):
  training = TRAINING._replace(truncated_at=limit)
  relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
  accountant = dp_accounting.pld.PLDAccountant(
    relation, value_discretization_interval=1e-3
  )
  event = dp_accounting.PoissonSampledDpEvent(
    20 / 500, dp_accounting.GaussianDpEvent(1.1)
  )
  if limit:
    event = dp_accounting.TruncatedSubsampledGaussianDpEvent(
      500, 20 / 500, limit, 1.1
    )
  accountant.compose(event, 10)
  found = private.epsilon(training, 1.1)
  assert found == accountant.get_epsilon(1e-4)


def test_a_truncation_near_the_mean_costs():
  wide, near = (
    private.epsilon(TRAINING._replace(truncated_at=x), 1.1) for x in (40, 22)
  )
  assert near > 1.2 * wide


def test_the_accountants_of_dp_accounting_agree():
  accountant = dp_accounting.rdp.RdpAccountant()
  event = dp_accounting.GaussianDpEvent(1.1)
  accountant.compose(dp_accounting.PoissonSampledDpEvent(20 / 500, event), 10)
  found = private.epsilon(TRAINING._replace(truncated_at=None), 1.1)
  # Renyi's is a looser bound of the same.
  assert 0.5 < found / accountant.get_epsilon(1e-4) < 1


def test_noise_for_an_epsilon():
  training = TRAINING._replace(truncated_at=None)  # Faster.
  noise = private.noise_multiplier(training, 1.5)
  assert private.epsilon(training, noise) <= 1.5
  assert private.epsilon(training, noise - 0.02) > 1.5


@pytest.mark.parametrize(
  ("fields", "noise", "sentence"),
  [
    ({}, 0.0, "noise_multiplier=0.0: must be above 0"),
    ({}, float("nan"), "noise_multiplier=nan"),
    ({"delta": 1.0}, 1.0, "delta=1.0: must be between 0 and 1"),
    ({"delta": 0.0}, 1.0, "delta=0.0"),
    ({"batch_size": 501}, 1.0, "a batch has 1 to all examples"),
    ({"steps": 0}, 1.0, "steps=0"),
    ({"truncated_at": 19}, 1.0, "truncated_at=19: must be at least"),
    ({"truncated_at": 40.5}, 1.0, "truncated_at=40.5: a whole number"),
    ({"steps": 2.5}, 1.0, "steps=2.5: a whole number"),
    ({"examples": 500.5}, 1.0, "examples=500.5: a whole number"),
    ({"batch_size": 10.5}, 1.0, "batch_size=10.5: a whole number"),
    ({"batch_size": float("nan")}, 1.0, "batch_size=nan: a whole number"),
    ({"steps": "10"}, 1.0, "steps='10': a whole number"),
    ({"examples": None}, 1.0, "examples=None: a whole number"),
    ({"delta": "1e-5"}, 1.0, "delta='1e-5': a number"),
    ({}, "1", "noise_multiplier='1': a number"),
    ({}, None, "noise_multiplier=None: a number"),
  ],
)
def test_numbers_out_of_range(fields, noise, sentence):
  training = TRAINING._replace(**fields)
  with pytest.raises((ValueError, TypeError), match=sentence):
    private.epsilon(training, noise)
  if fields:
    with pytest.raises((ValueError, TypeError), match=sentence):
      private.noise_multiplier(training, 1.0)


def test_whole_numbers_of_numpy_are_numbers():
  whole = {k: np.int64(getattr(TRAINING, k)) for k in ("batch_size", "steps")}
  found = private.epsilon(TRAINING._replace(**whole), np.float32(2.0))
  assert found == private.epsilon(TRAINING, 2.0)


def test_fields_without_their_names_are_no_training():
  with pytest.raises(TypeError, match="training is a tuple: pass a private"):
    private.epsilon(tuple(TRAINING), 1.0)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("inf"), float("nan")])
def test_an_epsilon_out_of_range(epsilon):
  with pytest.raises(ValueError, match="must be above 0"):
    private.noise_multiplier(TRAINING, epsilon)


def test_a_guarantee_names_its_assumptions():
  made = private.Guarantee(2.0, 1.1, 0.5, "aes", TRAINING)
  text = in_words(made.fields())
  for part in (
    "epsilon 2 at delta 0.0001",
    "one example added or removed",
    "Poisson, rate 0.04, truncated at 40",
    "10 steps, 500 examples",
    "noise 1.1 x clipping norm 0.5, from aes",
    "PLD, dp-accounting ",
    "each model alone",
  ):
    assert part in text


def rows(secret=SECRET, **fields):
  given = {"examples": 500, "batch_size": 20, "truncated_at": 30, "size": 32}
  return private.poisson_rows(**given | {"secret": secret} | fields)


def test_batches_are_poisson():
  draw = rows(truncated_at=500, size=500)
  found = [draw(step) for step in range(400)]
  picked = [x[x >= 0] for x in found]
  assert all(len(set(x)) == len(x) for x in picked)
  sizes = np.array([len(x) for x in picked])
  # The mean is 20, the variance 20 * 0.96: 4 deviations of each estimate.
  assert abs(sizes.mean() - 20) < 4 * np.sqrt(19.2 / 400)
  assert abs(sizes.var() - 19.2) < 4 * 19.2 * np.sqrt(2 / 400)
  counts = np.bincount(np.concatenate(picked), minlength=500)
  assert abs(counts.mean() - 16) < 0.8 and counts.var() < 2 * 16


def test_batches_are_truncated_and_filled():
  draw = rows(truncated_at=22, size=32)
  sizes = [int((draw(step) >= 0).sum()) for step in range(100)]
  assert max(sizes) == 22 and min(sizes) < 20
  assert draw(0).shape == (32,)


@pytest.mark.parametrize(
  ("fields", "error", "sentence"),
  [
    ({"batch_size": 0}, ValueError, "batch_size=0: must be above 0"),
    ({"batch_size": 501}, ValueError, "batch_size=501: a mean above all 500"),
    ({"batch_size": "20"}, TypeError, "batch_size='20': a number"),
    ({"truncated_at": 0}, ValueError, "truncated_at=0"),
    ({"size": 29}, ValueError, "size=29: a whole number, at least 30"),
    ({"examples": 0}, ValueError, "examples=0"),
    ({"secret": None}, TypeError, "poisson_rows takes a keyjax.Secret"),
  ],
)
def test_other_batches_are_refused(fields, error, sentence):
  with pytest.raises(error, match=sentence):
    rows(**fields)


@pytest.mark.parametrize("step", [1.0, -1, "1", None])
def test_a_step_is_a_whole_number(step):
  with pytest.raises(ValueError, match="step=.*: a whole number, 0 or more"):
    rows()(step)


def test_batches_are_functions_of_secret_and_step():
  same, other = rows(), rows(Secret(bytes(32)))
  np.testing.assert_array_equal(rows()(np.int64(3)), same(3))
  assert (same(3) != same(4)).any() and (same(3) != other(3)).any()


def loss(w, x):
  return (w[None] * x).sum(), x.sum()


def test_each_gradient_is_clipped_alone():
  x = jnp.asarray([[3.0, 4.0], [0.3, 0.4], [jnp.nan, 0.0], [5.0, 0.0]])
  real = jnp.asarray([True, True, True, False])
  total, aux = private.clipped_sum(
    loss, jnp.ones(2), x, real, clipping_norm=1.0
  )
  np.testing.assert_allclose(total, [0.6 + 0.3, 0.8 + 0.4], rtol=1e-6)
  np.testing.assert_allclose(aux, [7.0, 0.7, np.nan, 5.0], rtol=1e-6)


@pytest.mark.parametrize(
  ("fields", "error", "sentence"),
  [
    ({"real": jnp.asarray([1, 0, 0])}, TypeError, r"real is int32\[3\]: pass "),
    ({"real": [True, False, False]}, TypeError, "real is a list: pass bool"),
    ({"real": np.ones(2, bool)}, ValueError, r"bool\[2\], and the batch has"),
    ({"real": np.ones((3, 1), bool)}, ValueError, "pass as many rows"),
    ({"parts": 0}, ValueError, "parts=0: a whole number"),
    ({"parts": -1}, ValueError, "parts=-1: a whole number"),
    ({"parts": 2}, ValueError, "parts=2: must divide 3 rows"),
    ({"clipping_norm": 0.0}, ValueError, "clipping_norm=0.0: must be above 0"),
    ({"clipping_norm": jnp.inf}, ValueError, "clipping_norm=inf"),
    ({"clipping_norm": jnp.float32(jnp.nan)}, ValueError, "clipping_norm=nan"),
    ({"clipping_norm": "1"}, TypeError, "clipping_norm='1': a number"),
  ],
)
def test_a_sum_that_is_not_the_batchs_is_refused(fields, error, sentence):
  given = {"real": np.ones(3, bool), "clipping_norm": 1.0} | fields
  with pytest.raises(error, match=sentence):
    private.clipped_sum(loss, jnp.ones(2), jnp.ones((3, 2)), **given)


def test_a_norm_may_be_an_argument_of_a_compiled_step():
  x, real = jnp.asarray([[3.0, 4.0]]), jnp.asarray([True])

  @jax.jit
  def total(norm):
    return private.clipped_sum(loss, jnp.ones(2), x, real, clipping_norm=norm)

  np.testing.assert_allclose(total(0.5)[0], [0.3, 0.4], rtol=1e-6)


@pytest.mark.parametrize("field", ["clipping_norm", "noise_multiplier"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "1", None])
def test_noise_that_is_none_is_refused(field, value):
  given = {"clipping_norm": 1.0, "noise_multiplier": 1.0} | {field: value}
  rng = private.noise_rng(SECRET, "jax")
  with pytest.raises((ValueError, TypeError), match=f"{field}=.*above 0"):
    private.with_noise(jnp.zeros(2), rng, **given)


@pytest.mark.parametrize("generator", ["aes", "jax"])
def test_noise_has_its_deviation_and_its_own_steps(generator):
  rng = private.noise_rng(SECRET, generator)
  zeros = {"a": jnp.zeros((40, 50)), "b": jnp.zeros(2000)}
  first, second = (
    private.with_noise(
      zeros,
      jax.random.fold_in(rng, step),
      clipping_norm=0.5,
      noise_multiplier=4.0,
    )
    for step in (0, 1)
  )
  parts = [np.ravel(x) for t in (first, second) for x in t.values()]
  for i, x in enumerate(parts):
    # 2000 draws: 4 deviations of the estimate are 6 %.
    assert abs(x.std() / 2 - 1) < 0.065 and abs(x.mean()) < 0.18
    for y in parts[:i]:
      assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


def test_an_unknown_generator():
  with pytest.raises(ValueError, match="'numpy': choose from aes, jax"):
    private.noise_rng(SECRET, "numpy")
  with pytest.raises(TypeError, match="noise_rng takes a keyjax.Secret"):
    private.noise_rng(None)


def canary_scores(noise_multiplier, trials=1000):
  """Return what one step shows of an example that is in or out."""
  x = jnp.asarray([[0.0, 1.0], [0.0, -0.5], [2.0, 0.0]])
  rngs = jax.random.split(private.noise_rng(SECRET, "jax"), (2, trials))
  found = []
  for rng, member in zip(rngs, (True, False), strict=True):
    real = jnp.asarray([True, True, member])
    total, _ = private.clipped_sum(
      loss, jnp.ones(2), x, real, clipping_norm=1.0
    )

    def one(rng, total=total):
      return private.with_noise(
        total, rng, clipping_norm=1.0, noise_multiplier=noise_multiplier
      )[0]

    found.append(np.asarray(jax.jit(jax.vmap(one))(rng)))
  return found


def test_the_audit_is_below_the_accountant_and_finds_a_forgotten_noise():
  step = private.Training(3, 3, 1, delta=1e-5)
  for noise in (1.0, 2.0):
    claim = private.epsilon(step, noise)
    found = private.lower_bound(*canary_scores(noise), 1e-5)
    assert 0.1 * claim < found < claim
  assert private.lower_bound(*canary_scores(1e-6), 1e-5) > claim


@pytest.mark.parametrize(
  ("given", "fields", "sentence"),
  [
    (([], [0.0]), {}, r"got \(0,\) and \(1,\)"),
    (([[1.0]], [0.0]), {}, r"\(1, 1\)"),
    (([1.0], [np.nan]), {}, "not finite"),
    (([1.0], [0.0]), {"delta": 0.0}, "delta=0.0"),
    (([1.0], [0.0]), {"confidence": 1.0}, "confidence=1.0"),
  ],
)
def test_scores_that_are_no_evidence(given, fields, sentence):
  with pytest.raises(ValueError, match=sentence):
    private.lower_bound(*given, **({"delta": 1e-5} | fields))


def test_one_run_with_many_canaries():
  told, blind = np.arange(200) >= 5, np.arange(200) >= 100
  found = private.lower_bound(told, ~told, 1e-5, one_run=True)
  assert 1 < found < 3.7  # 195 of 200 right: log(39) is 3.7.
  assert private.lower_bound(blind, ~blind, 1e-5, one_run=True) == 0
