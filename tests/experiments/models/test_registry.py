"""Models by name: options, unknown names, and a new model."""

import sys

import jax
import jax.numpy as jnp
import pytest

from experiments import data, models
from experiments.models.registry import MODELS, register
from experiments.protection import check
from experiments.protection.lock import build_all
from experiments.run.config import base, scheme, set_schemes

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_unknown_model_lists_the_known_ones():
  with pytest.raises(
    ValueError, match="'resnet34'.*cnn, detector, gpt2.*mlp.*resnet50"
  ):
    models.create("resnet34", 10, MEAN, STD)


def test_unknown_option_lists_the_known_ones():
  with pytest.raises(ValueError, match="depth, widht.*resnet18.*width, stem"):
    models.create("resnet18", 10, MEAN, STD, widht=16, depth=50)
  with pytest.raises(ValueError, match="cnn.*dtype, features, kernel, units"):
    models.create("cnn", 10, MEAN, STD, hidden=(1,))


NEW = """
import flax.linen as nn
from experiments.models.base import Classifier
from experiments.models.registry import register

class Linear(Classifier):
  bias: bool = True

  @nn.compact
  def __call__(self, x, train=False):
    return self.classify(self.normalise(x).reshape(len(x), -1))

register("linear", Linear, fixed={"bias": False})
"""


def test_a_model_is_one_new_file(tmp_path, monkeypatch):
  """Create, configure, check and refuse it by name; no other line changes."""
  (tmp_path / "linear.py").write_text(NEW)
  with MODELS.temporary():
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "experiments.models.linear", raising=False)
    assert "linear" in models.names() and "linear" in models.image_names()
    model = models.create("linear", 7, MEAN, STD)
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    logits = jax.eval_shape(model.apply, variables, x)
    assert logits.shape == (2, 7) and not model.bias
    assert [*variables["params"]] == ["head"]
    digits = data.load("digits", num_train=64, num_test=8)
    config = base()
    config.update(model="linear")
    config.train.batch_size = 64
    set_schemes(config, deep_lock=scheme("deep_lock"))
    found = models.from_config(config, digits)
    locks = build_all(config.schemes, found)
    check.check_config(config, digits, found, locks)
    with pytest.raises(ValueError, match="Unknown option bias of model linear"):
      models.create("linear", 10, MEAN, STD, bias=True)
    with pytest.raises(ValueError, match="'liner'.*, linear, "):
      models.create("liner", 10, MEAN, STD)


def test_two_models_cannot_have_one_name():
  with pytest.raises(ValueError, match="'cnn' is registered already"):
    register("cnn", models.CNN)
