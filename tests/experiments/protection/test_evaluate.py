"""Counts, against models whose right answers are known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import models
from experiments.protection import evaluate, lock
from keyjax import tasks
from tests import trees

CLASSES, TOKENS = tasks.CLASSES, tasks.get("tokens")
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 23).astype(np.int32)
# The first pixel of each image is its label, and the model returns it.
IMAGES = np.zeros((23, 2, 2, 1), np.uint8)
IMAGES[:, 0, 0, 0] = LABELS


def correct(found: evaluate.Judged) -> np.ndarray:
  """Return the number of labels that each key gets right, int[K]."""
  return found.statistics["hits"].sum(1).astype(int)


def read_off(variables: Any, images: jax.Array) -> jax.Array:
  """Return logits of the class `pixel + shift`; NaN on `spoilt` classes."""
  classes = jnp.round(images[:, 0, 0, 0] * 255).astype(jnp.int32)
  seen = jax.nn.one_hot((classes + variables["shift"]) % 4, 4)
  bad = variables["spoilt"][classes][:, None]
  return jnp.where(bad, jnp.nan, seen)


def move(key: jax.Array, variables: Any, sign: int) -> Any:
  return variables | {"shift": variables["shift"] + sign * key}


# The key is the shift that encryption adds: every key's answers are known.
SHIFTING = keyjax.Scheme(
  keygen=lambda secret, params, batch: jnp.int32(1),
  encrypt=lambda key, params: move(key, params, 1),
  decrypt=lambda key, params: move(key, params, -1),
)
LOCK = lock.Lock(SHIFTING, False, lambda v: v, read_off)
PLAIN = {"shift": jnp.int32(0), "spoilt": jnp.zeros(4, bool)}
LOCKED = SHIFTING.encrypt(jnp.int32(1), PLAIN)


@pytest.mark.parametrize("size", [1, 5, 8, 23, 500])
def test_known_right_answers(size: int) -> None:
  """5 and 8 do not divide 23: rows of padding (label 0) never count."""
  images = evaluate.pack(IMAGES, LABELS, size)
  keys = [jnp.int32(k) for k in (1, 0, 2, 5)]
  found = evaluate.judge(CLASSES, LOCK, LOCKED, keys, images)
  assert correct(found).tolist() == [23, 0, 0, 23]
  assert found.nonfinite.tolist() == [0, 0, 0, 0]
  assert found.total == 23
  assert found.values.tolist() == [1, 0, 0, 1]


def test_pack_fills_the_last_batch() -> None:
  images = evaluate.pack(IMAGES, LABELS, 8)
  assert images.image.shape == (3, 8, 2, 2, 1)
  assert images.mask.sum() == 23 and not images.mask[2, 7]
  assert images.label.reshape(-1)[:23].tolist() == LABELS.tolist()
  few = IMAGES[:3], LABELS[:3], 500
  assert evaluate.pack(*few, jax.devices()[:1]).mask.tolist() == [[True] * 3]
  # On 8 devices, of which 5 have none.
  assert evaluate.pack(*few).mask.tolist() == [[True] * 3 + [False] * 5]


def test_images_with_logits_that_are_not_finite_are_counted() -> None:
  images = evaluate.pack(IMAGES, LABELS, 8)
  spoilt = LOCKED | {"spoilt": jnp.array([True, False, True, False])}
  keys = [jnp.int32(1), jnp.int32(0)]
  found = evaluate.judge(CLASSES, LOCK, spoilt, keys, images)
  bad = int(np.isin(LABELS, [0, 2]).sum())
  assert found.nonfinite.tolist() == [bad, bad]
  # The argmax of NaN is class 0: it is "right" there, and counted as well.
  zeros = int((LABELS == 0).sum())
  assert correct(found).tolist() == [23 - bad + zeros, zeros]


def test_infinite_logits_count_as_well() -> None:
  infinite = lock.Lock(
    scheme=SHIFTING,
    trains=False,
    prepare=lambda v: v,
    apply=lambda v, x: jnp.where(read_off(v, x) > 0, jnp.inf, 0),
  )
  images = evaluate.pack(IMAGES, LABELS, 8)
  found = evaluate.judge(CLASSES, infinite, LOCKED, [jnp.int32(1)], images)
  assert (correct(found)[0], found.nonfinite[0]) == (23, 23)


def test_keys_at_once_give_the_same_as_one_by_one(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  images = evaluate.pack(IMAGES, LABELS, 10)
  weights = {"w": jnp.asarray(RNG.normal(size=(4, 4)).astype(np.float32))}
  scheme = keyjax.pixel_shuffle("shf", 2)
  linear = lock.Lock(
    scheme=scheme,
    trains=True,
    prepare=lambda v: v,
    apply=lambda v, x: x.reshape(len(x), -1) @ v["w"],
  )
  batch = {"image": np.zeros((1, 2, 2, 1), np.float32)}
  keys = [
    scheme.keygen(keyjax.Secret.generate(), weights, batch) for _ in range(12)
  ]
  alone = [evaluate.judge(CLASSES, linear, weights, [k], images) for k in keys]
  monkeypatch.setattr(evaluate, "_keys_at_once", lambda: 8)  # Then 4.
  together = evaluate.judge(CLASSES, linear, weights, keys, images)
  assert correct(together).tolist() == [int(correct(c)[0]) for c in alone]
  assert together.total == alone[0].total
  assert len(set(correct(together).tolist())) > 1, "keys differ"


def test_large_weights_are_opened_for_one_key_at_a_time(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  images = evaluate.pack(IMAGES, LABELS, 8, jax.devices()[:1])
  keys = [jnp.int32(i) for i in range(3)]
  want = evaluate.judge(CLASSES, LOCK, LOCKED, keys, images)
  waits = []
  get = jax.device_get
  monkeypatch.setattr(jax, "device_get", lambda x: waits.append(1) or get(x))
  assert evaluate.judge(CLASSES, LOCK, LOCKED, keys, images) is not None
  queued = len(waits)
  monkeypatch.setattr(evaluate, "_MOST_QUEUED", 0)
  found = evaluate.judge(CLASSES, LOCK, LOCKED, keys, images)
  assert len(waits) == 2 * queued + len(keys)
  np.testing.assert_array_equal(found.nonfinite, want.nonfinite)
  trees.assert_same_bits(found.statistics, want.statistics)


def test_a_stolen_file_and_the_plain_condition() -> None:
  unlocked = lock.Lock(keyjax.identity(), False, lambda v: v, read_off)
  images = evaluate.pack(IMAGES, LABELS, 8)
  found = evaluate.judge_without_key(CLASSES, unlocked, PLAIN, images)
  assert (correct(found).tolist(), found.total) == ([23], 23)
  stolen = evaluate.judge_without_key(CLASSES, LOCK, LOCKED, images)
  assert correct(stolen)[0] == 0


MODEL = models.create("mlp", 4, (0.5,), (0.5,), hidden=(3,))
BATCH = {"image": np.zeros((1, 2, 2, 1), np.float32)}
VARIABLES = trees.variables(MODEL, jnp.zeros((1, 2, 2, 1)), deviation=1)
NOISE = RNG.integers(0, 256, IMAGES.shape).astype(np.uint8)
LOCKS = {
  "deep_lock": {},
  "hpnn": {},
  "shf": {"block_size": 2},
  "ffx": {"block_size": 2},
  "chain": {"parts": (("hpnn", {}), ("deep_lock", {"schedule": "counter"}))},
}


def assert_alike(found: evaluate.Judged, want: evaluate.Judged) -> None:
  assert found.nonfinite.tolist() == want.nonfinite.tolist()
  finite = want.nonfinite == 0  # The argmax of NaN depends on the program.
  assert finite.any()
  assert correct(found)[finite].tolist() == correct(want)[finite].tolist()
  assert found.total == want.total
  for name in found.task.metrics:
    a, b = found.metric(name)[finite], want.metric(name)[finite]
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
  ("name", "at_once"), [(name, 1 + (name == "deep_lock")) for name in LOCKS]
)
def test_devices_share_the_images(
  name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
  """8 devices count as one does, which has batches of another size."""
  monkeypatch.setattr(evaluate, "_keys_at_once", lambda: at_once)
  made = lock.build(name, LOCKS[name], MODEL)
  secret = keyjax.Secret(bytes(range(32)))
  keys = [made.scheme.keygen(secret.child(c), VARIABLES, BATCH) for c in "abcd"]
  locked = made.scheme.encrypt(keys[0], VARIABLES)
  one, all_devices = (
    evaluate.pack(NOISE, LABELS, 10, devices)
    for devices in (jax.devices()[:1], None)
  )
  want = evaluate.judge(CLASSES, made, locked, keys, one)
  assert want.total == 23
  assert_alike(evaluate.judge(CLASSES, made, locked, keys, all_devices), want)
  if name == "hpnn":
    found = evaluate.judge_without_key(CLASSES, made, locked, all_devices)
    assert_alike(found, evaluate.judge_without_key(CLASSES, made, locked, one))


def test_devices_share_a_text() -> None:
  texts = RNG.integers(0, 4, (5, 6)).astype(np.uint8)
  labels = RNG.integers(0, 4, (5, 6)).astype(np.int32)
  table = {"table": RNG.normal(size=(4, 4)).astype(np.float32)}
  made = lock.Lock(
    keyjax.identity(), False, lambda v: v, lambda v, x: v["table"][x]
  )
  one, found = (
    evaluate.judge_without_key(
      TOKENS, made, table, evaluate.pack(texts, labels, 4, devices)
    )
    for devices in (jax.devices()[:1], None)
  )
  assert found.total == 5 * 6 and len(found.key(0)["hits"]) == 5
  assert_alike(found, one)


def test_each_device_computes_its_rows_alone() -> None:
  images = evaluate.pack(NOISE, LABELS, 16)
  shards = [x.data.shape for x in images.image.addressable_shards]
  assert shards == [(2, 2, 2, 2, 1)] * 8
  assert {x.device for x in images.label.addressable_shards} == {*jax.devices()}
