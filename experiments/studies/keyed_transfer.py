"""A key inside the black box, and transfer between networks of other keys."""

import functools
from typing import Any

import jax.numpy as jnp

import keyjax
from experiments.studies import base
from experiments.studies.substitute import Outcome, Plan, attack, labels_of
from keyjax.attacks.evasion import bim
from keyjax.attacks.transfer_matrix import SIGNS, UNCHANGED, transfer_matrix

TITLE = "Does a secret key stop transfer?"
SENTENCE = (
  "No: the task is the secret, which cannot be secret. A network that is "
  "trained under a key, which only its server has, is fooled by a substitute "
  "like one without, and by networks of other keys and other schemes."
)
DATASETS = ("digits", "mnist")

_PLANS = {  # 1,200 and 2,200 labels.
  "digits": Plan(seeds=50, rounds=5, reservoir_after=3),
  "mnist": Plan(seeds=150, rounds=6, reservoir_after=2),
}
_CNN_EPOCHS = {"digits": 40.0, "mnist": 4.0}
_EPSILONS = (0.1, 0.2, 0.3)
_PROTOTYPE = {"plain": (21.1, 69.5, 95.9), "SHF": (21.0, 69.9, 95.7)}
_EPSILON = 0.2  # Of the matrix.
_MI_FGSM = functools.partial(bim, momentum=1.0)


def run(lab: base.Lab) -> list[base.Figure]:
  """Return the errors of black boxes, and a matrix of schemes.

  On MNIST only of convolutional networks, to which the order of pixels matters.
  """
  convolutional = _black_boxes(lab, _convolutional(lab))
  if lab.dataset.name == "mnist":
    return convolutional
  ours = _trained(lab)
  nets = {name: ours[name] for name in ("plain", "SHF", "HPNN")}
  return [*_black_boxes(lab, nets), *convolutional, *_matrix(lab, ours)]


def _black_boxes(
  lab: base.Lab, nets: dict[str, base.Network]
) -> list[base.Figure]:
  """Attack networks through their labels; the first of them has no key."""
  figures, outcomes = [], {}
  for name, net in nets.items():
    box = labels_of(net.logits_fn)
    right = box(lab.test.image) == lab.test.label
    outcomes[name] = attack(lab, box, _PLANS[lab.dataset.name], _EPSILONS)
    percent = dict(zip(_EPSILONS, _PROTOTYPE.get(name, ()), strict=False))
    targets = {e: f"{p} % (prototype)" for e, p in percent.items()}
    figures.append(base.share(f"{name}: accuracy", right))
    figures += outcomes[name].figures(name, targets)
  plain, *keyed = outcomes
  return figures + [_less(outcomes, plain, name) for name in keyed]


def _less(outcomes: dict[str, Outcome], plain: str, keyed: str) -> base.Figure:
  """Return by how much a key lowers the error at the largest epsilon."""
  epsilon = max(_EPSILONS)
  first, second = (outcomes[x].errors[epsilon][0] for x in (plain, keyed))
  return base.difference(
    f"{plain} minus {keyed}, epsilon {epsilon}: difference of errors",
    first,
    second,
    outcomes[plain].judged,
    "about 0",
  )


def _matrix(lab: base.Lab, ours: dict[str, base.Network]) -> list[base.Figure]:
  """Craft on networks whose keys are known, try on others of other keys."""
  other = lab._replace(seed=lab.seed + 1000)
  theirs = _trained(other)
  boxes = {
    f"another {name}": labels_of(net.logits_fn) for name, net in theirs.items()
  }
  found = transfer_matrix(
    _MI_FGSM,
    {name: net.logits_fn for name, net in ours.items()},
    *lab.test,
    epsilon=_EPSILON,
    oracles=boxes,
    rng=lab.rng,
  )
  titles = {
    **{name: f"MI-FGSM on {name}, epsilon {_EPSILON}" for name in ours},
    SIGNS: f"{SIGNS}, epsilon {_EPSILON}",
    UNCHANGED: UNCHANGED,
  }
  n = len(lab.test.label)
  return [
    base.Figure(f"{titles[source]}: error of {box}", *share, n)
    for source, row in found.items()
    for box, share in row.items()
    if box in boxes
  ]


def _trained(lab: base.Lab) -> dict[str, base.Network]:
  """Return a network of each scheme, under a new key."""
  plain = base.standard(lab)
  side = lab.train.image.shape[1]  # One block: keys cover the whole image.
  schemes = {
    **{x: keyjax.pixel_shuffle(x.lower(), side) for x in ("SHF", "NP", "FFX")},
    "HPNN": keyjax.hpnn(plain.model.apply, units=256),
  }
  found = {"plain": plain}
  for name, scheme in schemes.items():
    made = _key(lab, scheme, plain.variables)
    found[name] = base.standard(lab, scheme=scheme, key=made)
  return found


def _convolutional(lab: base.Lab) -> dict[str, base.Network]:
  """Return two CNNs, for which pixels are not the same in any order."""
  recipe: dict[str, Any] = {
    "model": "cnn",
    "epochs": _CNN_EPOCHS[lab.dataset.name],
    "normalise": False,
  }
  scheme = keyjax.pixel_shuffle("shf", 4)
  key = _key(lab, scheme, {})
  return {
    "CNN": base.network(lab, **recipe),
    "CNN, SHF, M=4": base.network(lab, scheme=scheme, key=key, **recipe),
  }


def _key(lab: base.Lab, scheme: keyjax.Scheme, params: Any) -> Any:
  batch = {"image": jnp.asarray(lab.train.image[:1])}
  return scheme.keygen(keyjax.Secret.generate(), params, batch)
