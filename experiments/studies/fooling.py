"""Inputs from nothing, which a network is certain about; and who notices.

The survey leaves open whether saturated networks are fooled as well, so three
searches attack them too; one attacks a locked network, with its key and through
the file alone. Last, energy scores try to tell what was found from test images.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import keyjax
from experiments.run import files
from experiments.studies import base
from keyjax.attacks import fooling
from keyjax.attacks.evasion.problem import LogitsFn
from keyjax.attacks.fooling import Fooling
from keyjax.defenses import energy

TITLE = "Fooling inputs"
SENTENCE = (
  "Noise and regular patterns that resemble nothing are classified with nearly "
  "full confidence, found with gradients and without."
)
DATASETS = ("digits", "mnist")

_IMAGES = 1000
_GENERATIONS = 200
_FEWER = 100  # Against saturated and locked networks.
_SHOWN = (25, 50, 100, 200)
_WEIGHTS = {"sigmoid": 16.0, "relu": 32.0}  # Of the penalty of saturation.
# Median confidences; of a prototype, where they are not published.
_TARGETS = {
  "digits": {
    "gradient ascent, step 200": "1.000",
    "direct, generation 25": "0.99999",
    "CPPN, generation 25": "0.99996 at generation 10",
    "saturated, sigmoid, gradient ascent": "0.99997",
    "saturated, sigmoid, direct": "0.99997",
    "saturated, sigmoid, CPPN": "0.99999",
    "saturated, relu, gradient ascent": "0.011",
    "saturated, relu, direct": "0.99999",
  },
  "mnist": {
    "direct, generation 25": "0.542",
    "direct, generation 50": "0.99995; published 0.9999",
    "direct, generation 200": "1.000; published 0.9999",
  },
}

Search = Callable[[LogitsFn, jax.Array], Fooling]


def run(lab: base.Lab) -> list[base.Figure]:
  """Return confidences of each search and network, and scores of energies."""
  net = base.standard(lab)
  found = {
    name: search(net.logits_fn, lab.rng)
    for name, search in _searches(lab, _GENERATIONS).items()
  }
  gallery(
    lab.folder / f"fooling-{lab.dataset.name}-{lab.seed}.png",
    np.stack([x.inputs for x in found.values()]),
    np.stack([x.confidence for x in found.values()]),
  )
  return [
    *_curves(lab, found),
    *_saturated(lab),
    *_locked(lab),
    *_energies(lab, net, found),
  ]


def gallery(
  path: files.AnyPath, images: np.ndarray, confidences: np.ndarray
) -> None:
  """Draw the champions of each class, one search a row.

  Args:
    path: PNG file to write.
    images: float[searches, classes, h, w, c] in [0, 1].
    confidences: float[searches, classes].
  """
  matplotlib.use("agg")
  from matplotlib import pyplot as plt

  rows, columns = confidences.shape
  figure, axes = plt.subplots(
    rows, columns, figsize=(0.9 * columns, 1.15 * rows), squeeze=False
  )
  for number, axis in enumerate(axes.flat):
    row, column = divmod(number, columns)
    image = images[row, column]
    shown = image if image.shape[-1] == 3 else image[..., 0]
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1)
    title = f"{column}: {100 * confidences[row, column]:.2f} %"
    axis.set_title(title, fontsize=7)
    axis.set_axis_off()
  with path.open("wb") as file:
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
  plt.close(figure)


def _searches(lab: base.Lab, generations: int) -> dict[str, Search]:
  """Return the searches, compiled for each network that they are given."""
  shape = lab.dataset.test_images.shape[1:]

  def compiled(search: Callable[..., Fooling]) -> Search:
    return lambda logits_fn, rng: jax.jit(
      lambda rng: search(logits_fn, rng=rng)
    )(rng)

  def evolve(encoding: fooling.Encoding) -> Callable[..., Fooling]:
    return functools.partial(
      fooling.map_elites, encoding=encoding, generations=generations
    )

  ascend = functools.partial(
    fooling.gradient_ascent, shape=shape, steps=_GENERATIONS
  )
  return {
    "gradient ascent": compiled(ascend),
    "direct": compiled(evolve(fooling.direct(shape))),
    "CPPN": compiled(evolve(fooling.cppn(shape))),
  }


def _curves(lab: base.Lab, found: dict[str, Fooling]) -> list[base.Figure]:
  climbed = found["gradient ascent"].curve[_GENERATIONS]
  figures = _confidence(lab, f"gradient ascent, step {_GENERATIONS}", climbed)
  for name in ("direct", "CPPN"):
    for at in _SHOWN:
      title = f"{name}, generation {at}"
      figures += _confidence(lab, title, found[name].curve[at])
  return figures


def _confidence(
  lab: base.Lab, title: str, confidence: jax.Array
) -> list[base.Figure]:
  median, least, n = jnp.median(confidence), confidence.min(), len(confidence)
  target = _TARGETS[lab.dataset.name].get(title, "")
  return [
    base.number(f"{title}: median confidence", median, n, target),
    base.number(f"{title}: least confidence", least, n),
  ]


def _saturated(lab: base.Lab) -> list[base.Figure]:
  """Return what fools saturated networks."""
  x, y = base.sample(lab, _IMAGES)
  figures = []
  for activation, weight in _WEIGHTS.items():
    defense = {"name": "saturated", "weight": weight}
    net = base.standard(lab, activation=activation, defense=defense)
    logits = net.logits_fn(x)
    title = f"saturated, {activation}"
    sure = jnp.median(jax.nn.softmax(logits).max(-1))
    figures += [
      base.share(f"{title}: accuracy", logits.argmax(-1) == y),
      base.number(f"{title}, test images: median confidence", sure, len(x)),
    ]
    for name, search in _searches(lab, _FEWER).items():
      result = search(net.logits_fn, lab.rng)
      figures += _confidence(lab, f"{title}, {name}", result.confidence)
  return figures


def _locked(lab: base.Lab) -> list[base.Figure]:
  """Return what fools an HPNN network through its key, and its file alone."""
  plain = base.standard(lab)
  scheme = keyjax.hpnn(plain.model.apply)
  secret = keyjax.Secret.generate()
  x, y = base.sample(lab, _IMAGES)
  key = scheme.keygen(secret, plain.variables, {"image": x[:8]})
  net = base.standard(lab, scheme=scheme, key=key)
  alone = jax.jit(lambda x: net.model.apply(net.variables, x))
  search = _searches(lab, _FEWER)["direct"]
  opened, stolen = search(net.logits_fn, lab.rng), search(alone, lab.rng)
  moved = jnp.diagonal(jax.nn.softmax(net.logits_fn(stolen.inputs)))
  with_key, without = "HPNN, with the key", "HPNN, file alone"
  return [
    base.share(f"{with_key}: accuracy", net.logits_fn(x).argmax(-1) == y),
    base.share(f"{without}: accuracy", alone(x).argmax(-1) == y),
    *_confidence(lab, f"{with_key}, direct", opened.confidence),
    *_confidence(lab, f"{without}, direct", stolen.confidence),
    *_confidence(
      lab, "HPNN, found with the file alone, run with the key", moved
    ),
  ]


def _energies(
  lab: base.Lab, net: base.Network, found: dict[str, Fooling]
) -> list[base.Figure]:
  """Return how well energies tell champions from test images."""
  real = energy.energy(net.logits_fn(base.sample(lab, _IMAGES)[0]))
  middle = jnp.median(real)
  figures = []
  for name, result in found.items():
    odd = energy.energy(net.logits_fn(result.inputs))
    # A champion's energy is often too low, not too high.
    either = energy.auroc(jnp.abs(real - middle), jnp.abs(odd - middle))
    accepted = round(float(energy.false_accepts(real, odd)) * len(odd))
    figures += [
      base.number(f"energy, {name}: AUROC", energy.auroc(real, odd), len(odd)),
      base.number(f"energy, {name}: AUROC, too low as well", either, len(odd)),
      base.share(
        f"energy, {name}: accepted where 95 % of test images are",
        np.arange(len(odd)) < accepted,
      ),
    ]
  return figures
