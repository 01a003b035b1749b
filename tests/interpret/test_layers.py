"""Activations, probes and saliency of small locked networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import quantize, tree
from keyjax.attacks import intervals
from keyjax.interpret import activations, probe, saliency, similarity
from keyjax.schemes import hpnn
from tests.attacks import toys

PATHS = ["dense", "head"]


@functools.partial(jax.jit, static_argnums=0)
def seen(scheme, key, params, x):
  forward = scheme.bind(key, toys.NET.apply)
  return activations.record(forward, PATHS)(params, x)


def look(scheme, key, params, x):
  found = jax.device_get(seen(scheme, key, params, jnp.asarray(x)))
  return {tap: found[tap] for tap in activations.taps(PATHS)}


def make(scheme, params=None):
  params = toys.trained() if params is None else params
  batch = {"image": jnp.asarray(toys.digits()[0].image[:50])}
  return scheme.keygen(keyjax.Secret.generate(), params, batch)


def test_activations_are_recorded_after_the_key():
  scheme, x = keyjax.hpnn(toys.NET.apply), toys.digits()[1].image[:20]
  key, params = make(scheme), toys.trained()
  locked = look(scheme, key, params, x)
  twin = look(keyjax.identity(), (), hpnn.absorb(key, params), x)
  plain = look(keyjax.identity(), (), params, x)
  for tap, value in locked.items():
    np.testing.assert_allclose(value, twin[tap], atol=1e-4)
  assert np.abs(locked["dense out"] - plain["dense out"]).max() > 1
  np.testing.assert_array_equal(
    locked["head in"], np.maximum(locked["dense out"], 0)
  )
  names = activations.layers(toys.NET.apply, params, jnp.asarray(x))
  assert names == PATHS


def test_an_input_scheme_changes_what_the_first_layer_takes_in():
  scheme, x = keyjax.pixel_shuffle("shf", 4), toys.digits()[1].image[:5]
  value = look(scheme, make(scheme), toys.trained(), x)["dense in"]
  assert (value != x.reshape(5, -1)).any()
  np.testing.assert_array_equal(
    np.sort(value, axis=1), np.sort(x.reshape(5, -1), axis=1)
  )


def test_signs_are_invisible_to_cka_before_the_nonlinearity():
  scheme, x = keyjax.hpnn(toys.NET.apply), toys.digits()[1].image[:100]
  right, wrong = (look(scheme, make(scheme), toys.trained(), x) for _ in "ab")
  before, after = (
    similarity.linear_cka(right[tap], wrong[tap])
    for tap in ("dense out", "head in")
  )
  assert before == pytest.approx(1) and after < 0.95


def test_wide_taps_keep_the_same_features():
  x = jnp.asarray(toys.digits()[1].image[:9])
  record = functools.partial(activations.record, toys.NET.apply, PATHS)
  few, all_ = (record(n)(toys.trained(), x) for n in (16, 64))
  again = record(16)(toys.trained(), x)
  assert few["dense in"].shape == (9, 16)
  np.testing.assert_array_equal(few["dense in"], again["dense in"])
  kept = {c.tobytes() for c in np.asarray(all_["dense in"]).T}
  assert {c.tobytes() for c in np.asarray(few["dense in"]).T} <= kept


def test_ciphertext_as_floats_is_counted_and_not_hidden():
  scheme = keyjax.deep_lock()
  locked = scheme.encrypt(make(scheme), toys.trained())
  stolen = tree.as_floats(locked, toys.trained())
  x = toys.digits()[1].image[:30]
  value = look(keyjax.identity(), (), stolen, x)["head out"]
  assert activations.count_nonfinite(value) == 30


def probed(scheme, key, params, tap, labels=None):
  train, test = toys.digits()
  labels = train.label if labels is None else labels
  reader = probe.fit(look(scheme, key, params, train.image)[tap], labels, 10)
  return reader(look(scheme, key, params, test.image)[tap]), test.label


def test_a_probe_on_the_logits_is_about_as_good_as_the_model():
  scheme = keyjax.deep_lock()
  key = make(scheme)
  opened = scheme.decrypt(key, scheme.encrypt(key, toys.trained()))
  found, labels = probed(scheme, key, opened, "head out")
  logits = toys.NET.apply(opened, jnp.asarray(toys.digits()[1].image))
  model = (np.asarray(logits).argmax(1) == labels).mean()
  assert abs((found == labels).mean() - model) < 0.03 and model > 0.9


def test_a_probe_under_a_wrong_key_with_shuffled_labels_is_at_chance():
  scheme = keyjax.masked(keyjax.deep_lock(), quantize.INT8_LEAVES)
  quantized = quantize.quantize(toys.trained())
  right, wrong = make(scheme, quantized), make(scheme, quantized)
  stolen = scheme.decrypt(wrong, scheme.encrypt(right, quantized))
  shuffled = np.random.default_rng(0).permutation(toys.digits()[0].label)
  floats = quantize.dequantize(stolen)
  plain = keyjax.identity()
  found, labels = probed(plain, (), floats, "head in", shuffled)
  low, high = intervals.clopper_pearson((found == labels).sum(), len(labels))
  assert low - 0.05 < 0.1 < high + 0.05
  # With the true labels, a linear probe learns even from these weights.
  found, labels = probed(plain, (), floats, "head in")
  assert (found == labels).mean() > 0.5


def test_a_probe_copes_with_huge_values_and_dead_features():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 200)
  x = np.eye(4)[labels] @ rng.normal(size=(4, 30)) * 1e37
  x[:, 3] = 7.0
  read = probe.fit(x.astype(np.float32), labels, 4)
  assert read.scale[3] == 0 and (read(x.astype(np.float32)) == labels).all()
  with pytest.raises(ValueError, match="10 examples"):
    probe.fit(x[:9], labels[:9], 4)


def test_saliency_with_the_right_key_is_that_of_the_plain_network():
  scheme, test = keyjax.deep_lock(), toys.digits()[1]
  x, y = jnp.asarray(test.image[:12]), jnp.asarray(test.label[:12])
  key, wrong = make(scheme), make(scheme)
  locked = scheme.encrypt(key, toys.trained())
  rng = jax.random.key(0)

  def maps(params):
    args = toys.NET.apply, params, x, y
    return saliency.gradient(*args), saliency.smooth_grad(*args, rng)

  plain, opened = maps(toys.trained()), maps(scheme.decrypt(key, locked))
  for a, b in zip(plain, opened, strict=True):
    assert a.shape == (12, 8, 8) and float(a.min()) >= 0
    np.testing.assert_array_equal(a, b)
    assert (saliency.rank_correlation(a, b) > 0.999999).all()
  assert not np.isfinite(maps(scheme.decrypt(wrong, locked))[0]).all()
  # Around an image, not at it.
  assert saliency.rank_correlation(*map(np.asarray, plain)).mean() < 0.99


def test_a_constant_map_has_no_rank_correlation():
  a = np.random.default_rng(0).normal(size=(1, 4, 4))
  assert np.isnan(saliency.rank_correlation(a, np.zeros_like(a))).all()
