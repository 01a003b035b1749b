"""Experts of tiers: the contract of `keyjax.tiers.authorize`, and training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import models
from keyjax import Secret, tiers
from keyjax.keyring import SymmetricKey
from keyjax.tiers import Tier

OWNER = SymmetricKey(Secret(b"o" * 32))
ALICE = SymmetricKey(Secret(b"a" * 32))
WHOLE = {"expert": True, "base": True}
BASE = {"expert": False, "base": True}
EXPERT = ".*experts/expert/.*"


def make(name, **options):
  """Return a model, an input, and variables drawn by NumPy."""
  given = {"experts": ("expert",), **options}
  if name == "cnn":
    given |= {"features": (4,), "kernel": 3, "units": 8}
    x = jnp.asarray(np.random.default_rng(1).random((2, 8, 8, 1)), jnp.float32)
  else:
    given |= {"features": 8, "depth": 1, "heads": 2, "context": 4}
    x = jnp.asarray([[1, 2, 3]])
  model = models.create(name, 5, mean=(0.5,), std=(0.5,), **given)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  rng = np.random.default_rng(0)
  draw = lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype)  # noqa: E731
  return model, x, jax.tree.map(draw, shapes)


@pytest.mark.parametrize(
  ("name", "options"),
  [("cnn", {}), ("gpt_micro", {}), ("gpt_micro", {"whole_experts": True})],
)
def test_a_key_without_the_expert_runs_the_model_without_it(
  name, options, tmp_path
):
  model, x, variables = make(name, **options)
  plain, _, _ = make(name, experts=())
  path = tmp_path / "model"
  parts = [Tier("expert", EXPERT, ALICE, ["base"]), Tier("base", ".*", OWNER)]
  tiers.save(path, variables, parts)
  unlocked = tiers.restore(path, OWNER)
  assert unlocked.present == BASE
  forward = jax.jit(tiers.authorize(unlocked.present, model.apply))
  alone = forward(unlocked.params, x)
  # The model that never had an expert, over the params that opened.
  wanted = jax.jit(plain.apply)(unlocked.params, x)
  np.testing.assert_array_equal(alone, wanted)
  everything = tiers.restore(path, ALICE)
  forward = jax.jit(tiers.authorize(everything.present, model.apply))
  jax.tree.map(np.testing.assert_array_equal, everything.params, variables)
  assert not np.array_equal(forward(everything.params, x), alone)
  with pytest.raises(TypeError, match="does not take `present`"):
    tiers.authorize(unlocked.present, models.create("mlp", 5, (0,), (1,)).apply)


@pytest.mark.parametrize(
  ("present", "message"),
  [
    ({"expert": True, "base": False}, "Tier base is absent, and the model can"),
    ({"base": True}, "present says nothing of the expert expert"),
  ],
)
def test_what_a_model_cannot_run_without_is_refused(present, message):
  model = models.create("gpt_micro", 5, (), (), experts=("expert",))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x, present=present),
      jax.ShapeDtypeStruct((1, 3), jnp.int32),
    )


def steps(model, optimizer, batches):
  """Train; a batch of the expert runs with it, another without."""

  def loss(params, x, y, tier):
    present = {"expert": tier == "expert", "base": True}
    logits = model.apply({"params": params}, x, present=present)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return cross_entropy(logits, y).mean()

  @jax.jit(static_argnames="tier")
  def step(params, state, x, y, tier):
    grads = jax.grad(loss)(params, x, y, tier)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32.
      updates, state = optimizer.update(grads, state, params, tier=tier)
    return optax.apply_updates(params, updates), state

  def run(params):
    state = optimizer.init(params)
    for x, y, tier in batches:
      params, state = step(params, state, x, y, tier=tier)
    return params

  return run


def test_the_rest_learns_nothing_from_restricted_data():
  """To the bit: it is what public data alone would have made it."""
  model, x, variables = make("cnn")
  optimizer = tiers.routed(optax.adam(0.1), {"expert": EXPERT, "base": ".*"})
  public, restricted = (x[:1], jnp.asarray([0])), (x[1:], jnp.asarray([4]))
  order = [(*public, "base"), (*restricted, "expert")] * 2
  found = steps(model, optimizer, order)(variables["params"])
  alone = steps(model, optimizer, order[::2])(variables["params"])
  expert = found.pop("experts")
  assert not np.array_equal(
    expert["expert"]["mlp_out"]["bias"],
    alone.pop("experts")["expert"]["mlp_out"]["bias"],
  )
  jax.tree.map(np.testing.assert_array_equal, found, alone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits_from_five_to_nine_need_the_expert(seed, capsys):
  """docs/tiers.md quotes it: `pytest -s -m slow` of this file."""
  from sklearn.datasets import load_digits

  data = load_digits()
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(data.target))
  x = jnp.asarray(data.images[order, ..., None] / 16, jnp.float32)
  y = jnp.asarray(data.target[order])
  model = models.create(
    "cnn",
    10,
    mean=(0.5,),
    std=(0.5,),
    features=(16, 32),
    kernel=3,
    units=64,
    experts=("expert",),
  )
  train, test = slice(0, 1200), slice(1200, None)
  few = np.flatnonzero(y[train] < 5)
  batches = []
  for _ in range(600):
    mine = rng.choice(few, 64)
    batches.append((x[mine], y[mine], "base"))
    mine = rng.choice(1200, 64)
    batches.append((x[mine], y[mine], "expert"))
  optimizer = tiers.routed(optax.adam(2e-3), {"expert": EXPERT, "base": ".*"})
  params = model.init(jax.random.key(seed), x[:1])["params"]
  params = steps(model, optimizer, batches)(params)
  shown = []
  for present in (BASE, WHOLE):
    forward = jax.jit(tiers.authorize(present, model.apply))
    logits = forward({"params": params}, x[test])
    hits = np.asarray(logits.argmax(-1) == y[test])
    public = np.asarray(y[test] < 5)
    shown += [hits[public].mean(), hits[~public].mean()]
  with capsys.disabled():
    figures = " ".join(f"{x:.3f}" for x in shown)
    print(f"\nseed {seed}: public and restricted without, with: {figures}")
  assert shown[1] == 0 and min(shown[0], *shown[2:]) > 0.9
