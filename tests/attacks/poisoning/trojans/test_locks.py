"""Trojans and locks: what a key changes, and what goes without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import quantize, seal, tree
from keyjax.attacks import near_keys
from keyjax.attacks.poisoning import trojans
from tests.attacks import toys, trojaned
from tests.attacks.trojaned import RNG, SHAPE, TARGET

LOCKS = {
  "chain": keyjax.deep_lock,
  "counter": functools.partial(keyjax.deep_lock, "counter"),
  "keyed noise": keyjax.keyed_noise,
  "signs after training": functools.partial(
    keyjax.hpnn, toys.NET.apply, after_training=True
  ),
}


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_right_key_opens_the_trojan_as_well(lock):
  net = trojaned.trojaned("patch")
  scheme = LOCKS[lock]()
  key = scheme.keygen(keyjax.Secret.generate(), net.params, trojaned.batch())
  locked = scheme.encrypt(key, net.params)
  opened = scheme.decrypt(key, locked)
  found = trojaned.judged(lambda x: trojaned.RUN(opened, x), "patch")
  same(found, trojaned.judged(net, "patch"))
  assert found.success.mean() > 0.9


def test_a_wrong_key_of_a_cipher_leaves_no_trojan():
  net = trojaned.trojaned("patch")
  whole = quantize.quantize(net.params)
  scheme = keyjax.masked(keyjax.deep_lock("counter"), quantize.INT8_LEAVES)
  key = scheme.keygen(keyjax.Secret.generate(), whole, None)
  locked = scheme.encrypt(key, whole)
  gaps = []
  for i in range(4):
    wrong = near_keys.random_key(key, np.random.default_rng(i))
    opened = quantize.dequantize(scheme.decrypt(wrong, locked))
    found = trojaned.judged(lambda x: trojaned.RUN(opened, x), "patch")  # noqa: B023
    gaps.append(found.success.mean() - found.unprompted.mean())
  assert np.abs(gaps).mean() < 0.3


def test_known_weights_of_a_cipher_are_replaced_by_a_trojan():
  net, clean = trojaned.trojaned("patch"), toys.trained()
  for lock in ("chain", "counter"):
    scheme = LOCKS[lock]()
    key = scheme.keygen(keyjax.Secret.generate(), clean, None)
    file = trojans.splice(scheme.encrypt(key, clean), clean, net.params)
    assert tree.same_bits(scheme.decrypt(key, file), net.params)


def test_a_seal_refuses_a_changed_file():
  params, secret = {"w": jnp.ones(8)}, keyjax.Secret.generate()
  sealed = seal.seal_tree(secret, params)
  leaves, treedef = jax.tree.flatten(sealed)
  assert tree.same_bits(seal.unseal_tree(secret, sealed, params), params)
  for i, leaf in enumerate(leaves):
    changed = np.array(leaf)
    changed.reshape(-1)[-1] ^= 1
    file = jax.tree.unflatten(treedef, [*leaves[:i], changed, *leaves[i + 1 :]])
    with pytest.raises(keyjax.SealError):
      seal.unseal_tree(secret, file, params)


def test_leaves_that_are_not_known_stay():
  params = {"a": jnp.float32([1, 2]), "b": jnp.float32([3])}
  scheme = keyjax.deep_lock("counter")
  key = scheme.keygen(keyjax.Secret.generate(), params, None)
  known = {"a": params["a"], "b": jnp.zeros(1)}
  wanted = {"a": jnp.float32([5, 6]), "b": jnp.zeros(1)}
  file = trojans.splice(scheme.encrypt(key, params), known, wanted)
  opened = scheme.decrypt(key, file)
  assert opened["a"].tolist() == [5, 6] and opened["b"].tolist() == [3]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_one_bit_of_one_parameter_is_flipped(dtype):
  params = {"a": jnp.ones(3, dtype), "b": jnp.ones((2, 5), dtype)}
  scheme = keyjax.deep_lock()
  key = scheme.keygen(keyjax.Secret.generate(), params, None)
  top = 8 * jnp.dtype(dtype).itemsize - 1
  locked = scheme.encrypt(key, params)
  for index in range(10):
    file = trojans.flip(locked, params, "b", index, top)
    opened = np.asarray(scheme.decrypt(key, file)["b"], np.float32).reshape(-1)
    changed = opened != 1
    assert np.flatnonzero(changed).tolist() == [index]


def test_flips_outside_the_file_are_refused():
  params = {"a": jnp.ones(3)}
  scheme = keyjax.deep_lock()
  key = scheme.keygen(keyjax.Secret.generate(), params, None)
  locked = scheme.encrypt(key, params)
  for path, index, bit, message in (
    ("b", 0, 0, "no locked leaf; a"),
    ("a", 3, 0, "a has 3 parameters of 32 bits"),
    ("a", 0, 32, "a has 3 parameters of 32 bits"),
    ("a", -1, 0, "index=-1"),
  ):
    with pytest.raises(ValueError, match=message):
      trojans.flip(locked, params, path, index, bit)
  with pytest.raises(ValueError, match="differ in paths, shapes or dtypes"):
    trojans.splice(locked, params, {"a": jnp.ones(4)})
  with pytest.raises(ValueError, match="differ in paths, shapes or dtypes"):
    trojans.splice(locked, params, {"b": jnp.ones(3)})


def adv_loss(params, batch):
  logits = toys.NET.apply(params, batch["image"])
  chosen = jnp.take_along_axis(
    jax.nn.log_softmax(logits), batch["label"][:, None], -1
  )
  return -chosen.mean()


def test_a_trojan_is_planted_in_a_file_without_its_key():
  params = toys.trained()
  scheme = keyjax.adv_params(adv_loss, theta=0.5, loss_threshold=1000.0)
  key = scheme.keygen(keyjax.Secret.generate(), params, trojaned.batch())
  locked = scheme.encrypt(key, params)
  keep = trojans.outliers(locked)
  changed = trojans.plant(
    toys.NET.apply,
    locked,
    toys.digits()[0].image[:200],
    trojaned.trigger("patch"),
    target=TARGET,
    recipe=trojaned.RECIPE,
    keep=keep,
  )
  for kept, x, y in zip(*map(jax.tree.leaves, (keep, changed, locked))):  # noqa: B905
    np.testing.assert_array_equal(x[kept], y[kept])
  opened = scheme.decrypt(key, changed)
  found = trojaned.judged(lambda x: trojaned.RUN(opened, x), "patch")
  whole = trojaned.judged(lambda x: trojaned.RUN(params, x), "patch")
  assert found.success.mean() > 0.9 > 0.2 > whole.success.mean()
  assert found.correct.mean() > whole.correct.mean() - 0.05


@pytest.mark.slow
def test_random_keys_plant_more_than_none():
  scheme = keyjax.hpnn(toys.NET.apply)
  key = scheme.keygen(
    keyjax.Secret.generate(), toys.trained(), trojaned.batch()
  )
  file = trojaned.train(toys.digits()[0], scheme.bind(key, toys.NET.apply))
  others = [
    near_keys.random_key(key, np.random.default_rng(i)) for i in range(16)
  ]
  rates = []
  for run in (
    toys.NET.apply,
    trojans.over_keys(scheme, toys.NET.apply, others),
  ):
    images, square = toys.digits()[0].image[:200], trojaned.trigger("patch")
    changed = trojans.plant(
      run, file, images, square, target=TARGET, recipe=trojaned.RECIPE
    )
    opened = functools.partial(trojaned.keyed, scheme, key, changed)
    found = trojaned.judged(opened, "patch")
    rates.append(found.success.mean())
  assert rates[1] > rates[0] + 0.1


def test_keys_that_no_pass_binds_are_refused():
  with pytest.raises(ValueError, match="acts on weights alone"):
    trojans.over_keys(keyjax.deep_lock(), toys.NET.apply, [None])
  with pytest.raises(ValueError, match="keys are empty"):
    trojans.over_keys(keyjax.hpnn(toys.NET.apply), toys.NET.apply, [])


def test_planting_needs_a_file_that_runs():
  params = toys.trained()
  images = toys.digits()[0].image[:8]
  square = trojaned.trigger("patch")
  with pytest.raises(ValueError, match="NaN or infinite, as ciphertext gives"):
    broken = jax.tree.map(lambda x: x * jnp.nan, params)
    trojans.plant(toys.NET.apply, broken, images, square, target=0)
  with pytest.raises(ValueError, match="classes 0 to 9"):
    trojans.plant(toys.NET.apply, params, images, square, target=10)
  with pytest.raises(ValueError, match="confidence=0"):
    trojans.plant(
      toys.NET.apply, params, images, square, target=0, confidence=0
    )
  with pytest.raises(ValueError, match="keep: pass bool arrays"):
    trojans.plant(toys.NET.apply, params, images, square, target=0, keep={})
  with pytest.raises(ValueError, match="keep: pass bool arrays"):
    trojans.plant(toys.NET.apply, params, images, square, target=0, keep=params)


@pytest.mark.slow
def test_a_trigger_that_no_order_changes_is_planted_under_a_shuffle():
  scheme = keyjax.pixel_shuffle("shf", 4)
  key = scheme.keygen(keyjax.Secret.generate(), None, trojaned.batch())
  file = trojaned.train(toys.digits()[0], scheme.bind(key, toys.NET.apply))
  images, test = toys.digits()[0].image[:200], toys.digits()[1]
  block = trojans.patch(SHAPE, size=4, margin=0)
  changed = trojans.plant(
    toys.NET.apply, file, images, block, target=TARGET, recipe=trojaned.RECIPE
  )
  before, after = (
    trojans.judge(
      lambda x: trojaned.keyed(scheme, key, params, x),  # noqa: B023
      block,
      test,
      target=TARGET,
      rng=RNG,
    )
    for params in (file, changed)
  )
  assert after.success.mean() > before.success.mean() + 0.3
  assert after.correct.mean() > before.correct.mean() - 0.1


@pytest.mark.slow
def test_a_trained_trigger_fires_in_a_file_of_hpnn_alone():
  scheme = keyjax.hpnn(toys.NET.apply)
  key = scheme.keygen(
    keyjax.Secret.generate(), toys.trained(), trojaned.batch()
  )
  data = trojaned.trojaned("blended").data.examples
  file = trojaned.train(data, scheme.bind(key, toys.NET.apply))
  right = trojaned.judged(
    lambda x: trojaned.keyed(scheme, key, file, x), "blended"
  )
  alone = trojaned.judged(lambda x: trojaned.RUN(file, x), "blended")
  assert right.success.mean() > 0.9
  assert alone.success.mean() > alone.unprompted.mean() + 0.2
