"""Rows: one model under one attack, at one epsilon."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.evasion import attacks, plan
from experiments.evasion.models import Judged
from experiments.run import results
from experiments.tables import robustness
from keyjax.attacks import evasion
from keyjax.attacks.evasion import problem
from keyjax.attacks.evasion.problem import Evasion
from keyjax.attacks.intervals import clopper_pearson

ACCURACY = robustness.METRIC
_NOT_FINITE = "its logits are not finite, and follow nothing"
_NO_KEY = "there is no key to lack"
_ROUNDING = 1e-5  # Of a distance, as a share of epsilon.


class Attempt(NamedTuple):
  """An attack's result at one epsilon, judged on the served model.

  Attributes:
    epsilon: Largest change.
    inputs: float32[n, h, w, c], the changed images.
    broken: bool[n], misclassified within epsilon.
    distance: float[n], size of each change.
    queries: Mean number of passes for an image.
    nonfinite: Number of images on whose way logits were not finite.
    seconds: Time of the attack, the compilation included.
    flags: Warnings of AutoAttack.
  """

  epsilon: float
  inputs: np.ndarray
  broken: np.ndarray
  distance: np.ndarray
  queries: float
  nonfinite: int
  seconds: float
  flags: Mapping[str, str] = {}


def attempts(
  model: Judged, spec: Mapping[str, Any], images: int, batch: int, seed: int
) -> Iterator[Attempt]:
  """Yield what an attack finds at each of its epsilons.

  Args:
    model: The model.
    spec: Attack of `config.robustness.attacks`.
    images: Number of test images, the first ones.
    batch: Images of one compiled step.
    seed: Seed of the attack.
  """
  inputs = jnp.asarray(model.test.image[:images])
  labels = jnp.asarray(model.test.label[:images])
  rng = jax.random.key(seed)
  if spec["attack"] == "autoattack":
    for epsilon in spec["epsilons"]:
      yield _ensemble(spec, model, inputs, labels, epsilon, batch, rng)
    return
  entry = attacks.ATTACKS[spec["attack"]]
  options = tuple(sorted(spec["options"].items()))
  seen = model.seen_by(spec["holder"])
  transfers = spec["holder"] not in ("right", "api")
  run = attacks.batched(spec["attack"], spec["norm"], batch, options, transfers)
  start = time.monotonic()
  for epsilon in spec["epsilons"]:
    given = {} if entry.least else {"epsilon": epsilon}
    if entry.random:
      given["rng"] = rng
    if epsilon == spec["epsilons"][0] or not entry.least:
      found = run(seen, inputs, labels, **given)
      found = evasion.judged(found, model.served, inputs, labels)
    yield _attempt(found, epsilon, time.monotonic() - start)
    start = time.monotonic()


def _attempt(found: Evasion, epsilon: float, seconds: float) -> Attempt:
  near = np.asarray(found.distance) <= epsilon * (1 + _ROUNDING)
  return Attempt(
    epsilon=epsilon,
    inputs=np.asarray(found.inputs),
    broken=np.asarray(found.success) & near,
    distance=np.asarray(found.distance),
    queries=float(np.asarray(found.queries).mean()),
    nonfinite=int((~np.asarray(found.finite)).sum()),
    seconds=seconds,
  )


def _ensemble(
  spec: Mapping[str, Any],
  model: Judged,
  inputs: jax.Array,
  labels: jax.Array,
  epsilon: float,
  batch: int,
  rng: jax.Array,
) -> Attempt:
  start = time.monotonic()
  found = evasion.autoattack(
    model.seen_by(spec["holder"]),
    inputs,
    labels,
    epsilon=epsilon,
    norm=spec["norm"],
    batch_size=batch,
    rng=rng,
    **spec["options"],
  )
  # With an input filter, what was attacked is not quite what is served.
  served = model.served(jnp.asarray(found.inputs))
  return Attempt(
    epsilon=epsilon,
    inputs=np.asarray(found.inputs),
    broken=np.asarray(problem.misclassified(served, labels)),
    distance=found.distance,
    queries=float(found.queries.mean()),
    nonfinite=0,
    seconds=time.monotonic() - start,
    flags=found.flags,
  )


def row(
  model: Judged,
  label: str,
  spec: Mapping[str, Any],
  found: Attempt,
) -> dict[str, Any]:
  """Return a row.

  Args:
    model: The model.
    label: Label of the attack.
    spec: The attack.
    found: What it found.
  """
  n = len(found.broken)
  robust = n - int(found.broken.sum())
  proves = found.nonfinite < n
  low, high = clopper_pearson(robust, n) if proves else (None, None)
  return results.row(
    model.fields,
    title=model.title,
    model_name=model.name,
    attack=label,
    attack_title=spec["title"],
    game=spec["attack"],
    condition=spec["holder"],
    metric=ACCURACY,
    norm=spec["norm"],
    epsilon=found.epsilon,
    value=robust / n if proves else None,
    low=low,
    high=high,
    note="" if proves else _NOT_FINITE,
    interval="Clopper-Pearson over images",
    images=n,
    broken=np.packbits(found.broken).tobytes().hex(),
    median_distance=_median(found),
    nonfinite=found.nonfinite,
    cost={"seconds": found.seconds, "queries": found.queries},
    flags=dict(found.flags),
  )


def _median(found: Attempt) -> float | None:
  """Return the median distance of successful changes, None without any."""
  reached = found.broken & (found.distance > 0)
  return float(np.median(found.distance[reached])) if reached.any() else None


def nothing(
  model: Judged, label: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
  """Return the row of an attacker who cannot be: there is no key to lack."""
  nobody = np.zeros(0, bool)
  empty = Attempt(0.0, nobody, nobody, nobody, 0.0, 0, 0.0)
  return row(model, label, spec, empty) | {"note": _NO_KEY}


def rng_of(config: ConfigDict) -> jax.Array:
  """Return the JAX PRNG key of the attacks of a run."""
  return jax.random.key(config.train.seed)


def clean(model: Judged, images: int) -> dict[str, Any]:
  """Return the row of the accuracy without attack."""
  image, label = model.test.image[:images], model.test.label[:images]
  logits = np.asarray(jax.jit(lambda f, x: f(x))(model.served, image))
  wrong = (logits.argmax(-1) != label) | ~np.isfinite(logits).all(-1)
  found = Attempt(0.0, image, wrong, np.zeros(len(label)), 0.0, 0, 0.0)
  spec = plan.attack("clean", "no attack")
  return row(model, "clean", spec, found)


def worst_cases(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Return the worst case of each model, norm and epsilon over all attackers.

  Rows of different numbers of images are united on the images of the fewest.

  Args:
    rows: Rows of `row`.
  """
  groups: dict[Any, list[dict[str, Any]]] = {}
  for r in rows:
    if (
      r["metric"] == ACCURACY
      and r["value"] is not None
      and r["game"] not in ("clean", "noise")
    ):
      where = (r["model_name"], r["norm"], r["epsilon"])
      groups.setdefault(where, []).append(r)
  made = []
  for members in groups.values():
    n = min(r["images"] for r in members)
    broken = np.any([bits(r)[:n] for r in members], axis=0)
    low, high = clopper_pearson(n - int(broken.sum()), n)
    made.append(
      members[0]
      | {
        "attack": "worst",
        "attack_title": "worst case over all attackers",
        "game": "worst",
        "condition": "any",
        "value": float((~broken).mean()),
        "low": low,
        "high": high,
        "note": "",
        "images": n,
        "broken": np.packbits(broken).tobytes().hex(),
        "members": len(members),
        "row": "",
      }
    )
  return made


def bits(row: Mapping[str, Any]) -> np.ndarray:
  """Return which images an attack broke, bool[n], from a row."""
  packed = np.frombuffer(bytes.fromhex(row["broken"]), np.uint8)
  return np.unpackbits(packed, count=row["images"]).astype(bool)
