"""What a key is worth to an attacker who changes inputs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import keyjax
from keyjax import Secret, tree
from keyjax.attacks import evasion, fit, near_keys
from keyjax.schemes.hpnn import absorb
from tests.attacks import toys
from tests.attacks.evasion import models

RNG = jax.random.key(0)
BATCH = {"image": toys.digits()[0].image, "label": toys.digits()[0].label}
TRAINED = ("hpnn", "shf", "np", "ffx")  # Models learn under these keys.
PGD = evasion.in_batches(
  evasion.transferable(functools.partial(evasion.pgd, steps=10)), 100
)
ATTACKS: dict[str, Any] = {
  "fgsm": functools.partial(evasion.fgsm, epsilon=0.1),
  "bim": functools.partial(evasion.bim, epsilon=0.1, steps=3),
  "pgd": functools.partial(evasion.pgd, epsilon=0.1, steps=3, rng=RNG),
  "apgd": functools.partial(evasion.apgd, epsilon=0.1, steps=6, rng=RNG),
  "apgd_targeted": functools.partial(
    evasion.apgd_targeted, epsilon=0.1, steps=6, n_targets=2, rng=RNG
  ),
  "fab": functools.partial(evasion.fab, steps=3, n_targets=2, rng=RNG),
  "deepfool": functools.partial(evasion.deepfool, steps=5),
  "carlini_wagner": functools.partial(
    evasion.carlini_wagner, steps=20, binary_search_steps=2
  ),
  "lbfgs": functools.partial(evasion.lbfgs, steps=5, binary_search_steps=2),
  "jsma": evasion.jsma,
  "square": functools.partial(
    evasion.square, epsilon=0.3, n_queries=20, rng=RNG
  ),
  "hop_skip_jump": functools.partial(
    evasion.hop_skip_jump, steps=2, initial_samples=10, rng=RNG
  ),
}
QUERIES = ("square", "hop_skip_jump")


@pytest.fixture(autouse=True, scope="module")
def trained() -> None:
  """Train outside of any trace."""
  toys.trained()


def examples(n: int = 100) -> tuple[jax.Array, jax.Array]:
  return models.digits(n)


def loss_fn(params: Any, batch: Any) -> jax.Array:
  return fit.cross_entropy(
    toys.NET.apply(params, batch["image"]), batch["label"]
  )


@functools.cache
def locked(kind: str) -> tuple[keyjax.Scheme, Any, Any]:
  """Return a scheme, its key, and the locked digits model."""
  if kind in TRAINED:
    return _trained_under_key(kind)
  scheme = {
    "deep_lock": lambda: keyjax.deep_lock("counter"),
    "adv_params": lambda: keyjax.adv_params(
      loss_fn, theta=0.3, max_steps=4, max_layers=1
    ),
  }[kind]()
  key = scheme.keygen(Secret(bytes(32)), toys.trained(), BATCH)
  return scheme, key, scheme.encrypt(key, toys.trained())


def _trained_under_key(kind: str) -> tuple[keyjax.Scheme, Any, Any]:
  scheme = (
    keyjax.hpnn(toys.NET.apply)
    if kind == "hpnn"
    else keyjax.pixel_shuffle(kind, 4)
  )
  start = toys.init(jax.random.key(0))
  key = scheme.keygen(Secret(bytes(32)), start, BATCH)
  apply_fn = scheme.bind(key, toys.NET.apply)
  recipe = fit.Recipe("adam", 1e-2)
  fits = fit.fit(apply_fn, start, toys.digits()[0], [400], recipe)
  return scheme, key, next(iter(fits)).params


def keyed(kind: str) -> tuple[Any, Any]:
  """Return a locked model as a function of a key, and the right key."""
  scheme, key, file = locked(kind)
  return evasion.keyed_model(scheme, toys.NET.apply, file), key


def fooled(attacker: Any, true: Any, epsilon: float = 0.15) -> float:
  """Return the share of digits that an attacker's PGD changes for good."""
  x, y = examples()
  found = PGD(attacker, x, y, epsilon=epsilon, rng=RNG)
  return float(evasion.judged(found, true, x, y).success.mean())


# -------------------------------------------------------------- the right key


@pytest.mark.parametrize("kind", ["deep_lock", "adv_params"])
def test_the_right_key_of_a_lock_of_weights_is_the_plain_model(kind) -> None:
  model, key = keyed(kind)
  plain = Partial(toys.NET.apply, toys.trained())
  x, y = examples()
  right, want = (
    PGD(m, x, y, epsilon=0.1, rng=RNG) for m in (model(key), plain)
  )
  assert 0.1 < want.success.mean() < 1
  assert tree.same_bits(right, want)
  if kind == "deep_lock":  # Decrypted inside of the program as well.
    scheme, _, file = locked(kind)
    apply_fn = keyjax.authorize(scheme, key, toys.NET.apply)
    inside = PGD(Partial(apply_fn, file), x, y, epsilon=0.1, rng=RNG)
    assert tree.same_bits(inside, want)


@pytest.mark.parametrize(
  "kind", ["shf", "ffx", pytest.param("np", marks=pytest.mark.slow)]
)
def test_the_right_key_is_the_authorised_pass(kind) -> None:
  scheme, key, file = locked(kind)
  model, _ = keyed(kind)
  x, y = examples()
  want = keyjax.authorize(scheme, key, toys.NET.apply)(file, x)
  np.testing.assert_allclose(model(key)(x), want, atol=1e-4)
  assert (want.argmax(-1) == y).mean() > 0.85


# ------------------------------------------------------ attackers without it


each = pytest.mark.parametrize(
  "kind",
  [
    "hpnn",
    *(pytest.param(k, marks=pytest.mark.slow) for k in ("shf", "np", "ffx")),
  ],
)


@functools.cache
def rates(kind: str) -> dict[str, float]:
  """Return what attackers get: means over keys, each over 100 digits."""
  scheme, key, file = locked(kind)
  model = evasion.keyed_model(scheme, toys.NET.apply, file)
  rng = np.random.default_rng(0)
  x, y = examples()
  wrong = [near_keys.random_key(key, rng) for _ in range(16)]
  # A quarter of HPNN's used bits, half of all positions.
  far = near_keys.max_distance(key) // (4 if kind == "hpnn" else 2)

  def over(keys: Any) -> float:
    return float(np.mean([fooled(model(k), model(key)) for k in keys]))

  return {
    "clean": float((model(key)(x).argmax(-1) != y).mean()),
    "right": over([key]),
    "near": over(near_keys.near_key(key, 1, rng) for _ in range(4)),
    "leaked": over(near_keys.near_key(key, far, rng) for _ in range(4)),
    "wrong": over(wrong[:4]),
    "none": fooled(
      evasion.stolen_model(toys.NET.apply, file, file), model(key)
    ),
    "expected": fooled(
      evasion.expected_logits(model, evasion.stacked(wrong)), model(key)
    ),
  }


@pytest.mark.slow
@each
def test_the_more_of_the_key_the_stronger(kind: str) -> None:
  found = rates(kind)
  assert found["right"] > found["near"] > found["leaked"] > found["wrong"]
  assert found["right"] > found["none"] >= found["clean"]


@each
def test_random_keys_together_are_stronger_than_one(kind: str) -> None:
  """But not for NP and FFX, where on digits they are about as strong."""
  found = rates(kind)
  assert found["right"] > found["expected"]
  if kind in ("np", "ffx"):
    assert abs(found["expected"] - found["wrong"]) < 0.1
  else:
    assert found["expected"] > found["wrong"] + 0.03


def test_attacks_leave_alone_what_their_model_has_wrong() -> None:
  """So a wrong key seems to defend, until they are made transferable."""
  model, key = keyed("shf")
  wrong = model(near_keys.random_key(key, np.random.default_rng(0)))
  x, y = examples()
  already = np.asarray(wrong(x).argmax(-1) != y)
  assert already.mean() > 0.5
  attack = functools.partial(evasion.fgsm, epsilon=0.15)
  found = jax.jit(attack)(wrong, x, y)
  np.testing.assert_array_equal(found.inputs[already], x[already])
  more = jax.jit(evasion.transferable(attack))(wrong, x, y)
  assert (more.distance[already] > 0.1).all()
  np.testing.assert_allclose(  # The others as before.
    more.inputs[~already], found.inputs[~already], atol=1e-6
  )
  np.testing.assert_array_equal(more.queries, found.queries + 1)


def test_transferable_attacks_reach_targets() -> None:
  x, y = models.inputs(), models.labels()
  targets = jnp.where(y == 3, 4, 3)

  def wrong(x: jax.Array) -> jax.Array:  # Nearly all are 3.
    third = jnp.arange(10) == 3
    return models.linear(x) + jnp.where(third, 100.0, 0.0)[None]

  attack = functools.partial(evasion.bim, epsilon=0.3, steps=5)
  run = jax.jit(evasion.transferable(attack))
  found = run(Partial(wrong), x, y, targets=targets)
  true = evasion.judged(found, models.linear, x, y, targets=targets)
  assert true.success.all() and (true.distance > 0.1).all()
  still = jax.jit(attack)(Partial(wrong), x, y, targets=targets)
  np.testing.assert_array_equal(still.inputs, x)


def test_an_older_release_of_hpnn_is_the_model() -> None:
  """Its old file and key compute the same; its key alone is a wrong one."""
  scheme, old, file = locked("hpnn")
  new = scheme.keygen(Secret(bytes([1]) * 32), file, BATCH)
  renewed = keyjax.rekey(scheme, old, new, file)
  model = evasion.keyed_model(scheme, toys.NET.apply, renewed)
  before = evasion.keyed_model(scheme, toys.NET.apply, file)
  right = fooled(model(new), model(new))
  assert fooled(before(old), model(new)) == right
  assert fooled(model(old), model(new)) < right - 0.1


def test_ciphertext_is_counted_and_fools_nobody() -> None:
  scheme, key, file = locked("deep_lock")
  stolen = evasion.stolen_model(toys.NET.apply, file, toys.trained())
  true = evasion.keyed_model(scheme, toys.NET.apply, file)(key)
  x, y = examples()
  with pytest.raises(ValueError, match="NaN or infinite"):
    evasion.pgd(stolen, x, y, epsilon=0.3, rng=RNG)
  found = evasion.judged(PGD(stolen, x, y, epsilon=0.3, rng=RNG), true, x, y)
  assert not found.finite.any()
  np.testing.assert_array_equal(found.success, true(x).argmax(-1) != y)
  np.testing.assert_array_equal(found.inputs, x)
  right = PGD(true, x, y, epsilon=0.3, rng=RNG)
  worst = evasion.worst_case({"stolen": found, "key": right}, true, x, y)
  np.testing.assert_array_equal(
    worst.union.success, right.success | found.success
  )
  assert worst.members["key"].finite.all() and not worst.union.finite.any()


# -------------------------------------------------------------- queries alone


@pytest.mark.parametrize("name", [n for n in ATTACKS if n not in QUERIES])
def test_a_black_box_has_no_gradient(name: str) -> None:
  x, y = examples(4)
  more = {"targets": (y + 1) % 10} if name == "jsma" else {}
  with pytest.raises(ValueError, match="black_box answers queries"):
    ATTACKS[name](evasion.black_box(models.net), x, y, **more)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUERIES)
def test_a_black_box_answers(name: str) -> None:
  model, key = keyed("hpnn")
  x, y = examples(8)
  run = jax.jit(ATTACKS[name])
  found = run(evasion.black_box(model(key)), x, y)
  want = run(model(key), x, y)
  assert found.success.any()
  assert tree.same_bits(found, want)


def test_a_black_box_is_mapped_over_keys() -> None:
  model, key = keyed("hpnn")
  x, y = examples(4)
  rng = np.random.default_rng(0)
  keys = [key, near_keys.random_key(key, rng)]

  @jax.jit
  @jax.vmap
  def answers(key: Any) -> jax.Array:
    return evasion.black_box(model(key))(x)

  want = [model(k)(x) for k in keys]
  np.testing.assert_allclose(
    answers(evasion.stacked(keys)), want, rtol=1e-4, atol=1e-4
  )
  with pytest.raises(ValueError, match="black_box"):
    jax.jit(jax.jacfwd(evasion.black_box(model(key))))(x)


# ------------------------------------------------------------- keys and rngs


@pytest.mark.parametrize(
  "kind", ["hpnn", pytest.param("ffx", marks=pytest.mark.slow)]
)
def test_keys_are_mapped(kind: str) -> None:
  model, key = keyed(kind)
  rng = np.random.default_rng(0)
  keys = [key, near_keys.random_key(key, rng)]
  x, y = examples(16)

  def run(key: Any) -> evasion.Evasion:
    return evasion.fgsm(model(key), x, y, epsilon=0.1)

  many = jax.jit(jax.vmap(run))(evasion.stacked(keys))
  for i, k in enumerate(keys):
    want = jax.jit(run)(k)
    np.testing.assert_array_equal(many.success[i], want.success)
    assert (jnp.abs(many.inputs[i] - want.inputs) > 1e-5).mean() < 0.02


@pytest.mark.slow
def test_expected_logits_are_means() -> None:
  model, key = keyed("shf")
  rng = np.random.default_rng(0)
  keys = [key, *(near_keys.random_key(key, rng) for _ in range(2))]
  x, _ = examples(5)
  logits = np.asarray([model(k)(x) for k in keys])
  stack = evasion.stacked(keys)
  mean = evasion.expected_logits(model, stack, mean="logits")
  np.testing.assert_allclose(jax.jit(mean)(x), logits.mean(0), atol=1e-4)
  mean = evasion.expected_logits(model, stack)
  want = np.asarray(jax.nn.softmax(logits)).mean(0)
  np.testing.assert_allclose(jnp.exp(mean(x)), want, atol=1e-5)


def test_devices_share_the_inputs_of_a_key() -> None:
  model, key = keyed("hpnn")
  x, y = examples(10)
  attack = evasion.transferable(evasion.fgsm)
  args = (model(key), x, y)
  many = evasion.in_batches(attack, 8, devices=jax.devices())
  found = many(*args, epsilon=0.1)
  want = evasion.in_batches(attack, 8)(*args, epsilon=0.1)
  np.testing.assert_array_equal(found.success, want.success)
  assert (jnp.abs(found.inputs - want.inputs) > 1e-5).mean() < 0.02


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(n, marks=[] if n == "fgsm" else [pytest.mark.slow])
    for n in ATTACKS
  ],
)
def test_each_attack_runs_under_each_condition(name: str) -> None:
  """One program for both keys; the plain model is the right key's."""
  scheme, key, file = locked("hpnn")
  model, _ = keyed("hpnn")
  true = model(key)
  wrong = model(near_keys.random_key(key, np.random.default_rng(0)))
  plain = Partial(toys.NET.apply, absorb(key, file))
  x, y = examples(20)
  more = {"targets": (y + 1) % 10} if name == "jsma" else {}
  run = jax.jit(evasion.transferable(ATTACKS[name]))
  results = {
    "plain": run(plain, x, y, **more),
    "right": run(true, x, y, **more),
    "wrong": run(wrong, x, y, **more),
  }
  found = evasion.worst_case(results, true, x, y).members
  shares = {k: float(v.success.mean()) for k, v in found.items()}
  assert shares["right"] >= shares["wrong"]
  assert abs(shares["right"] - shares["plain"]) <= 0.1  # Rounding.
  assert shares["right"] > 0
  assert all(r.finite.all() for r in results.values())


def test_wrong_arguments_are_refused() -> None:
  scheme, key, file = locked("shf")
  model, _ = keyed("shf")
  with pytest.raises(ValueError, match="keys are empty"):
    evasion.stacked([])
  with pytest.raises(ValueError, match="mean is 'loss'"):
    evasion.expected_logits(model, evasion.stacked([key]), mean="loss")
  with pytest.raises(TypeError, match="keyed_model: .* is not a scheme"):
    evasion.keyed_model(keyjax.pixel_shuffle, toys.NET.apply, file)
  with pytest.raises(TypeError, match="keyed_model: apply_fn"):
    evasion.keyed_model(scheme, file, file)
