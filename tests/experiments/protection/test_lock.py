"""From names and arguments to protections that a model can run."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models
from experiments.protection import lock
from keyjax import Secret, quantize, tasks
from keyjax.schemes import (
  adv_params,
  deep_lock,
  feature_permutation,
  hpnn,
  keyed_noise,
  licensee_mark,
  permutation_lock,
  pixel_shuffle,
  range_search,
)
from tests import trees

RNG = np.random.default_rng(0)
BATCH = {
  "image": jnp.asarray(RNG.random((16, 8, 8, 1)).astype(np.float32)),
  "label": jnp.asarray(RNG.integers(0, 4, 16), jnp.int32),
}
MODEL = models.create("mlp", 4, (0.5,), (0.25,), hidden=(12,))
VARIABLES = trees.fresh(MODEL, BATCH["image"])

PARTS = (("shf", {"block_size": 2}), ("hpnn", {"units": 8}), ("deep_lock", {}))
# name: (arguments, type of the key, trains under the key)
LOCKS: dict[str, tuple[dict[str, Any], type, bool]] = {
  "identity": ({}, tuple, False),
  "keyed_noise": ({}, keyed_noise.NoiseKey, False),
  "licensee_mark": ({}, licensee_mark.MarkKey, False),
  "deep_lock": ({"schedule": "counter"}, deep_lock.CounterKey, False),
  "adv_params": ({"max_steps": 2}, adv_params.AdvKey, False),
  "hpnn": ({"units": 8}, hpnn.HpnnKey, True),
  "feature_permutation": ({}, feature_permutation.FeatureKey, True),
  "permutation_lock": ({}, permutation_lock.PermutationKey, False),
  "shf": ({"block_size": 2}, pixel_shuffle.ShfKey, True),
  "np": ({}, pixel_shuffle.NpKey, True),
  "ffx": ({"block_size": 8}, pixel_shuffle.FfxKey, True),
  "chain": ({"parts": PARTS}, tuple, True),
}


def test_the_loss_is_that_of_the_task() -> None:
  """AdvParams raises the loss of a model that answers for each pixel."""
  masks = tasks.get("masks")
  model = nn.Dense(3, name="head")
  images = jnp.asarray(RNG.random((4, 5, 5, 2)).astype(np.float32))
  labels = jnp.asarray(RNG.integers(0, 3, (4, 5, 5)))
  variables = model.init(jax.random.key(0), images)
  args = {"max_steps": 3, "max_params": 3}
  made = lock.build("adv_params", args, model, masks)
  batch = {"image": images, "label": labels}
  key = made.scheme.keygen(Secret.generate(), variables, batch)
  locked = made.scheme.encrypt(key, variables)

  def loss(params: Any) -> float:
    return float(masks.loss(model.apply(params, images), labels).mean())

  assert loss(locked) > loss(variables)
  with pytest.raises(
    ValueError, match="'margin' is for classes, not for masks"
  ):
    lock.build("adv_params", {"loss": "margin"}, model, masks)


def test_every_name_is_tested() -> None:
  assert sorted(LOCKS) == sorted(lock.names())


@pytest.mark.parametrize("name", LOCKS)
def test_each_name_builds_a_working_lock(name: str) -> None:
  args, kind, trains = LOCKS[name]
  protection = lock.build(name, args, MODEL)
  assert protection.trains == trains
  prepared = protection.prepare(VARIABLES)
  trees.assert_same_bits(prepared, VARIABLES)
  # One of 24 permutations of 4 pixels changes nothing; this one does.
  secret = Secret(bytes(range(32)))
  key = protection.scheme.keygen(secret, prepared, BATCH)
  assert isinstance(key, kind)
  locked = jax.jit(protection.scheme.encrypt)(key, prepared)
  opened = jax.jit(protection.scheme.decrypt)(key, locked)
  trees.assert_same_bits(opened, prepared)
  logits = protection.scheme.bind(key, protection.apply)(opened, BATCH["image"])
  plain = MODEL.apply(VARIABLES, BATCH["image"])
  same = np.array_equal(logits, plain)
  assert same is not trains, "only schemes that train under the key bind it"


def test_hpnn_after_training_is_no_training_under_a_key() -> None:
  args = {"units": 8, "after_training": True}
  protection = lock.build("hpnn", args, MODEL)
  assert not protection.trains
  parts = (("hpnn", args), ("deep_lock", {}))
  assert not lock.build("chain", {"parts": parts}, MODEL).trains
  key = protection.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  opened = protection.scheme.bind(key, protection.apply)
  plain = MODEL.apply(VARIABLES, BATCH["image"])
  np.testing.assert_array_equal(opened(VARIABLES, BATCH["image"]), plain)


def test_arguments_reach_the_schemes() -> None:
  small = lock.build("shf", {"block_size": 2}, MODEL)
  key = small.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  assert key.order.shape == (4,)
  few = lock.build("hpnn", {"units": 5, "layers": "head"}, MODEL)
  key = few.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  assert key.bits.shape == (5,) and list(key.units) == ["head"]
  aes = lock.build("deep_lock", {"key_bits": 256}, MODEL)
  key = aes.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  assert key.master.shape == (8,)
  adv = lock.build("adv_params", {"max_params": 3, "theta": 0.5}, MODEL)
  key = adv.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  assert 1 <= int((key.leaf >= 0).sum()) <= 3


def test_the_loss_of_a_search() -> None:
  args = {"loss": "margin", "search": "in_range", "loss_threshold": 0.5}
  adv = lock.build("adv_params", args, MODEL)
  key = adv.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  logits = MODEL.apply(adv.scheme.encrypt(key, VARIABLES), BATCH["image"])
  lead = range_search.margin_loss(logits, BATCH["label"])
  assert 0.5 < lead.mean() <= 1
  other = np.where(np.eye(4)[BATCH["label"]] > 0, -np.inf, logits).max(-1)
  right = np.take_along_axis(np.asarray(logits), BATCH["label"][:, None], 1)
  np.testing.assert_allclose(
    lead, np.minimum(other - right[:, 0], 1), rtol=1e-5
  )


def test_int8_locks_only_the_values_of_kernels() -> None:
  protection = lock.build("deep_lock", {"int8": True}, MODEL)
  assert not protection.trains
  prepared = protection.prepare(VARIABLES)
  key = protection.scheme.keygen(Secret.generate(), prepared, BATCH)
  locked = jax.jit(protection.scheme.encrypt)(key, prepared)
  head = locked["params"]["head"]
  assert isinstance(head["kernel"], quantize.Quantized)
  assert head["kernel"].values.dtype == jnp.uint8
  for was, now in (
    (prepared["params"]["head"]["kernel"].scale, head["kernel"].scale),
    (prepared["params"]["head"]["bias"], head["bias"]),
  ):
    np.testing.assert_array_equal(was, now)
  opened = jax.jit(protection.scheme.decrypt)(key, locked)
  trees.assert_same_bits(opened, prepared)
  rounded = quantize.dequantize(prepared)
  np.testing.assert_array_equal(
    protection.apply(opened, BATCH["image"]),
    MODEL.apply(rounded, BATCH["image"]),
  )
  near = MODEL.apply(VARIABLES, BATCH["image"])
  np.testing.assert_allclose(
    protection.apply(prepared, BATCH["image"]), near, atol=0.1
  )


def test_a_chain_of_chains() -> None:
  inner = ("chain", {"parts": (("hpnn", {}), ("deep_lock", {}))})
  protection = lock.build("chain", {"parts": (("shf", {}), inner)}, MODEL)
  key = protection.scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  locked = jax.jit(protection.scheme.encrypt)(key, VARIABLES)
  opened = jax.jit(protection.scheme.decrypt)(key, locked)
  trees.assert_same_bits(opened, VARIABLES)
  assert isinstance(key[1], tuple)


def test_a_chain_of_ciphers_alone_trains_plainly() -> None:
  parts = (("adv_params", {"max_steps": 1}), ("deep_lock", {}))
  assert not lock.build("chain", {"parts": parts}, MODEL).trains


@pytest.mark.parametrize(
  "name, args, message",
  [
    (
      "rot13",
      {},
      "unknown scheme 'rot13'; known: adv_params, deep_lock, .*chain$",
    ),
    ("deep_lock", {"rounds": 3}, "deep_lock: unknown argument rounds; known:"),
    ("adv_params", {"thta": 3}, "adv_params: unknown argument thta.*theta"),
    ("adv_params", {"loss_fn": 3}, "unknown argument loss_fn"),
    ("adv_params", {"loss": "l2"}, "loss='l2': one of cross_entropy, margin"),
    ("hpnn", {"loss": "margin"}, "hpnn: unknown argument loss"),
    (
      "hpnn",
      {"bits": 3},
      "argument bits; known: after_training, layers, units",
    ),
    ("shf", {"int8": True}, "shf: unknown argument int8; known: block_size"),
    ("np", {"m": 4}, "np: unknown argument m; known: block_size"),
    ("ffx", {"m": 4}, "ffx: unknown argument m; known: block_size"),
    ("deep_lock", {"schedule": "rc4"}, "rc4"),
    ("chain", {}, "chain takes `parts` alone.*got nothing"),
    ("chain", {"parts": (), "int8": True}, "chain takes `parts` alone"),
    ("chain", {"parts": ()}, "at least one"),
    ("chain", {"parts": (("rot13", {}),)}, "unknown scheme 'rot13'"),
    ("chain", {"parts": (("deep_lock", {"int8": True}),)}, "no int8 part"),
  ],
)
def test_errors_name_what_is_wrong(
  name: str, args: dict[str, Any], message: str
) -> None:
  with pytest.raises(ValueError, match=message):
    lock.build(name, args, MODEL)


def test_arguments_are_not_changed() -> None:
  args = {"int8": True}
  lock.build("deep_lock", args, MODEL)
  assert args == {"int8": True}
