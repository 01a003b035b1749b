"""A new key: locked for it alone, and as accurate, without training."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Scheme, Secret, keys
from tests import trees

PLAIN = trees.params("float32")
BATCH = {
  "image": jnp.asarray(
    np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
  )
}
adv = functools.partial(
  keyjax.adv_params, trees.loss, loss_threshold=1e6, max_steps=3, max_params=5
)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Dense(12, name="dense")(x.reshape(len(x), -1)))
    return nn.Dense(4, name="head")(x)


NET = Net()
VARIABLES = trees.variables(NET, BATCH["image"])

CIPHERS = {
  "chain": keyjax.deep_lock(),
  "counter": keyjax.deep_lock("counter"),
  "keyed_noise": keyjax.keyed_noise(),
  "licensee_mark": keyjax.licensee_mark(),
  "adv_params": adv(),
  "adv_deep_lock": keyjax.chain(adv(), keyjax.deep_lock("counter")),
  "partition": keyjax.partition(
    {"conv/.*": keyjax.deep_lock(), ".*": keyjax.identity()}
  ),
}


def two_keys(scheme: Scheme, params: Any) -> tuple[Any, Any]:
  old, new = (scheme.keygen(Secret.generate(), params, BATCH) for _ in range(2))
  return old, new


@pytest.mark.parametrize("name", CIPHERS)
def test_what_is_encrypted_opens_with_the_new_key_alone(name: str) -> None:
  scheme = CIPHERS[name]
  old, new = two_keys(scheme, PLAIN)
  if name == "adv_params":  # Both are what the loss says: move one place.
    new = new.near(1, np.random.default_rng(0))
  locked = keyjax.rekey(scheme, old, new, scheme.encrypt(old, PLAIN))
  trees.assert_same_bits(locked, scheme.encrypt(new, PLAIN))
  trees.assert_same_bits(scheme.decrypt(new, locked), PLAIN)
  assert not keyjax.tree.same_bits(scheme.decrypt(old, locked), PLAIN)


@pytest.mark.parametrize("locked", [False, True])
def test_a_model_that_trained_under_a_key_keeps_its_logits(
  locked: bool,
) -> None:
  scheme = keyjax.hpnn(NET.apply)
  if locked:
    scheme = keyjax.chain(scheme, keyjax.deep_lock())
  old, new = two_keys(scheme, VARIABLES)
  shipped = scheme.encrypt(old, VARIABLES)
  changed = keyjax.rekey(scheme, old, new, shipped)

  def logits(key: Any, params: Any) -> Any:
    return keyjax.authorize(scheme, key, NET.apply)(params, BATCH["image"])

  want = logits(old, shipped)
  np.testing.assert_array_equal(logits(new, changed), want)
  if not locked:
    assert not np.allclose(logits(old, changed), want)
  back = keyjax.rekey(scheme, new, old, changed)
  trees.assert_same_bits(back, shipped)


@pytest.mark.parametrize("kinds", [("shf", "shf"), ("np", "np"), ("shf", "np")])
def test_a_patch_embedding_for_other_images(kinds: tuple[str, str]) -> None:
  old, new = (
    keyjax.pixel_shuffle(kind, 2).keygen(Secret.generate(), None, BATCH)
    for kind in kinds
  )
  rng = np.random.default_rng(1)
  kernel = jnp.asarray(rng.normal(size=(4, 4, 3, 5)).astype(np.float32))
  norm = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
  layers = {"old": (kernel, jnp.ones(5))}
  layers["new"] = keyjax.rekey_patch_embedding(old, new, *layers["old"], **norm)

  def outputs(name: str, key: Any) -> np.ndarray:
    seen = np.asarray(key.transform_inputs(BATCH["image"][:, :4, :4]))
    seen = (seen - np.asarray(norm["mean"])) / np.asarray(norm["std"])
    weight, bias = map(np.asarray, layers[name])
    return np.einsum("bijc,ijcd->bd", seen, weight) + bias

  want = outputs("old", old)
  np.testing.assert_allclose(outputs("new", new), want, rtol=1e-4, atol=1e-3)
  assert not np.allclose(outputs("new", old), want, atol=0.1)


@keys.key_dataclass
class Unknown(keys.Key):
  """A key of a scheme that does not say how it is changed."""

  scale: jax.Array


def test_what_must_be_trained_is_refused() -> None:
  for kind in ("shf", "np", "ffx"):
    scheme = keyjax.pixel_shuffle(kind, 2)
    old, new = two_keys(scheme, PLAIN)
    while keyjax.tree.same_bits(old, new):  # NP has few keys.
      _, new = two_keys(scheme, PLAIN)
    with pytest.raises(TypeError, match="sees other images under another key"):
      keyjax.rekey(scheme, old, new, PLAIN)
  binds = Scheme(
    keygen=lambda secret, params, batch: Unknown(scale=jnp.ones(1)),
    bind=lambda key, apply_fn: lambda p, x: key.scale * apply_fn(p, x),
  )
  keys_of = [Unknown(scale=jnp.full(1, s)) for s in (1.0, 2.0)]
  with pytest.raises(TypeError, match="Unknown: the model must be trained"):
    keyjax.rekey(binds, *keys_of, PLAIN)
  raw = [jnp.ones(1), jnp.zeros(1)]
  with pytest.raises(TypeError, match="needs a keys.Key with `rebind`"):
    keyjax.rekey(binds, *raw, PLAIN)


def test_wrong_keys_are_refused() -> None:
  scheme = keyjax.deep_lock("counter")
  old, new = two_keys(scheme, PLAIN)
  locked = scheme.encrypt(old, PLAIN)
  for same in (old, old.replace(opens_only=True)):
    with pytest.raises(ValueError, match="the new key is the old one"):
      keyjax.rekey(scheme, same, old, locked)
  other = keyjax.keyed_noise().keygen(Secret.generate(), PLAIN, None)
  with pytest.raises(TypeError, match="another scheme"):
    keyjax.rekey(scheme, old, other, locked)
  both = keyjax.chain(keyjax.hpnn(NET.apply), keyjax.deep_lock())
  pair, more = two_keys(both, VARIABLES)
  with pytest.raises(TypeError, match="keys|parts"):
    keyjax.rekey(both, pair, more[:1], both.encrypt(pair, VARIABLES))


def test_a_part_with_the_old_nonce_is_refused() -> None:
  scheme = keyjax.chain(keyjax.keyed_noise(), keyjax.deep_lock("counter"))
  old, new = two_keys(scheme, PLAIN)
  with pytest.raises(ValueError, match="part 1 of the new key is that of the"):
    keyjax.rekey(scheme, old, (new[0], old[1]), scheme.encrypt(old, PLAIN))
