"""What studies share: data, trained networks and figures."""

import functools
import hashlib
import json
import pathlib
import tempfile
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

import keyjax
from experiments import data, models
from experiments.run import config as configs
from experiments.run import files, pictures
from experiments.training import train
from keyjax.attacks import intervals
from keyjax.attacks.evasion.problem import Evasion, LogitsFn, refuse_nan
from keyjax.attacks.game import Examples
from keyjax.attacks.intervals import clopper_pearson

# A share, and the ends of its interval.
Span = tuple[float, float, float]


class Figure(NamedTuple):
  """One measured figure of a study.

  Attributes:
    name: What was measured, such as "PGD, epsilon 0.1: accuracy".
    value: Share from 0 to 1, distance, or number.
    low: Lower end of the 95 % interval over examples; the value if it has none.
    high: Upper end of the same.
    n: Number of examples.
    target: Published figure, or bound, in words; empty if there is none.
    curve: Name of the line that it is a point of; empty if of none.
    x: Where on the horizontal axis that point is; the study's `AXIS` says of
      what.
    drawn: Whether it is only drawn, and left out of tables.
    method: How the interval was computed.
  """

  name: str
  value: float
  low: float
  high: float
  n: int
  target: str = ""
  curve: str = ""
  x: float | None = None
  drawn: bool = False
  method: str = "Clopper-Pearson over examples"


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

  def show(self, study: str, title: str, images: Any) -> None:
    """Keep a row of pictures for the page; of several seeds, the least.

    Args:
      study: Name of the study's file.
      title: What they show.
      images: float[k, h, w, c] in [0, 1]; a few of them.
    """
    label = f"{study}: {title}"
    kept = pictures.read(self.folder).get(label, {})
    if kept.get("seed", self.seed) >= self.seed:
      entry = {"study": study, "title": title, "seed": self.seed}
      entry["image"] = pictures.pixels(images)
      pictures.keep(self.folder, label, entry)


class Network(NamedTuple):
  """A trained network.

  Attributes:
    model: Linen module.
    variables: Its trained variables.
    logits_fn: The network as a function of images: compiled, with the key of
      its scheme, and without an input filter. A pytree without a scheme:
      programs that take it as an argument serve every network of a model.
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
  normalise: bool = True,
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
    normalise: Whether the model scales pixels to mean 0 and deviation 1.
    **model_args: Attributes of the model.
  """
  config = configs.base()
  config.train.update(epochs=epochs, seed=lab.seed, checkpoint_every=10**6)
  config.train.update(train_config or {})
  config.train.defense.update(defense or {})
  d = lab.dataset
  mean, std = d.mean, d.std
  if not normalise:
    mean, std = (0.0,) * len(mean), (1.0,) * len(std)
  made = models.create(model, d.num_classes, mean, std, **model_args)
  used = scheme or keyjax.identity()
  with tempfile.TemporaryDirectory() as passing:
    stored = lab.folder / _name(config, lab, model, model_args | {"mean": mean})
    variables = train.train(
      config.train,
      dataset=lab.dataset,
      model=made,
      scheme=used,
      key=key,
      folder=pathlib.Path(passing) if scheme else stored,
      title=f"{model}, seed {lab.seed}",
    )
  if scheme:
    apply_fn = used.bind(key, made.apply)
    return Network(made, variables, jax.jit(lambda x: apply_fn(variables, x)))
  return Network(made, variables, Partial(_plain(made), variables))


def standard(lab: Lab, **options: Any) -> Network:
  """Train the network of most studies, or load it.

  An MLP with hidden layers of 256 and 128 units on MNIST, for 10 epochs; of 256
  and 256 units on the digits, for about 2,000 steps. Its inputs are the pixels
  themselves: scaled to mean 0 and deviation 1, networks are less sensitive
  (digits, PGD at 0.1: 51 % instead of 41 % accuracy).

  Args:
    lab: Data, seed and folder.
    **options: Further options of `network`, or others than these.
  """
  if lab.dataset.name == "digits":
    recipe: dict[str, Any] = {
      "hidden": (256, 256),
      "epochs": 90.0,
      "train_config": {"batch_size": 64},
    }
  else:
    recipe = {"hidden": (256, 128), "epochs": 10.0}
  return network(lab, **({"normalise": False} | recipe | options))


def sample(lab: Lab, n: int) -> tuple[jax.Array, jax.Array]:
  """Return the first n test images and their labels, or all if fewer."""
  images, labels = lab.dataset.test_images[:n], lab.dataset.test_labels[:n]
  return jnp.asarray(_pixels(images)), jnp.asarray(labels)


def compiled(attack: Any, **options: Any) -> Any:
  """Return an attack as a compiled function: `(logits_fn, inputs, labels)`.

  Args:
    attack: Attack of `keyjax.attacks.evasion`, which returns an `Evasion`.
    **options: Options of the attack that are known when it is compiled. Others
      are passed with the inputs: numbers and arrays, for whose values, and for
      all networks of one model, it is compiled once.
  """
  run = jax.jit(functools.partial(attack, **options))

  def checked(
    logits_fn: LogitsFn, inputs: jax.Array, labels: jax.Array, **given: Any
  ) -> Evasion:
    if not isinstance(logits_fn, Partial):
      logits_fn = Partial(logits_fn)
    found = run(logits_fn, inputs, labels, **given)
    return refuse_nan(found, attack.__name__)  # Unknown while it is compiled.

  return checked


def share(
  name: str,
  hits: Any,
  target: str = "",
  curve: str = "",
  x: float | None = None,
) -> Figure:
  """Return the share of true values as a figure, with its interval.

  Args:
    name: What was measured.
    hits: bool[n].
    target: Published figure, in words.
    curve: See `Figure`.
    x: See `Figure`.

  Example:
    >>> share("found", np.asarray([True, False])).value
    0.5
  """
  hits = np.asarray(hits, bool)
  low, high = clopper_pearson(int(hits.sum()), hits.size)
  mean = float(hits.mean())
  return Figure(name, mean, low, high, hits.size, target, curve, x)


def difference(
  name: str, first: Span, second: Span, n: int, target: str = ""
) -> Figure:
  """Return the difference of two shares as a figure, with its interval.

  Args:
    name: What was measured.
    first: Share, and the low and the high end of its interval.
    second: The same of the share that is subtracted.
    n: Number of examples of each.
    target: Published figure, in words.

  Example:
    >>> difference("gain", (0.75, 0.5, 1.0), (0.5, 0.25, 0.75), 20).value
    0.25
  """
  low, high = intervals.difference(first, second)
  method = "Newcombe over examples"
  value = first[0] - second[0]
  return Figure(name, value, low, high, n, target, method=method)


def number(
  name: str,
  value: Any,
  n: int = 1,
  target: str = "",
  curve: str = "",
  x: float | None = None,
) -> Figure:
  """Return a number without an interval as a figure."""
  value = float(value)
  return Figure(name, value, value, value, n, target, curve, x)


@functools.lru_cache(maxsize=32)
def _plain(model: nn.Module) -> Any:
  return jax.jit(model.apply)


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
