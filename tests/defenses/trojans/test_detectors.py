"""Detectors, on small networks with and without trojans."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import roc
from keyjax.defenses import trojans
from tests.attacks import toys, trojaned
from tests.attacks.trojaned import RNG, TARGET

CLEAN = toys.digits()[1]


@pytest.fixture(autouse=True, scope="module")
def trained():
  """Train outside of any trace."""
  toys.trained()
  trojaned.trojaned("patch")


def of_training(name):
  """Return activations, labels and poison of the training data."""
  net = trojaned.trojaned(name)
  data = net.data
  h = trojaned.hidden(net.params, data.examples.image)
  return h, data.examples.label, data.poison


def test_spectral_scores_rank_poisons_above_their_class():
  h, labels, poison = of_training("patch")
  scores = trojans.spectral_scores(h, labels)
  here = labels == TARGET
  assert roc.auc(roc.curve(scores[here], poison[here])) > 0.7
  removed = trojans.largest(scores, labels, int(poison.sum()))
  assert removed[poison].mean() > 2 * removed[~poison & here].mean()


def test_as_many_examples_of_each_class_are_removed():
  scores = np.arange(12.0)
  labels = np.repeat([0, 1, 2], [7, 4, 1])
  removed = trojans.largest(scores, labels, 2)
  assert np.flatnonzero(removed).tolist() == [4, 5, 6, 8, 9, 10]


def test_scores_are_those_of_the_first_singular_vector():
  h = np.random.default_rng(0).normal(size=(30, 4))
  h[0] += 20
  scores = trojans.spectral_scores(h, np.zeros(30, int))
  covariance = np.cov(h.T, bias=True) * 30
  value = np.linalg.eigvalsh(covariance)[-1]
  np.testing.assert_allclose(scores.sum(), value, rtol=1e-9)
  assert scores.argmax() == 0


def test_activations_fall_into_clean_ones_and_poison():
  h, labels, poison = of_training("patch")
  found = trojans.clusters(h, labels)
  called = trojans.flagged(found, labels)
  assert called[poison].mean() > 0.7
  assert called[~poison].mean() < 0.1
  assert found.share.shape == found.silhouette.shape == found.classes.shape


def test_a_class_of_equal_examples_is_one_group():
  found = trojans.clusters(np.ones((8, 3)), np.zeros(8, int))
  assert not found.small.any() and found.silhouette.tolist() == [0]
  assert not trojans.flagged(found, np.zeros(8, int)).any()


@pytest.mark.parametrize("run", [trojans.spectral_scores, trojans.clusters])
def test_activations_that_mean_nothing_are_refused(run):
  h, labels = np.ones((8, 3)), np.zeros(8, int)
  with pytest.raises(ValueError, match="NaN or infinite"):
    run(h * np.nan, labels)
  with pytest.raises(ValueError, match="2 axes"):
    run(h.ravel(), labels)
  with pytest.raises(ValueError, match="2 axes"):
    run(h[:0], labels[:0])
  with pytest.raises(ValueError, match=r"integers, \[8\]"):
    run(h, labels[:3])
  alone = np.asarray([0, 0, 0, 0, 0, 0, 0, 1])
  with pytest.raises(ValueError, match="class 1 has 1 examples"):
    run(h, alone)


def test_labels_of_other_clusters_are_refused():
  found = trojans.clusters(np.ones((8, 3)), np.zeros(8, int))
  with pytest.raises(ValueError, match="that the clusters do not have"):
    trojans.flagged(found, np.ones(8, int))


def test_a_patch_survives_other_images():
  net = trojaned.trojaned("patch")
  x = jnp.asarray(CLEAN.image[CLEAN.label != TARGET])
  stamped = net.trigger.stamp(RNG, x[:100])
  rng = jax.random.key(3)
  run = jax.jit(functools.partial(trojans.entropies, net, draws=16))
  low = run(stamped, x[200:], rng=rng)
  high = run(x[100:200], x[200:], rng=rng)
  scores = np.concatenate([-low, -high])
  assert roc.auc(roc.curve(scores, np.arange(200) < 100)) > 0.9


def test_clean_images_are_added_and_clipped():
  half, ones = jnp.full((2, 3), 0.5), jnp.ones((2, 3))

  def logits_fn(x):
    return jnp.stack([20 * (x[:, 0] - 0.76), 0 * x[:, 0]], -1)

  low = trojans.entropies(logits_fn, half, ones, rng=RNG)  # Clipped to 1.
  high = trojans.entropies(logits_fn, half, ones, weight=0.25, rng=RNG)
  assert low.max() < 0.1 and high.min() > 0.6
  nan = trojans.entropies(lambda x: x[:, :2] * jnp.nan, ones, ones, rng=RNG)
  assert jnp.isnan(nan).all()
  with pytest.raises(ValueError, match=r"inputs have \[3\]"):
    trojans.entropies(logits_fn, ones, jnp.ones((2, 4)), rng=RNG)
  with pytest.raises(ValueError, match="draws=0"):
    trojans.entropies(logits_fn, ones, ones, draws=0, rng=RNG)
  with pytest.raises(ValueError, match="weight=0"):
    trojans.entropies(logits_fn, ones, ones, weight=0, rng=RNG)
  with pytest.raises(ValueError, match="outside the bounds"):
    trojans.entropies(logits_fn, ones, 2 * ones, rng=RNG)


@functools.cache
def reversed_of(name):
  params = toys.trained() if name == "clean" else trojaned.trojaned(name).params
  logits_fn = jax.tree_util.Partial(trojaned.RUN, params)
  return _reverse(logits_fn, jnp.asarray(CLEAN.image))


@jax.jit
def _reverse(logits_fn, images):
  return trojans.neural_cleanse(
    logits_fn, images, steps=200, batch_size=32, rng=RNG
  )


def test_the_class_of_a_patch_needs_the_least_mask():
  found = reversed_of("patch")
  assert found.size.argmin() == TARGET
  assert found.success[TARGET] >= 0.98
  assert trojans.anomaly(found.size)[TARGET] > 2
  assert found.mask.shape == (10, 8, 8)
  assert found.pattern.shape == (10, 8, 8, 1)
  np.testing.assert_allclose(found.mask.sum((1, 2)), found.size, rtol=1e-5)


def test_the_mask_that_is_found_does_what_the_trigger_does():
  found = reversed_of("patch")
  net = trojaned.trojaned("patch")
  mask = found.mask[TARGET][None, ..., None]
  x = jnp.asarray(CLEAN.image)
  changed = (1 - mask) * x + mask * found.pattern[TARGET][None]
  assert (net(changed).argmax(-1) == TARGET).mean() > 0.9
  corner = found.mask[TARGET][6:, 6:].sum()
  assert corner > 0.3 * found.size[TARGET]


def test_a_clean_model_needs_more():
  clean, patched = reversed_of("clean"), reversed_of("patch")
  assert clean.size.min() > 1.5 * patched.size[TARGET]


@pytest.mark.slow
def test_false_alarms_of_three_clean_networks():
  """A trojan stands out more than any class of networks without one."""
  trojan = trojans.anomaly(reversed_of("patch").size).max()
  flags = []
  for seed in (1, 2, 3):
    params = trojaned.train(toys.digits()[0], seed=seed)
    h = trojaned.hidden(params, toys.digits()[0].image)
    found = trojans.clusters(h, toys.digits()[0].label)
    called = trojans.flagged(found, toys.digits()[0].label)
    assert called.mean() < 0.1
    logits_fn = jax.tree_util.Partial(trojaned.RUN, params)
    sizes = _reverse(logits_fn, jnp.asarray(CLEAN.image)).size
    flags.append(trojans.anomaly(sizes).max())
  assert max(flags) < trojan and np.median(flags) < 2


def test_some_classes_alone_can_be_searched():
  net = trojaned.trojaned("patch")
  x = jnp.asarray(CLEAN.image)
  one = jnp.asarray([TARGET], jnp.int32)
  found = trojans.neural_cleanse(net, x, targets=one, steps=2, rng=RNG)
  assert found.mask.shape == (1, 8, 8)
  with pytest.raises(ValueError, match="classes 0 to 9"):
    trojans.neural_cleanse(net, x, targets=one + 9, rng=RNG)
  with pytest.raises(ValueError, match=r"pass \[n, h, w, c\]"):
    trojans.neural_cleanse(net, x.reshape(len(x), -1), rng=RNG)
  for wrong, message in (
    (lambda x: net(x) * jnp.nan, "NaN or infinite"),
    (lambda x: jax.nn.softmax(net(x)), "returns probabilities"),
  ):
    with pytest.raises(ValueError, match=message):
      trojans.neural_cleanse(wrong, x, rng=RNG)
  with pytest.raises(ValueError, match="outside the bounds"):
    trojans.neural_cleanse(net, x * jnp.nan, rng=RNG)
  with pytest.raises(ValueError, match="multiplier=0.5"):
    trojans.neural_cleanse(net, x, multiplier=0.5, rng=RNG)
  with pytest.raises(ValueError, match="threshold=1.5"):
    trojans.neural_cleanse(net, x, threshold=1.5, rng=RNG)


def test_an_anomaly_is_counted_in_robust_deviations():
  sizes = np.asarray([1.0, 2.0, 3.0, 4.0, 100.0])
  np.testing.assert_allclose(trojans.anomaly(sizes)[0], 2 / 1.4826)
  assert not trojans.anomaly(np.ones(4)).any()
  with pytest.raises(ValueError, match="3 or more"):
    trojans.anomaly(np.ones(2))
  with pytest.raises(ValueError, match="finite"):
    trojans.anomaly(np.asarray([1.0, 2.0, np.inf]))


def test_pruning_removes_what_clean_images_do_not_use():
  net = trojaned.trojaned("patch")
  part = Examples(*(x[:200] for x in CLEAN))
  h = trojaned.hidden(net.params, part.image)
  found = trojans.fine_prune(
    toys.NET.apply, net.params, part, h, layer="dense", drop=0.1, steps=100
  )
  m = len(found.units)
  assert m == len(found.accuracy) - 1 > 0
  assert found.accuracy.min() >= found.accuracy[0] - 0.1
  np.testing.assert_array_equal(found.units, trojans.dormant_first(h)[:m])
  for params in (found.pruned, found.tuned):
    layer = params["params"]["dense"]
    assert not np.asarray(layer["kernel"])[:, found.units].any()
    assert not np.asarray(layer["bias"])[found.units].any()
  after = trojaned.judged(lambda x: trojaned.RUN(found.tuned, x), "patch")
  assert after.correct.mean() > 0.85


def test_pruning_refuses_layers_and_units_that_are_not_there():
  params = toys.trained()
  part = Examples(*(x[:20] for x in CLEAN))
  h = trojaned.hidden(params, part.image)
  with pytest.raises(ValueError, match="layer='conv': choose dense, head"):
    trojans.pruned(params, "conv", [0])
  with pytest.raises(ValueError, match="dense has the units 0 to 31"):
    trojans.pruned(params, "dense", [32])
  with pytest.raises(ValueError, match="head has 10"):
    trojans.fine_prune(toys.NET.apply, params, part, h, layer="head")
  for wrong, message in (
    (part._replace(label=part.label + 9), "labels range"),
    (part._replace(label=part.label[:3]), r"integers, \[20\]"),
    (part._replace(image=part.image * np.nan), "outside the bounds"),
    (Examples(part.image[:0], part.label[:0]), "n >= 1"),
  ):
    with pytest.raises(ValueError, match=message):
      trojans.fine_prune(toys.NET.apply, params, wrong, h, layer="dense")
  with pytest.raises(ValueError, match="drop=2"):
    trojans.fine_prune(toys.NET.apply, params, part, h, layer="dense", drop=2)
  with pytest.raises(ValueError, match="NaN or infinite"):
    trojans.dormant_first(h * np.nan)
  with pytest.raises(ValueError, match=r"floats, \[..., d\]"):
    trojans.dormant_first(np.ones(3))
