"""Asking a person where a network is unsure: risk, coverage, guarantees.

On a plain network, and on an HPNN network with its key; and what an attacker
gets past the rule.
"""

import jax
import jax.numpy as jnp
import numpy as np

import keyjax
from experiments.studies import base
from keyjax import fallback
from keyjax.attacks import evasion, fooling

TITLE = "Stop and ask"
SENTENCE = (
  "A model that asks a person where it is unsure is wrong about few of the "
  "inputs that it answers."
)
DATASETS = ("digits", "mnist")

_COVERAGES = (1.0, 0.95, 0.9, 0.8)
# Of a prototype, by data set: errors at coverages, and the area.
_ERRORS = {"digits": {1.0: "2.4 %", 0.95: "0.97 %", 0.9: "0.0 %"}}
_AREAS = {"digits": "1"}
_CONFIDENCES = {
  "greatest probability": fallback.max_softmax,
  "margin": fallback.margin,
  "entropy": fallback.negative_entropy,
  "energy": fallback.negative_energy,
}
_RISK = 0.01
_DRAWS = 100
_CALIBRATION = 1000  # Images of a draw.
_EPSILON = 0.2


def run(lab: base.Lab) -> list[base.Figure]:
  """Return what asking costs, what is guaranteed, and what an attacker gets."""
  x, y = jnp.asarray(lab.test.image), lab.test.label
  plain = base.standard(lab)
  scheme = keyjax.hpnn(plain.model.apply)
  key = scheme.keygen(
    keyjax.Secret.generate(), plain.variables, {"image": x[:8]}
  )
  networks = {
    "plain": plain,
    "HPNN": base.standard(lab, scheme=scheme, key=key),
  }
  draw = np.random.default_rng(lab.seed)
  figures = []
  for name, network in networks.items():
    logits = network.logits_fn(x)
    wrong = np.asarray(logits.argmax(-1) != y)
    figures += _curves(lab, name, logits, wrong)
    figures += _guarantees(name, logits, wrong, draw)
  return figures + _attacked(lab, plain)


def _curves(
  lab: base.Lab, title: str, logits: jax.Array, wrong: np.ndarray
) -> list[base.Figure]:
  """Return errors at coverages, and areas under the curves."""
  confidence = fallback.max_softmax(logits)
  curve = fallback.risk_coverage(confidence, wrong)
  errors = _ERRORS.get(lab.dataset.name, {})
  figures = []
  for coverage in _COVERAGES:
    at = np.searchsorted(curve.coverage, coverage - 1e-6)
    answered = np.asarray(confidence > curve.threshold[at])
    name = f"{title}, {coverage:.0%} coverage: error".replace("%", " %")
    figures.append(base.share(name, wrong[answered], errors.get(coverage, "")))
  found = fallback.coverage_at_risk(confidence, wrong, _RISK)
  name = f"{title}: coverage at an error of 1 % or less"
  figures.append(base.share(name, confidence > found.threshold))
  for name, score in _CONFIDENCES.items():
    area = 1000 * fallback.aurc(score(logits), wrong)
    target = _AREAS.get(lab.dataset.name, "")
    figures.append(
      base.number(
        f"{title}, {name}: AURC, thousandths",
        area,
        len(wrong),
        target if score is fallback.max_softmax else "",
      )
    )
  return figures


def _guarantees(
  title: str, logits: jax.Array, wrong: np.ndarray, draw: np.random.Generator
) -> list[base.Figure]:
  """Return risks over draws of calibration images.

  They are drawn from the test images with replacement, so that the risk of a
  threshold is known exactly: it is that on all test images.
  """
  confidence = np.asarray(fallback.max_softmax(logits))
  figures = []
  for name, choose, targets in (
    ("conformal", fallback.conformal_threshold, ("1 or less", "")),
    ("certified", fallback.certified_threshold, ("", "95 %")),
  ):
    rows = draw.integers(len(wrong), size=(_DRAWS, _CALIBRATION))
    thresholds = [choose(confidence[r], wrong[r], risk=_RISK) for r in rows]
    answered = confidence > np.asarray(thresholds)[:, None]
    risks = (answered & wrong).mean(-1)
    where = f"{title}, {name} threshold"
    figures += [
      base.number(
        f"{where}: mean risk, %", 100 * risks.mean(), _DRAWS, targets[0]
      ),
      base.share(
        f"{where}: draws of a risk of 1 % or less", risks <= _RISK, targets[1]
      ),
      base.number(f"{where}: mean coverage, %", 100 * answered.mean(), _DRAWS),
    ]
  return figures


def _attacked(lab: base.Lab, net: base.Network) -> list[base.Figure]:
  """Return what is answered, wrongly, by a rule with a coverage of 90 %."""
  sure = fallback.max_softmax(net.logits_fn(jnp.asarray(lab.test.image)))
  rule = fallback.unless(fallback.max_softmax, above=jnp.quantile(sure, 0.1))
  x, y = base.sample(lab, 200)
  pgd = base.compiled(evasion.pgd, steps=40)
  changed = pgd(net.logits_fn, x, y, epsilon=_EPSILON, rng=lab.rng).inputs
  logits = net.logits_fn(changed)
  fooled = jax.jit(
    lambda rng: fooling.gradient_ascent(net.logits_fn, x.shape[1:], rng=rng)
  )(lab.rng)
  return [
    base.share(
      f"PGD, epsilon {_EPSILON}: answered, and wrong",
      (logits.argmax(-1) != y) & ~rule(logits),
    ),
    base.share("fooling images: answered", ~rule(net.logits_fn(fooled.inputs))),
  ]
