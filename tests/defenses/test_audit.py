"""The audit names what hides gradients, and is silent about what does not."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import keyjax
from keyjax import Secret
from keyjax.attacks.evasion import bpda
from keyjax.defenses.audit import audit
from keyjax.defenses.audit_attacks import Outcomes, outcomes
from keyjax.defenses.audit_findings import Audit, judge
from keyjax.schemes import hpnn, pixel_shuffle
from tests.attacks import toys
from tests.defenses import audited
from tests.defenses.audited import EPSILON, IMAGES, X, Y

SEEDS = (range(1), pytest.param(range(1, 9), marks=pytest.mark.slow))
KINDS = ("shf", "np", "ffx")
FEW: dict[str, Any] = {
  "steps": 10,
  "n_queries": 200,
  "noise_draws": 20,
  "temperatures": (10.0,),
}
RNG = jax.random.key(0)


def networks(how: Any, rngs: jax.Array, images: jax.Array) -> list[Any]:
  """Return the params of several networks, all trained at once."""
  params = audited.trained(how, images, rngs)
  leaves, tree = jax.tree.flatten(params)
  return [jax.tree.unflatten(tree, row) for row in zip(*leaves, strict=True)]


@functools.cache
def seeded(how: Any, seeds: range) -> list[Any]:
  """Return the params of a network for each seed."""
  rngs = jax.vmap(jax.random.key)(jnp.asarray(seeds))
  images = jnp.broadcast_to(IMAGES, (len(seeds), *IMAGES.shape))
  return networks(how, rngs, images)


def audits(
  all_params: list[Any], model: str = "network", inputs: Any = None
) -> list[Audit]:
  """Return the audits of some networks: one program serves them all."""
  number = jnp.int32(list(audited.MODELS).index(model))
  inputs = [X] * len(all_params) if inputs is None else inputs
  found = [
    judge(audited.attacked(number, params, x, jax.random.key(i)))
    for i, (params, x) in enumerate(zip(all_params, inputs, strict=True))
  ]
  assert audited.attacked._cache_size() == 1
  return found


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("how", [audited.ordinary, audited.adversarial])
def test_honest_networks_are_not_called_masked(how: Any, seeds: range) -> None:
  for found in audits(seeded(how, seeds)):
    assert not found.masked, found.table()
    assert found.accuracy["clean"] > 0.9 and found.accuracy["unbounded"] == 0
    assert 0.2 < found.accuracy["pgd"] < found.accuracy["noise"]


@pytest.mark.parametrize("seeds", SEEDS)
def test_distillation_is_named(seeds: range) -> None:
  for found in audits(seeded(audited.distilled, seeds)):
    named = {"zero_gradients", "black_box", "rescaled_loss"}
    assert named <= set(found.suspicious), found.table()
    left = found.findings["rescaled_loss"].figures
    assert left["pgd"] > 0.7 and left["pgd"] - left["logits / 100"] > 0.2


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
  ("model", "named"),
  [
    ("binarised", {"zero_gradients", "unbounded"}),
    ("quantised", {"zero_gradients", "black_box", "unbounded"}),
    ("one_draw", {"hidden_steps"}),
  ],
)
def test_filters_noise_and_integers_are_named(
  model: str, named: set[str], seeds: range
) -> None:
  for found in audits(seeded(audited.ordinary, seeds), model):
    assert named <= set(found.suspicious), found.table()


@pytest.mark.parametrize("seeds", SEEDS)
def test_a_right_key_of_deep_lock_is_not_called_masked(seeds: range) -> None:
  scheme = keyjax.deep_lock()
  opened = []
  for params in seeded(audited.ordinary, seeds):
    key = scheme.keygen(Secret.generate(), params, None)
    opened.append(scheme.decrypt(key, scheme.encrypt(key, params)))
  assert not any(found.masked for found in audits(opened))


def keyed() -> tuple[list[Any], list[Any]]:
  """Return a key of each kind, and a network that was trained under it."""
  batch = {"image": IMAGES[:1]}
  schemes = [pixel_shuffle.pixel_shuffle(kind) for kind in KINDS]
  keys = [x.keygen(Secret(bytes(range(32))), {}, batch) for x in schemes]
  images = jnp.stack([pixel_shuffle.transform(key, IMAGES) for key in keys])
  rngs = jax.random.split(RNG, 3)
  return keys, networks(audited.ordinary, rngs, images)


@pytest.mark.slow
def test_who_has_the_key_attacks_behind_the_transformation() -> None:
  keys, params = keyed()
  inputs = [pixel_shuffle.transform(key, X) for key in keys]
  for kind, found in zip(KINDS, audits(params, inputs=inputs), strict=True):
    assert not found.masked, f"{kind}: {found.table()}"
    assert found.accuracy["clean"] > 0.75 > found.accuracy["pgd"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_pass_hides_gradients_only_behind_a_table(kind: str) -> None:
  keys, params = keyed()
  i = KINDS.index(kind)
  bind = pixel_shuffle.pixel_shuffle(kind).bind

  @jax.jit
  def attacked(key: Any, params: Any) -> Outcomes:
    model = functools.partial(bind(key, audited.mlp), params)
    return outcomes(model, X, Y, epsilon=EPSILON, rng=RNG)

  found = judge(attacked(keys[i], params[i]))
  # FFX looks half of the pixels up: these have no gradient, and Square finds
  # what they hide. The others have one, through their rounding.
  assert "zero_gradients" not in found.suspicious
  assert ("black_box" in found.suspicious) == (kind == "ffx")
  assert found.masked == (kind == "ffx"), found.table()


@pytest.mark.slow
def test_right_keys_of_hpnn_are_not_called_masked() -> None:
  apply_fn = toys.NET.apply
  scheme = hpnn.hpnn(apply_fn)

  @jax.jit
  def attacked(key: Any, params: Any) -> Outcomes:
    model = functools.partial(scheme.bind(key, apply_fn), params)
    return outcomes(model, X, Y, epsilon=EPSILON, rng=RNG)

  for _ in range(5):
    params = toys.trained()
    key = scheme.keygen(Secret.generate(), params, {"image": X[:8]})
    found = judge(attacked(key, hpnn.absorb(key, params)))
    assert not found.masked and found.accuracy["clean"] > 0.9, found.table()
  assert attacked._cache_size() == 1


def first(n: int) -> np.ndarray:
  return np.arange(128) < n


def crafted(**changed: Any) -> Outcomes:
  """Return outcomes of a model whose gradients are fine, but for changes."""
  broken = {
    "clean": first(5),
    "fgsm": first(40),
    "pgd": first(60),
    "unbounded": first(128),
    "margin": first(61),
    "dlr": first(58),
    "logits / 10": first(50),
    "square": first(55),
    "noise": first(12),
  }
  known = {"flat": first(0), "moved": first(0)}
  known |= {k: v for k, v in changed.items() if k in known}
  broken |= {k: v for k, v in changed.items() if k not in known}
  return Outcomes(broken=broken, **known)


@pytest.mark.parametrize(
  ("check", "changed"),
  [
    ("zero_gradients", {"flat": first(20)}),
    ("single_step", {"fgsm": first(85)}),
    ("black_box", {"square": first(85)}),
    ("black_box", {"transfer": first(85)}),
    ("unbounded", {"unbounded": first(108)}),
    ("noise", {"noise": first(85)}),
    ("rescaled_loss", {"margin": first(90)}),
    ("rescaled_loss", {"logits / 10": first(90)}),
    ("hidden_steps", {"moved": first(20)}),
    ("hidden_steps", {"bpda": first(85)}),
    (
      "hidden_steps",
      {"pgd_next_draw": first(20), "eot_next_draw": first(45)},
    ),
  ],
)
def test_each_check_names_what_it_is_for(check: str, changed: Any) -> None:
  found = judge(crafted(**changed))
  assert found.masked and found.suspicious == (check,)
  finding = found.findings[check]
  assert finding.low > 0.05 and finding.low <= finding.value <= finding.high
  assert check in found.words() and f"| {check} | yes |" in found.table()
  counted = {"flat": "zero", "unbounded": "survived"}
  assert {counted.get(x, x) for x in changed} <= set(finding.figures)
  # So few inputs that they may be chance.
  few = {"flat": 5, "moved": 5, "unbounded": 123, "pgd_next_draw": 20}
  some = {
    k: first(few.get(k, 24 if k == "eot_next_draw" else 64)) for k in changed
  }
  silent = judge(crafted(**some))
  assert not silent.masked and "No sign" in silent.words()


def test_an_audit_has_seven_findings_in_words() -> None:
  found = judge(crafted())
  assert len(found.findings) == 7 and found.n == 128
  assert len(found.table().splitlines()) == 9
  assert found.accuracy["pgd"] == 68 / 128
  step = found.findings["single_step"]
  assert step.value == -20 / 128
  assert "FGSM leaves an accuracy of 68.8%, PGD 53.1%" in step.sentence


def test_chance_is_not_called_masking() -> None:
  draw = np.random.default_rng(0)
  alarms = 0
  for _ in range(20):  # Two attacks, as good as each other on average.
    fgsm, pgd = draw.random((2, 128)) < 0.5
    found = judge(
      crafted(fgsm=fgsm, pgd=pgd, clean=first(0)), tolerance=0.0
    ).findings["single_step"]
    alarms += found.suspicious
    assert found.low < found.value < found.high
  assert alarms <= 1  # 2.5 % at most, where nothing is tolerated.


def linear(x: jax.Array) -> jax.Array:
  return 20 * (x.reshape(len(x), -1) - 0.5) @ jnp.asarray(WEIGHTS)


WEIGHTS = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32) / 4
POINTS = jax.random.uniform(RNG, (128, 4, 4, 1))
CLASSES = linear(POINTS).argmax(-1)


def run(**more: Any) -> Audit:
  """Audit a linear model, in little time."""
  host = {"inputs": np.asarray(POINTS), "labels": np.asarray(CLASSES)}
  given = {"logits_fn": linear, **host}
  return audit(**{**given, "epsilon": 0.2, "rng": RNG, **FEW, **more})


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"inputs": POINTS + 1}, "outside the bounds"),
    ({"labels": CLASSES + 9}, "labels range"),
    ({"epsilon": 0.0}, "epsilon is 0"),
    ({"norm": "l0"}, "norm is 'l0'"),
    ({"bound_epsilon": 0.0}, "epsilon is 0"),
    ({"temperatures": (0.0,)}, "temperatures are"),
    ({"noise_draws": 0}, "noise_draws is 0"),
    ({"eot_draws": 0, "is_random": True}, "logits_fn fails"),
    ({"logits_fn": lambda x: jax.nn.softmax(linear(x))}, "probabilities"),
    ({"logits_fn": lambda x: linear(x) * jnp.nan}, "NaN"),
    ({"substitute_fn": lambda x: linear(x)[:, :3]}, "substitute_fn"),
    ({"bpda": lambda x: linear(x)[:, :3]}, "bpda"),
  ],
)
def test_wrong_arguments_are_refused(given: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    run(**given)


def test_a_model_that_is_always_wrong_cannot_be_judged() -> None:
  with pytest.raises(ValueError, match="gets none of 128 inputs right"):
    judge(crafted(clean=first(128)))
  with pytest.raises(ValueError, match="tolerance is 1"):
    judge(crafted(), tolerance=1)


@pytest.mark.slow
def test_a_straight_through_gradient_breaks_what_rounding_hides() -> None:
  def rounded(x: jax.Array) -> jax.Array:
    return jnp.round(x * 20) / 20

  found = run(
    logits_fn=lambda x: linear(rounded(x)),
    bpda=lambda x: linear(bpda(rounded)(x)),
    substitute_fn=linear,
  )
  assert {"zero_gradients", "hidden_steps", "black_box"} <= set(
    found.suspicious
  )
  assert found.accuracy["bpda"] < 0.2 < found.accuracy["pgd"]
  assert found.accuracy["transfer"] < found.accuracy["pgd"] - 0.2


@pytest.mark.slow
def test_the_mean_of_draws_breaks_what_one_draw_hides() -> None:
  def half(x: jax.Array, rng: jax.Array) -> jax.Array:
    """Return the logits of a random half of the pixels."""
    seen = jax.random.bernoulli(rng, shape=x.shape)
    return linear(jnp.where(seen, x, 0.5))

  found = run(logits_fn=half, is_random=True, epsilon=0.1, eot_draws=32)
  assert "hidden_steps" in found.suspicious
  left = found.findings["hidden_steps"].figures
  assert left["eot_next_draw"] < left["pgd_next_draw"] - 0.1
  silent = run(logits_fn=lambda x, rng: linear(x), is_random=True, eot_draws=2)
  assert not silent.masked


@pytest.mark.slow
def test_a_shattered_gradient_is_beaten_by_one_step_and_by_queries() -> None:
  """Waves, of which every pixel of the images is at the foot."""

  def waves(x: jax.Array) -> jax.Array:
    return linear(x + 4 * jnp.sin(64 * jnp.pi * x) / (64 * jnp.pi))

  images = jnp.round(POINTS * 32) / 32
  labels = waves(images).argmax(-1)
  found = run(logits_fn=waves, inputs=images, labels=labels, epsilon=0.1)
  assert "single_step" in found.suspicious, found.table()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms(norm: str) -> None:
  epsilon = {"l2": 0.2, "l1": 0.6}[norm]
  found = run(norm=norm, epsilon=epsilon, steps=40)
  assert not found.masked, found.table()
  assert found.accuracy["unbounded"] == 0 < found.accuracy["pgd"] < 0.9


def hits(found: Outcomes) -> dict[str, np.ndarray]:
  return {name: np.asarray(x) for name, x in found.broken.items()}


@pytest.mark.slow
def test_eager_vmapped_sharded_and_64_bit_runs_agree() -> None:
  few = {**FEW, "epsilon": 0.2}
  plain = functools.partial(outcomes, linear, **few)
  one = hits(jax.jit(plain)(POINTS, CLASSES, rng=RNG))
  eager = hits(plain(POINTS, CLASSES, rng=RNG))
  rngs = jnp.stack([RNG, jax.random.key(1)])
  several = jax.jit(jax.vmap(lambda r: plain(POINTS, CLASSES, rng=r)))(rngs)
  mesh = jax.make_mesh((8,), ("n",))
  rows = NamedSharding(mesh, PartitionSpec("n"))
  x, y = jax.device_put((POINTS, CLASSES), rows)
  sharded = hits(jax.jit(plain)(x, y, rng=RNG))
  for name, want in one.items():
    np.testing.assert_array_equal(eager[name], want)
    np.testing.assert_array_equal(several.broken[name][0], want)
    np.testing.assert_array_equal(sharded[name], want)
  with jax.enable_x64():
    x = jnp.asarray(np.asarray(POINTS), jnp.float64)

    def wide(x: jax.Array) -> jax.Array:
      return linear(x.astype(jnp.float32)).astype(jnp.float64)

    found = outcomes(wide, x, CLASSES, rng=RNG, **few)
  np.testing.assert_array_equal(found.broken["fgsm"], one["fgsm"])
