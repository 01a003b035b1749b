"""What studies share: data, trained networks and figures."""

import hashlib
import json
import pathlib
import tempfile
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.run import config as configs
from experiments.run import files
from experiments.training import train
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.game import Examples
from keyjax.attacks.intervals import clopper_pearson


class Figure(NamedTuple):
  """One measured figure of a study.

  Attributes:
    name: What was measured, such as "PGD, epsilon 0.1: accuracy".
    value: Share from 0 to 1, distance, or number.
    low: Lower end of the 95 % interval over examples; the value if it has none.
    high: Upper end of the same.
    n: Number of examples.
    target: Published figure, or bound, in words; empty if there is none.
  """

  name: str
  value: float
  low: float
  high: float
  n: int
  target: str = ""


class Lab(NamedTuple):
  """Where a study works.

  Attributes:
    dataset: Images.
    seed: Seed of everything random; networks of another seed are other ones.
    folder: Folder of trained networks, which are trained once.
  """

  dataset: data.Dataset
  seed: int
  folder: files.AnyPath

  @property
  def train(self) -> Examples:
    """Training images, float32[n, h, w, c] in [0, 1], and int32[n]."""
    d = self.dataset
    return Examples(_pixels(d.train_images), np.asarray(d.train_labels))

  @property
  def test(self) -> Examples:
    """Test images and labels, in the same form."""
    d = self.dataset
    return Examples(_pixels(d.test_images), np.asarray(d.test_labels))

  @property
  def rng(self) -> jax.Array:
    """JAX PRNG key of the seed."""
    return jax.random.key(self.seed)


class Network(NamedTuple):
  """A trained network.

  Attributes:
    model: Linen module.
    variables: Its trained variables.
    logits_fn: The network as a function of images: compiled, with the key of
      its scheme, and without an input filter.
  """

  model: nn.Module
  variables: Any
  logits_fn: LogitsFn


def network(
  lab: Lab,
  *,
  model: str = "mlp",
  epochs: float = 10.0,
  defense: dict[str, Any] | None = None,
  scheme: keyjax.Scheme | None = None,
  key: Any = (),
  train_config: dict[str, Any] | None = None,
  **model_args: Any,
) -> Network:
  """Train a network on the lab's data, or load it.

  Args:
    lab: Data, seed and folder.
    model: Name in `experiments.models`.
    epochs: Epochs of training.
    defense: Fields of `config.train.defense`, such as `{"name": "pgd"}`.
    scheme: Scheme to train under; its networks are not stored, as keys are not.
    key: Its key.
    train_config: Other fields of `config.train`.
    **model_args: Attributes of the model.
  """
  config = configs.base()
  config.train.update(epochs=epochs, seed=lab.seed, checkpoint_every=10**6)
  config.train.update(train_config or {})
  config.train.defense.update(defense or {})
  made = models.create(
    model,
    lab.dataset.num_classes,
    lab.dataset.mean,
    lab.dataset.std,
    **model_args,
  )
  used = scheme or keyjax.identity()
  with tempfile.TemporaryDirectory() as passing:
    stored = lab.folder / _name(config, lab, model, model_args)
    variables = train.train(
      config.train,
      dataset=lab.dataset,
      model=made,
      scheme=used,
      key=key,
      folder=pathlib.Path(passing) if scheme else stored,
      title=f"{model}, seed {lab.seed}",
    )
  apply_fn = used.bind(key, made.apply)
  return Network(made, variables, jax.jit(lambda x: apply_fn(variables, x)))


def share(name: str, hits: Any, target: str = "") -> Figure:
  """Return the share of true values as a figure, with its interval.

  Args:
    name: What was measured.
    hits: bool[n].
    target: Published figure, in words.

  Example:
    >>> share("found", np.asarray([True, False])).value
    0.5
  """
  hits = np.asarray(hits, bool)
  low, high = clopper_pearson(int(hits.sum()), hits.size)
  return Figure(name, float(hits.mean()), low, high, hits.size, target)


def number(name: str, value: Any, n: int = 1, target: str = "") -> Figure:
  """Return a number without an interval as a figure."""
  value = float(value)
  return Figure(name, value, value, value, n, target)


def _pixels(images: np.ndarray) -> np.ndarray:
  return np.asarray(data.to_float(jnp.asarray(images)))


def _name(
  config: ConfigDict, lab: Lab, model: str, model_args: dict[str, Any]
) -> str:
  fields = {
    "train": configs.meaning(config)["train"],
    "model": [model, model_args],
    "data": [lab.dataset.name, lab.dataset.num_examples],
  }
  text = json.dumps(fields, sort_keys=True, default=str)
  return f"{model}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
