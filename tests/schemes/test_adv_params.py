"""AdvParams against a plain NumPy search, its bounds, and its breaks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import keyjax
from experiments import models
from keyjax import Secret, secrets
from keyjax.schemes import adv_params, gradient_search, range_search
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((32, 8, 8, 1)).astype(np.float32))
LABELS = jnp.asarray(RNG.integers(0, 4, 32))
BATCH = {"image": IMAGES, "label": LABELS}
MODEL = models.create("mlp", 4, (0.5,), (0.25,), hidden=(16, 12))
VARIABLES = trees.fresh(MODEL, IMAGES)


def loss_fn(variables: Any, batch: Any) -> jax.Array:
  logits = MODEL.apply(variables, batch["image"])
  return optax.softmax_cross_entropy_with_integer_labels(
    logits, batch["label"]
  ).mean()


def options(**kwargs: Any) -> gradient_search.Options:
  defaults: dict[str, Any] = {
    "theta": 0.1,
    "beta": None,
    "max_layers": 25,
    "max_steps": 5,
    "max_changes": 25,
    "max_params": 48,
    "loss_threshold": 1e9,
  }
  return gradient_search.Options(**defaults | kwargs)


def run(secret: Secret, opts: gradient_search.Options) -> Any:
  return adv_params.find(secret, VARIABLES, BATCH, loss_fn, ".*kernel", opts)


def reference(secret: Secret, opts: gradient_search.Options) -> tuple[Any, int]:
  """Return the result of the paper's steps: NumPy and Python loops."""
  value_and_grad = jax.jit(jax.value_and_grad(loss_fn))
  params = {n: np.array(p["kernel"]) for n, p in VARIABLES["params"].items()}
  names = sorted(params)

  def tree_of() -> Any:
    merged = {
      n: p | {"kernel": jnp.asarray(params[n])}
      for n, p in VARIABLES["params"].items()
    }
    return VARIABLES | {"params": merged}

  order = secrets.permutation(secret, "adv_params/layers", len(names))
  slots: set[tuple[str, int]] = set()
  steps = 0
  for layer in order[: opts.max_layers]:
    w = params[names[layer]].reshape(-1)
    span = w.max() - w.min()
    low, high = -np.inf, np.inf
    if opts.beta is not None:
      low = w.min() + np.float32(opts.beta) * span
      high = w.max() - np.float32(opts.beta) * span
    count, stuck = np.zeros(w.size, int), np.zeros(w.size, bool)
    for _ in range(opts.max_steps):
      loss, grads = value_and_grad(tree_of(), BATCH)
      if loss > opts.loss_threshold:
        return tree_of(), steps
      g = np.asarray(grads["params"][names[layer]]["kernel"]).reshape(-1)
      score = np.where((count < opts.max_changes) & ~stuck, np.abs(g), -1)
      step = np.float32(opts.theta) * np.sign(g) * span
      score = np.where(np.clip(w + step, low, high) == w, -1, score)
      if len(slots) == opts.max_params:
        own = [i for n, i in slots if n == names[layer]]
        score = np.where(np.isin(np.arange(w.size), own), score, -1)
      i = int(np.argmax(score))
      if score[i] <= 0:
        break
      raw = w[i] + np.float32(opts.theta) * np.sign(g[i]) * span
      w[i] = np.clip(raw, low, high).astype(np.float32)
      stuck[i], count[i] = raw != w[i], count[i] + 1
      slots.add((names[layer], i))
      steps += 1
  return tree_of(), steps


@pytest.mark.parametrize(
  "kwargs",
  [
    {},
    {"beta": 0.1, "theta": 0.3},
    pytest.param({"max_changes": 1}, marks=pytest.mark.slow),
    {"max_layers": 2, "max_steps": 9, "max_params": 4},
    pytest.param({"theta": 1.0, "loss_threshold": 3.0}, marks=pytest.mark.slow),
  ],
)
def test_the_search_takes_the_steps_of_the_paper(
  kwargs: dict[str, Any],
) -> None:
  secret, opts = Secret.generate(), options(**kwargs)
  key, trace = run(secret, opts)
  want, steps = reference(secret, opts)
  locked = adv_params.encrypt(key, VARIABLES)
  for a, b in zip(jax.tree.leaves(locked), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert trace.num_steps == steps > 0
  changed = sum(
    int((trees.bits(a) != trees.bits(b)).sum())
    for a, b in zip(
      jax.tree.leaves(locked), jax.tree.leaves(VARIABLES), strict=True
    )
  )
  assert changed == trace.num_params <= opts.max_params
  assert trace.key_bytes == 12 * trace.num_params
  np.testing.assert_allclose(
    trace.loss_after, loss_fn(locked, BATCH), rtol=1e-4
  )
  assert trace.loss_after > trace.loss_before


def test_the_compiled_loop_takes_the_same_steps(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """The loop that runs on accelerators, against the one in Python on a CPU."""
  secret, opts = Secret.generate(), options(theta=0.5, loss_threshold=4.0)
  key, trace = run(secret, opts)
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  other, looped = run(secret, opts)
  assert looped.num_steps == trace.num_steps > 0
  np.testing.assert_array_equal(other.leaf, key.leaf)
  np.testing.assert_array_equal(other.index, key.index)
  for a, b in zip(
    *(jax.tree.leaves(adv_params.encrypt(k, VARIABLES)) for k in (key, other)),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_layers_are_random_and_derived_from_the_secret() -> None:
  opts = options(max_layers=1, max_steps=1)
  secrets = [Secret(bytes([i]) * 32) for i in range(12)]
  leaves = {int(run(s, opts)[0].leaf[0]) for s in secrets}
  assert len(leaves) == 3
  trees.assert_same_bits(run(secrets[0], opts)[0], run(secrets[0], opts)[0])


def test_locked_params_are_finite_and_float_subtraction_would_not_do() -> None:
  key, _ = run(Secret.generate(), options(theta=0.7, max_steps=15))
  locked = adv_params.encrypt(key, VARIABLES)
  assert int(keyjax.tree.count_nonfinite(locked)) == 0
  rng = np.random.default_rng(0)
  w, d = (rng.normal(size=10_000).astype(np.float32) for _ in range(2))
  assert ((w + d) - d == w).mean() < 0.9


def test_break_bounds_leave_duplicates() -> None:
  """A saturated value equals its layer's bound: attackers count duplicates."""
  key, _ = run(Secret.generate(), options(theta=0.9, beta=0.1, max_steps=10))
  locked = adv_params.encrypt(key, VARIABLES)
  found = 0
  for a, b in zip(
    jax.tree.leaves(locked), jax.tree.leaves(VARIABLES), strict=True
  ):
    values, counts = np.unique(np.asarray(a), return_counts=True)
    repeated = values[(counts > 1) & (values != 0)]
    assert set(np.asarray(a)[np.isin(a, repeated)]) == set(repeated)
    at = np.isin(np.asarray(a), repeated)
    found += int((at & (np.asarray(a) != np.asarray(b))).sum())
  assert found >= 5


def test_break_steps_without_bounds_leave_outliers() -> None:
  key, _ = run(Secret.generate(), options(theta=1.0, max_steps=8, max_layers=1))
  leaf = int(key.leaf[0])
  before = np.asarray(jax.tree.leaves(VARIABLES)[leaf])
  after = np.asarray(jax.tree.leaves(adv_params.encrypt(key, VARIABLES))[leaf])
  outside = (after < before.min()) | (after > before.max())
  assert outside.sum() >= 1
  assert (outside <= (before != after)).all()


# ------------------------------------------------------- the in-range search


def in_range(secret: Secret, params: Any = VARIABLES, **kwargs: Any) -> Any:
  opts = options(search="in_range", max_params=6, **kwargs)
  return adv_params.find(secret, params, BATCH, loss_fn, ".*kernel", opts)


def changes(key: Any, params: Any = VARIABLES) -> list[tuple[Any, Any, Any]]:
  """Return each changed leaf before and after, and where it changed."""
  locked = adv_params.encrypt(key, params)
  pairs = zip(jax.tree.leaves(params), jax.tree.leaves(locked), strict=True)
  found = [(np.asarray(a), np.asarray(b), a != b) for a, b in pairs]
  return [x for x in found if x[2].any()]


@pytest.mark.parametrize("beta", [None, 0.2])
def test_in_range_no_weight_leaves_its_layers_range(beta: float | None) -> None:
  secret = Secret.generate()
  key, trace = warned(secret, max_steps=3, beta=beta)
  assert trace.num_params == 6 <= trace.num_steps
  assert trace.loss_after > trace.loss_before
  for before, after, where in changes(key):
    low, high = before.min(), before.max()
    margin = (beta or 0) * (high - low)
    moved = after[where]
    assert where.sum() <= 3  # `max_steps`
    assert (moved >= low + margin).all() and (moved <= high - margin).all()
    # In the outer tenths of the range, and no value occurs twice.
    assert (
      np.abs(moved - (low + high) / 2) > 0.39 * (high - low) - margin
    ).all()
    assert len(np.unique(moved)) == moved.size
  again, _ = warned(secret, max_steps=3, beta=beta)
  trees.assert_same_bits(again, key)
  restored = adv_params.decrypt(key, adv_params.encrypt(key, VARIABLES))
  trees.assert_same_bits(restored, VARIABLES)


def warned(*args: Any, **kwargs: Any) -> Any:
  with pytest.warns(UserWarning, match="below loss_threshold=1e"):
    return in_range(*args, **kwargs)


def test_in_range_the_secret_decides_where() -> None:
  keys = [warned(Secret(bytes([i]) * 32))[0] for i in range(2)]
  places = [
    set(zip(k.leaf.tolist(), k.index.tolist(), strict=True)) for k in keys
  ]
  assert len(places[0] & places[1]) < 6
  only, _ = warned(Secret(bytes(32)), max_layers=1, max_steps=6)
  assert len(set(only.leaf.tolist())) == 1


def test_in_range_keeps_the_best_of_the_moves_it_tries() -> None:
  """One step against the loss of each move, one at a time."""
  secret = Secret.generate()
  key, trace = warned(secret, max_steps=1, max_layers=1)
  i, at = int(key.leaf[0]), int(key.index[0])
  leaves, treedef = jax.tree.flatten(VARIABLES)
  grads = jax.tree.leaves(jax.grad(loss_fn)(VARIABLES, BATCH))
  grad = np.asarray(grads[i]).reshape(-1)
  w = np.asarray(leaves[i]).reshape(-1)
  words = np.frombuffer(
    secret.stream(f"adv_params/in_range/{i}", 4 * w.size), "<u4"
  )
  step = np.float32(0.1) * (w.max() - w.min()) * (words >> 8) / 2**24
  ends = np.stack([w.min() + step, w.max() - step])
  gains = np.where(words & 1, grad * (ends - w), 0)  # [2, n]
  losses = {}
  for j in np.argsort(-gains.max(0))[:8]:
    new = w.copy()
    new[j] = ends[gains[:, j].argmax(), j]
    full = [*leaves[:i], jnp.asarray(new.reshape(leaves[i].shape))]
    changed = jax.tree.unflatten(treedef, full + leaves[i + 1 :])
    losses[int(j)] = float(loss_fn(changed, BATCH))
  assert losses[at] == pytest.approx(max(losses.values()), rel=1e-5)
  assert trace.loss_after == pytest.approx(losses[at], rel=1e-4)


def test_in_range_exchanged_moves_raise_the_loss(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  greedy, exchanged = [], []
  for seed in range(4):
    secret = Secret(bytes([seed]) * 32)
    exchanged.append(warned(secret))
    with monkeypatch.context() as patch:
      patch.setattr(range_search, "_ROUNDS", 0)
      greedy.append(warned(secret))
  for (_, more), (_, less) in zip(exchanged, greedy, strict=True):
    assert more.loss_after >= less.loss_after
  better = [
    pair
    for pair in zip(exchanged, greedy, strict=True)
    if pair[0][1].loss_after > pair[1][1].loss_after
  ]
  assert better, "no seed has a move that is better exchanged"
  for (key, trace), _ in better:
    assert trace.num_params == 6 < trace.num_steps
    assert sum(int(where.sum()) for *_, where in changes(key)) == 6
    locked = adv_params.encrypt(key, VARIABLES)
    assert float(loss_fn(locked, BATCH)) == pytest.approx(
      trace.loss_after, rel=1e-5
    )


def test_in_range_a_half_precision_weight_stays_inside() -> None:
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), VARIABLES)
  key, _ = warned(Secret.generate(), params)
  found = changes(key, params)
  assert sum(int(where.sum()) for _, _, where in found) == 6
  for before, after, _ in found:
    assert before.min() <= after.min() and after.max() <= before.max()
  restored = adv_params.decrypt(key, adv_params.encrypt(key, params))
  trees.assert_same_bits(restored, params)


def test_in_range_a_range_that_its_dtype_does_not_hold() -> None:
  w = np.linspace(-400, 400, 16).reshape(4, 4)
  params = {"kernel": jnp.asarray(w, jnp.float8_e4m3fn)}  # 448 at most.
  ones = jnp.ones(4)
  loss = lambda p, x: (p["kernel"].astype(jnp.float32) @ x).mean()  # noqa: E731
  scheme = keyjax.adv_params(
    loss, max_params=3, search="in_range", loss_threshold=1.0
  )
  key = scheme.keygen(Secret(b"T" * 32), params, ones)
  locked = scheme.encrypt(key, params)
  assert loss(params, ones) < 1 < loss(locked, ones)
  assert np.abs(np.asarray(locked["kernel"], np.float32)).max() <= 400
  trees.assert_same_bits(scheme.decrypt(key, locked), params)


def test_in_range_without_a_range() -> None:
  flat = jax.tree.map(jnp.ones_like, VARIABLES)
  with pytest.raises(ValueError, match="nothing was changed"):
    in_range(Secret.generate(), flat)


# -------------------------------------------------------------- bad input


def test_a_loss_that_is_not_finite() -> None:
  scheme = keyjax.adv_params(lambda p, b: loss_fn(p, b) * jnp.nan)
  with pytest.raises(ValueError, match="not finite after 0 steps"):
    scheme.keygen(Secret.generate(), VARIABLES, BATCH)
  bad = BATCH | {"image": IMAGES.at[0].set(jnp.inf)}
  with pytest.raises(ValueError, match="check the batch"):
    keyjax.adv_params(loss_fn).keygen(Secret.generate(), VARIABLES, bad)


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"theta": 0.0}, "theta=0.0: above 0"),
    ({"beta": 0.5}, "beta=0.5: from 0 to below 0.5"),
    ({"max_params": 0}, "max_params=0: at least 1"),
    ({"max_steps": -1}, "max_steps=-1"),
    ({"search": "best"}, "search='best': 'published' or 'in_range'"),
    (
      {"search": "in_range", "theta": 0.7, "beta": 0.2},
      "theta=0.7: at most 1 - 2 beta = 0.6",
    ),
  ],
)
def test_bad_arguments(kwargs: dict[str, Any], message: str) -> None:
  with pytest.raises(ValueError, match=message):
    keyjax.adv_params(loss_fn, **kwargs)


def test_a_search_that_changes_nothing_is_an_error() -> None:
  low = keyjax.adv_params(loss_fn, loss_threshold=0.1)
  with pytest.raises(ValueError, match="exceeds loss_threshold=0.1"):
    low.keygen(Secret.generate(), VARIABLES, BATCH)
  flat = keyjax.adv_params(lambda p, b: 0 * loss_fn(p, b))
  with pytest.raises(ValueError, match="no gradient differs from 0"):
    flat.keygen(Secret.generate(), VARIABLES, BATCH)


def test_nothing_to_change() -> None:
  with pytest.raises(ValueError, match="no leaf of floats matches"):
    keyjax.adv_params(loss_fn, "kernels").keygen(
      Secret.generate(), VARIABLES, BATCH
    )
  small = trees.params("int8")
  with pytest.raises(ValueError, match="no leaf of floats matches"):
    keyjax.adv_params(trees.loss).keygen(Secret.generate(), small, None)


def test_a_key_for_another_tree() -> None:
  key, _ = run(Secret.generate(), options())
  with pytest.raises(ValueError, match="another tree"):
    adv_params.encrypt(key, VARIABLES["params"])
  with pytest.raises(
    TypeError, match="Key, got a tuple: the key is the first argument"
  ):
    adv_params.encrypt((), VARIABLES)  # type: ignore[arg-type]
