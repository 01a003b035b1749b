"""Vision transformers and mixers: sizes, pooling, rematerialisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import models
from tests.experiments.models.small import (
  MEAN,
  SMALL,
  STD,
  abstract,
  initialise,
)


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.random((4, 32, 32, 3), np.float32))


def test_patches_and_heads_that_do_not_divide_are_errors():
  with pytest.raises(ValueError, match="Patches of 16 .* 40 x 40"):
    abstract("vit_ti", size=40)
  with pytest.raises(ValueError, match="5 heads do not divide 32 features"):
    abstract("vit_micro", heads=5)
  with pytest.raises(ValueError, match="'max'.*token or mean"):
    abstract("vit_micro", pooling="max")


def test_mean_pooling_has_no_class_token():
  assert "class_token" in abstract("vit_micro")[0]["params"]
  variables, logits, _ = abstract("vit_micro", pooling="mean")
  assert "class_token" not in variables["params"]
  assert variables["params"]["position_embedding"].shape == (1, 64, 32)
  assert logits.shape == (2, 10)


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("resnet18", marks=pytest.mark.slow),
    "vit_micro",
    pytest.param("mixer_micro", marks=pytest.mark.slow),
  ],
)
def test_rematerialisation_changes_no_gradient(name, images):
  grads = {}
  for remat in (False, True):
    options = SMALL[name] | {"remat": remat}
    if name == "vit_micro":
      options["depth"] = 1  # Its blocks are all alike.
    model = models.create(name, 10, MEAN, STD, **options)
    variables = initialise(model, images)

    def loss(params, model=model, variables=variables):
      logits, _ = model.apply(
        {**variables, "params": params}, images, True, mutable=["batch_stats"]
      )
      return jnp.mean(logits[:, 0])

    grads[remat] = jax.jit(jax.grad(loss))(variables["params"])
    text = str(jax.make_jaxpr(jax.grad(loss))(variables["params"]))
    assert ("remat" in text or "checkpoint" in text) == remat
  for x, y in zip(*map(jax.tree.leaves, grads.values()), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
