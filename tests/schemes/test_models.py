"""Every scheme on transformers and mixers, as on convolutional networks."""

import functools
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import keyjax
from experiments import models
from experiments.protection import lock
from keyjax import Secret, tree
from keyjax.schemes import hpnn
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((4, 16, 16, 3)).astype(np.float32))
TOKENS = jnp.asarray(RNG.integers(0, 20, (4, 12)), jnp.int32)
# name: the model's name and options
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
  "vit": ("vit_micro", {}),
  "vit, mean": ("vit_micro", {"pooling": "mean", "remat": True}),
  "mixer": ("mixer_micro", {}),
  "lm": ("gpt_micro", {"remat": True}),
  "lm, untied": ("gpt_micro", {"tied": False}),
}
per_model = pytest.mark.parametrize("name", MODELS)


class Case(NamedTuple):
  model: Any
  variables: Any
  batch: Any


@functools.cache
def case(name: str) -> Case:
  kind, options = MODELS[name]
  options = options | {"depth": 1}
  model = models.create(kind, 20, (0.4, 0.5, 0.6), (0.2, 0.3, 0.3), **options)
  text = kind in models.text_names()
  x = TOKENS if text else IMAGES
  labels = jnp.roll(TOKENS, -1, 1) if text else jnp.arange(4)
  variables = trees.variables(model, x)
  return Case(model, variables, {"image": x, "label": labels})


def run(apply_fn: Any, *args: Any) -> jax.Array:
  # Optimised, two programs of one formula may differ in their last bits.
  options = {"xla_backend_optimization_level": 0}
  return jax.jit(apply_fn, compiler_options=options)(*args)


# ---------------------------------------------------------------------- hpnn


@pytest.mark.parametrize(
  "name",
  [pytest.param(x, marks=pytest.mark.slow if "," in x else ()) for x in MODELS],
)
def test_hpnn_is_absorbed_and_a_wrong_key_is_not(name: str) -> None:
  """Patches, query, key, value, out and both feed-forward layers."""
  model, variables, batch = case(name)
  scheme = keyjax.hpnn(model.apply)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)
    key, wrong = (
      scheme.keygen(Secret.generate(), variables, batch) for _ in range(2)
    )
  locked_layers = {path.split("/", 1)[-1] for path in key.units}
  if name != "mixer":
    assert locked_layers >= {
      *(f"attention/{part}" for part in ("query", "key", "value", "out")),
      "mlp_in",
    }
  locked, other = (
    run(lambda k, v, x: scheme.bind(k, model.apply)(v, x), k, variables,
        batch["image"])
    for k in (key, wrong)
  )  # fmt: skip
  twin = run(model.apply, hpnn.absorb(key, variables), batch["image"])
  np.testing.assert_allclose(locked, twin, rtol=1e-4, atol=1e-4)
  plain = run(model.apply, variables, batch["image"])
  assert float(jnp.abs(locked - plain).max()) > 1e-2
  assert float(jnp.abs(locked - other).max()) > 1e-2


def test_every_weighted_layer_of_a_block_can_carry_signs() -> None:
  """Normalizations as well: scale and bias are negated."""
  model, variables, batch = case("lm, untied")
  scheme = keyjax.hpnn(model.apply, "block_0/.*|norm|head")
  with pytest.warns(UserWarning, match="block_0/attention .*cannot"):
    scheme.keygen(Secret.generate(), variables, batch)
  parts = ".*/(norm_.*|query|key|value|out|mlp_in|mlp_out)|norm|head"
  scheme = keyjax.hpnn(model.apply, parts)
  key = scheme.keygen(Secret.generate(), variables, batch)
  assert len(key.units) == 10
  locked = run(scheme.bind(key, model.apply), variables, batch["image"])
  twin = run(model.apply, hpnn.absorb(key, variables), batch["image"])
  np.testing.assert_allclose(locked, twin, rtol=1e-4, atol=1e-4)


def test_signs_of_query_and_key_cancel() -> None:
  """If both signs are equal, the scores are the plain ones: fewer keys."""
  model, variables, batch = case("lm")
  scheme = keyjax.hpnn(model.apply, ".*/(query|key)", units=8)
  key = scheme.keygen(Secret.generate(), variables, batch)
  (path_q,) = [p for p in key.units if p.endswith("query")]
  (path_k,) = [p for p in key.units if p.endswith("key")]
  same = key.replace(units={p: key.units[path_q] for p in (path_q, path_k)})
  mixed = same.replace(bits=jnp.arange(8, dtype=jnp.uint8) % 2)
  plain = run(model.apply, variables, batch["image"])
  locked = run(scheme.bind(mixed, model.apply), variables, batch["image"])
  np.testing.assert_allclose(locked, plain, rtol=1e-5, atol=1e-5)


def test_the_token_embedding_cannot_carry_signs() -> None:
  model, variables, batch = case("lm")
  scheme = keyjax.hpnn(model.apply, "token_embedding")
  with pytest.warns(UserWarning, match="token_embedding .*cannot be absorbed"):
    key = scheme.keygen(Secret.generate(), variables, batch)
  with pytest.raises(ValueError, match="no weights to absorb"):
    hpnn.absorb(key, variables)


# ------------------------------------------------------------------- ciphers


INT8 = {"int8": True, "schedule": "counter"}


@pytest.mark.parametrize(
  ("name", "args"),
  [
    pytest.param("vit", {}, marks=pytest.mark.slow),
    ("lm", {}),
    pytest.param("vit", INT8, marks=pytest.mark.slow),
    ("mixer", INT8),
    ("lm", INT8),
  ],
)
def test_deep_lock_gives_the_same_logits(
  name: str, args: dict[str, Any]
) -> None:
  model, variables, batch = case(name)
  this = lock.build("deep_lock", args, model)
  prepared = this.prepare(variables)
  scheme = this.scheme
  key, wrong = (
    scheme.keygen(Secret.generate(), prepared, batch) for _ in range(2)
  )
  locked = jax.jit(scheme.encrypt)(key, prepared)
  hidden = [x.dtype.kind == "u" for x in jax.tree.leaves(locked)]
  paths = [p for p in tree.flatten(locked)[0] if p.endswith("/values")]
  assert all(hidden) if not args else sum(hidden) == len(paths) > 5
  if args and "lm" in name:
    assert "params/token_embedding/embedding/values" in paths
  forward = lambda k, v, x: this.apply(scheme.decrypt(k, v), x)  # noqa: E731
  logits = run(forward, key, locked, batch["image"])
  plain = run(this.apply, prepared, batch["image"])
  np.testing.assert_array_equal(trees.bits(logits), trees.bits(plain))
  other = run(forward, wrong, locked, batch["image"])
  assert not np.allclose(other, plain, atol=1e-2)
  if args:
    assert np.isfinite(other).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "lm, untied"])
def test_adv_params_undoes_itself(name: str) -> None:
  model, variables, batch = case(name)

  def loss(v: Any, batch: Any) -> jax.Array:
    logits = model.apply(v, batch["image"])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
    ).mean()

  scheme = keyjax.adv_params(
    loss, max_layers=2, max_steps=2, theta=0.5, loss_threshold=1e9
  )
  key = scheme.keygen(Secret.generate(), variables, batch)
  locked = scheme.encrypt(key, variables)
  plain = run(model.apply, variables, batch["image"])
  opened = run(model.apply, scheme.decrypt(key, locked), batch["image"])
  np.testing.assert_array_equal(trees.bits(opened), trees.bits(plain))
  assert run(loss, locked, batch) > run(loss, variables, batch)
