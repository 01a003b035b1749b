"""What `measure.lock` refuses before anything is played."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax.attacks import measure
from keyjax.attacks.game import Attacker, Budget, Examples
from tests.attacks import toys
from tests.attacks.test_measure import (
  COUNTER_128,
  NONE,
  SHORT,
  late_hpnn,
  small,
)


@pytest.mark.parametrize(
  ("name", "fields", "message"),
  [
    ("my_lock", {}, "my_lock"),
    ("identity", {"wrong_keys": -1}, "wrong_keys=-1: a whole number, 0"),
    ("identity", {"wrong_keys": 2.5}, "wrong_keys=2.5: a whole number"),
    ("identity", {"budget": Budget(steps=1, points=0)}, "points=0"),
    ("identity", {"budget": Budget(steps=0, points=1)}, "steps=0"),
    ("identity", {"budget": Budget(seed=-1)}, "seed=-1"),
    ("identity", {"attacker": Attacker(images=-1)}, "images=-1"),
    ("identity", {"attacker": Attacker(queries=5000)}, "with queries=5000"),
    ("identity", {"attacker": Attacker(copies=3)}, "copies=3, .* has none"),
    ("identity", {"attacker": Attacker(has_base=True)}, "has_base=True"),
    ("identity", {"attacker": Attacker(known_leaf="x")}, "known_leaf: no leaf"),
    ("identity", {"attacker": Attacker(1, 1, 900, 900)}, "ciphertexts=900 of"),
    ("deep_lock", {}, "target.options: deep_lock with these options"),
    ("hpnn", {}, "target.options: hpnn with these options"),
    ("chain", {}, "options of a chain do not list its parts"),
  ],
)
def test_what_cannot_be_measured_is_refused(name, fields, message) -> None:
  target = small(keyjax.identity(), name)
  with pytest.raises(ValueError, match=message):
    measure.lock(target, **fields)


def test_an_attacker_with_more_than_there_is_is_refused() -> None:
  target = small(keyjax.identity(), "identity")
  with pytest.raises(ValueError, match="images=5000, but this target has 1400"):
    measure.lock(target, Attacker(images=5000, queries=1), SHORT)


@pytest.mark.parametrize(
  "fields",
  [
    {"title": 3},
    {"attacker": {"images": 3}},
    {"budget": 3},
    {"command": None},
    {"say": None},
  ],
)
def test_arguments_of_other_types_are_refused(fields) -> None:
  (name,) = fields
  with pytest.raises(TypeError, match=f"^{name} is "):
    measure.lock(small(keyjax.identity(), "identity"), **fields)
  with pytest.raises(TypeError, match="^target is a dict, not a Target"):
    measure.lock({})  # type: ignore[arg-type]


def test_options_of_another_lock_are_refused() -> None:
  scheme = keyjax.deep_lock("counter")
  for options in {}, {"schedule": "counter", "key_bits": 256}:
    with pytest.raises(ValueError, match="target.options: deep_lock with thes"):
      measure.lock(small(scheme, "deep_lock", options=options), NONE, SHORT)
  with pytest.raises(ValueError, match="unknown argument rounds"):
    target = small(scheme, "deep_lock", options={"rounds": 3})
    measure.lock(target, NONE, SHORT)
  # The file is the same with and without it: only the pass differs.
  other = dataclasses.replace(small(late_hpnn(), "hpnn"), name="identity")
  with pytest.raises(ValueError, match="target.options: identity with these"):
    measure.lock(other, NONE, SHORT)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"train": (1, 2)}, "target.train is a tuple, not an Examples"),
    ({"test": Examples([0.5], [1])}, "target.test.image is a list: pass arr"),
    ({"label": [5, 14]}, "target.test.label range from 5 to 14"),
    ({"label": [0.5, 1.0]}, "target.test.label are float64"),
    ({"count": 0}, "target.test has no examples"),
    ({"count": 1}, "on 1 test examples, and cannot be told from chance"),
    ({"image": np.nan}, "target.test.image has numbers that are NaN"),
    ({"outputs": 1}, "apply_fn returns float32.1, 1. for one example"),
    ({"init": lambda rng: {"params": {}}}, "target.init: the plain pass"),
    ({"key": None}, "target.locked: target.key does not open it"),
    ({"options": None}, "target.options is None, not a Mapping"),
    ({"base": {"w": np.ones(2)}}, "target.base is not of the leaves"),
  ],
)
def test_a_target_that_contradicts_itself_is_refused(change, message) -> None:
  target = small(keyjax.deep_lock("counter"), "deep_lock", options=COUNTER_128)
  image, label = target.test
  if "label" in change:
    change = {"test": Examples(image[:2], np.array(change["label"]))}
  if "count" in change:
    n = change["count"]
    change = {"test": Examples(image[:n], label[:n])}
  if "image" in change:
    change = {"test": Examples(image * change["image"], label)}
  if "outputs" in change:
    change = {"apply_fn": lambda p, x: toys.NET.apply(p, x)[:, :1]}
  if "key" in change:
    other = keyjax.Secret.generate()
    change = {"key": target.scheme.keygen(other, target.params, None)}
  with pytest.raises((TypeError, ValueError), match=message):
    measure.lock(dataclasses.replace(target, **change), NONE, SHORT)


def test_a_model_that_answers_nan_with_its_key_is_refused() -> None:
  params = jax.tree.map(lambda x: x * jnp.nan, toys.trained())
  target = small(keyjax.identity(), "identity", params=params)
  with pytest.raises(ValueError, match="NaN or infinite with the key, on 40 o"):
    measure.lock(target, NONE, SHORT)


def test_a_model_that_was_not_trained_under_its_key_is_refused() -> None:
  target = small(keyjax.hpnn(toys.NET.apply), "hpnn")
  with pytest.raises(ValueError, match="without the key and .* with it; train"):
    measure.lock(target, NONE, SHORT, wrong_keys=0)


def test_collections_that_attacks_cannot_train_are_refused() -> None:
  params = {**toys.trained(), "cache": {"x": jnp.zeros((0, 3))}}
  target = small(keyjax.identity(), "identity", params=params)
  with pytest.raises(ValueError, match="with train=True and mutable=.'cache'"):
    measure.lock(target, NONE, SHORT)
