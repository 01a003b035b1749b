"""Adapters: they start as nothing, train alone, and merge into the weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import models
from experiments.training import lora
from keyjax import Secret, checkpoint, keyring, tasks, tree
from keyjax.attacks.fit import Recipe, fit
from keyjax.attacks.game import Examples
from tests import trees

TOKENS = tasks.get("tokens")
MODEL = models.create("gpt_micro", 7, (), (), depth=1, context=8)
READ = np.random.default_rng(0).integers(0, 7, (32, 8)).astype(np.int32)
EXAMPLES = Examples(READ, ((READ + 3) % 7).astype(np.int32))
VARIABLES = trees.fresh(MODEL, jnp.asarray(READ[:1]))
ADAPTED = lora.Adapted(MODEL, rank=2)
START = ADAPTED.start(jax.random.key(0), VARIABLES)


def trained():
  fits = fit(
    ADAPTED.apply,
    START,
    EXAMPLES,
    [60],
    Recipe(learning_rate=2e-2),
    loss=TOKENS.loss,
  )
  return next(fits).params


def test_at_first_nothing_changes() -> None:
  assert tree.same_bits(ADAPTED.merged(START), VARIABLES)
  want = MODEL.apply(VARIABLES, READ)
  assert (ADAPTED.apply(START, READ) == want).all()
  logits, rest = ADAPTED.apply(START, READ, train=True, mutable=["base"])
  assert (logits == want).all() and rest["base"] is START["base"]


def test_adapters_are_small_and_train_alone() -> None:
  found = trained()
  assert tree.same_bits(found["base"], VARIABLES["params"])
  size = sum(x.size for x in jax.tree.leaves(found["params"]))
  assert size < sum(x.size for x in jax.tree.leaves(VARIABLES)) / 4
  before, after = (
    float(TOKENS.loss(ADAPTED.apply(v, READ), EXAMPLES.label).mean())
    for v in (START, found)
  )
  assert after < before - 0.5
  whole = ADAPTED.merged(found)
  same = np.allclose(
    MODEL.apply(whole, READ), ADAPTED.apply(found, READ), atol=1e-5
  )
  assert same and jax.tree.structure(whole) == jax.tree.structure(VARIABLES)
  rank = np.linalg.matrix_rank(
    np.asarray(
      whole["params"]["block_0"]["mlp_in"]["kernel"]
      - VARIABLES["params"]["block_0"]["mlp_in"]["kernel"]
    ),
    tol=1e-4,
  )
  assert rank == 2


def test_a_key_binds_an_adapted_model() -> None:
  """HPNN multiplies the pre-activations of the adapted layers."""
  scheme = keyjax.hpnn(MODEL.apply)
  batch = {"image": jnp.asarray(READ), "label": jnp.asarray(EXAMPLES.label)}
  key = scheme.keygen(Secret.generate(), VARIABLES, batch)
  bound = scheme.bind(key, ADAPTED.apply)
  assert np.allclose(
    bound(START, READ), scheme.bind(key, MODEL.apply)(VARIABLES, READ)
  )
  assert not np.allclose(bound(START, READ), ADAPTED.apply(START, READ))


def test_batch_statistics_move_with_the_adapters() -> None:
  class Normed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
      x = nn.Dense(4, name="dense")(x)
      return nn.BatchNorm(use_running_average=not train, name="norm")(x)

  adapted = lora.Adapted(Normed(), rank=1)
  x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)
  start = adapted.init(jax.random.key(0), x)
  assert set(start) == {"params", "base", "batch_stats"}
  rest = [name for name in start if name != "params"]
  _, new = adapted.apply(start, x, train=True, mutable=rest)
  assert set(new) == {"base", "batch_stats"}
  assert not tree.same_bits(new["batch_stats"], start["batch_stats"])


def test_sealed_adapters_over_a_public_base(tmp_path) -> None:
  """Whoever has no key has the public model, exactly."""
  owner, other = (keyring.HpkePrivateKey.generate("x25519") for _ in range(2))
  found, path = trained(), tmp_path / "adapters"
  checkpoint.save(path, found["params"], [owner.public])
  opened = checkpoint.restore(path, owner, like=found["params"])
  assert tree.same_bits(opened, found["params"])
  with pytest.raises(keyring.KeyringError):
    checkpoint.restore(path, other, like=found["params"])


@pytest.mark.parametrize(
  ("rank", "layers", "message"),
  [
    (0, ".*kernel", "rank=0: must be at least 1"),
    (2, ".*convolution", "no kernel .* among .*block_0"),
  ],
)
def test_what_cannot_be_adapted(rank: int, layers: str, message: str) -> None:
  adapted = lora.Adapted(MODEL, rank=rank, layers=layers)
  with pytest.raises(ValueError, match=message):
    adapted.start(jax.random.key(0), VARIABLES)
