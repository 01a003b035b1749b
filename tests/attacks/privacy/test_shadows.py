"""Models that are trained side by side are those trained alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import tasks
from keyjax.attacks import fit
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import procedures, shadows, stacked
from tests.attacks.privacy import models

NET = models.Net(hidden=6, norm=True)
INIT = models.initial(NET)
DATA, REST = models.pool(40)
MEMBERS = shadows.split(5, 40)
RECIPE = fit.Recipe("sgd", 0.05, batch_size=8)


def run(members=MEMBERS, data=DATA, recipe=RECIPE, init=INIT, **options):
  options = {"steps": 7, "chunk": 2, **options}
  return shadows.train(NET.apply, init, data, members, recipe, **options)


def close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, 2e-4, 1e-5), a, b)


def test_each_model_is_the_one_that_fit_trains():
  found = run(seed=3, logits=True)
  for i in (0, 4):
    own = tasks.take(DATA, np.flatnonzero(MEMBERS[i]))
    rng = jax.random.fold_in(jax.random.key(3), i)
    alone = next(fit.fit(NET.apply, INIT(rng), own, [7], RECIPE, [3, i]))
    of_all = jax.tree.map(lambda x, i=i: x[i], found.params)
    close(of_all, alone.params)
    close(found.logits[i], NET.apply(alone.params, jnp.asarray(DATA.image)))
  kernels = found.params["params"]["Dense_0"]["kernel"]
  assert kernels.shape == (5, 64, 6) and isinstance(kernels, np.ndarray)
  assert len(np.unique(kernels[:, 0, 0])) == 5


def test_chunks_and_devices_change_nothing():
  wanted = run(logits=True)
  found = run(logits=True, chunk=4, devices=jax.devices()[:2])
  close(found.params, wanted.params)
  close(found.logits, wanted.logits)
  more = stacked.answers(NET.apply, found.params, REST.image[:9], batch_size=4)
  whole = stacked.answers(NET.apply, found.params, REST.image[:9], chunk=1)
  assert more.shape == (5, 9, 10)
  close(more, whole)


def test_batches_are_of_ones_own_members_and_visit_them_once():
  members = np.flatnonzero(np.arange(20) % 3 == 0)  # 7 of them.
  order = procedures.batches(members, 3, [0, 0])
  epoch = [next(order) for _ in range(4)]
  for first, second in (epoch[:2], epoch[2:]):
    both = np.concatenate([first, second])
    assert np.isin(both, members).all() and len(set(both.tolist())) == 6


def test_a_training_set_may_be_smaller_than_a_batch():
  members = MEMBERS.copy()
  members[0] = np.arange(40) < 3
  found = run(members, each=0, steps=2)
  assert np.isfinite(found.params["params"]["Dense_0"]["kernel"]).all()


def test_only_chosen_layers_train():
  found = run(recipe=RECIPE._replace(layers=".*Dense_1.*"), steps=2)
  start = INIT(jax.random.fold_in(jax.random.key(0), 1))["params"]
  params = found.params["params"]
  close(params["Dense_0"]["kernel"][1], start["Dense_0"]["kernel"])
  moved = params["Dense_1"]["kernel"][1] - start["Dense_1"]["kernel"]
  assert np.abs(moved).max() > 1e-3


def test_split_puts_each_example_into_half_of_the_models():
  found = shadows.split(7, 1000, seed=1)
  assert (found.sum(0) == 3).all()
  assert np.abs(found.mean(1) - 3 / 7).max() < 0.06
  assert (found != shadows.split(7, 1000, seed=2)).any()


def bad_data(image=DATA.image, label=DATA.label):
  return Examples(image, label)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"members": MEMBERS[:3]}, "example .* has 0 of 3 shadow models with it"),
    ({"members": MEMBERS | True}, "0 of 5 shadow models without it"),
    ({"members": MEMBERS[:, 1:]}, r"pass bool\[5, 40\]"),
    ({"members": MEMBERS[0]}, r"members are bool\[40\]"),
    ({"members": MEMBERS * 1.0}, "members are float64"),
    ({"members": MEMBERS & False, "each": 0}, "model 0 has no members"),
    ({"data": bad_data(label=DATA.label + 1)}, "labels range from 1 to 10"),
    ({"data": bad_data(label=DATA.label - 1)}, "labels range from -1 to 8"),
    ({"data": bad_data(label=DATA.label[1:])}, "40 inputs and 39 labels"),
    ({"data": bad_data(label=DATA.image)}, r"labels are float32\[40, 8, 8\]"),
    ({"data": bad_data(image=DATA.image[..., 1:])}, "apply_fn fails on what"),
    ({"data": bad_data(image=DATA.image * np.nan)}, "NaN or infinite: lower"),
    ({"recipe": RECIPE._replace(optimizer="none")}, "optimizer='none'"),
    ({"recipe": RECIPE._replace(layers="none")}, "no leaf matches"),
    ({"recipe": RECIPE._replace(batch_size=0)}, "batch_size=0"),
    ({"recipe": RECIPE._replace(learning_rate=0)}, "learning_rate=0: must be"),
    ({"recipe": RECIPE._replace(learning_rate=-1.0)}, "learning_rate=-1.0"),
    ({"recipe": RECIPE._replace(learning_rate=np.inf)}, "learning_rate=inf"),
    ({"seed": -1}, "seed=-1: a whole number"),
    ({"seed": "a"}, "seed='a': a whole number"),
    ({"shared": {"batch_stats": {}}}, "the models have batch_stats already"),
    ({"steps": 0}, "steps=0"),
    ({"chunk": 0}, "chunk=0"),
  ],
)
def test_wrong_arguments_are_named(options, message):
  with pytest.raises(ValueError, match=message) as caught:
    run(**options)
  assert "\n" not in str(caught.value)


def test_what_is_no_function_is_named():
  with pytest.raises(TypeError, match="apply_fn is the module Net"):
    shadows.train(NET, INIT, DATA, MEMBERS)
  with pytest.raises(TypeError, match="init is a dict"):
    run(init={"params": 0})
  for options, message in (
    ({"data": tuple(DATA)}, "data are a tuple: pass Examples"),
    ({"recipe": None}, "recipe is None: pass a fit.Recipe"),
    ({"recipe": RECIPE._replace(learning_rate="1")}, "learning_rate='1'"),
    ({"recipe": RECIPE._replace(layers=None)}, "layers is one regular expr"),
    ({"shared": 5}, "shared is an int: pass collections"),
    ({"loss": 5}, "loss is an int, not a function"),
    ({"procedure": 5}, "procedure is an int"),
  ):
    with pytest.raises(TypeError, match=message):
      run(**options)
  for seed in (-1, "a", 1 << 63):
    with pytest.raises(ValueError, match="seed=.*: a whole number"):
      shadows.split(2, 5, seed)
  with pytest.raises(ValueError, match="k=1"):
    shadows.split(1, 5)


def test_logits_that_are_nan_are_refused():
  broken = {"w": np.full((3, 2, 2), np.nan, np.float32)}
  with pytest.raises(ValueError, match="logits of 3 of 3 models"):
    stacked.answers(lambda p, x: x @ p["w"], broken, np.ones((4, 2), "f4"))
  with pytest.raises(ValueError, match=r"expected \[4, classes\]"):
    stacked.answers(lambda p, x: x[:, 0], broken, np.ones((4, 2), "f4"))


def test_what_cannot_be_answered_is_named():
  models = {"params": {"w": np.ones((3, 2, 2), np.float32)}}
  x = np.ones((4, 2), np.float32)

  def apply_fn(variables, x):
    return x @ variables["params"]["w"]

  for options, message in (
    ({"shared": {"params": {"w": np.zeros((2, 2))}}}, "have params already"),
    ({"inputs": x[:0]}, "3 models and 0 inputs: pass some"),
    ({"inputs": x[:, :1]}, r"apply_fn fails on inputs float32\[4, 1\] \("),
  ):
    given = {"inputs": x, **options}
    with pytest.raises(ValueError, match=message) as caught:
      stacked.answers(apply_fn, models, given.pop("inputs"), **given)
    assert "\n" not in str(caught.value)
  with pytest.raises(TypeError, match="shared is an int"):
    stacked.answers(apply_fn, models, x, shared=5)
