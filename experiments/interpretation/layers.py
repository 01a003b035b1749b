"""Rows that say, layer by layer, what a key changes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.interpretation.subject import (
  CONDITIONS,
  Condition,
  look,
  maps,
  paths,
)
from experiments.protection.job import Rows
from experiments.run import results
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import Attacker, Budget, Model, Target
from keyjax.attacks.views import view
from keyjax.interpret import activations, probe, saliency, similarity

_OTHERS = CONDITIONS[1:]
_RATES = (1e-3, 1e-2)
_EXACT = "Clopper-Pearson over images"


class Sizes(NamedTuple):
  """How much is measured; less where there is less data.

  Attributes:
    images: test images of CKA.
    wrong: wrong keys of CKA and saliency.
    probe_train: training images of a probe.
    probe_test: test images of a probe.
    probe_wrong: wrong keys of probes.
    fraction: of the training images, which a thief retrains layers with.
    steps: of retraining.
    maps: test images of saliency.
  """

  images: int = 500
  wrong: int = 8
  probe_train: int = 1500
  probe_test: int = 2000
  probe_wrong: int = 3
  fraction: float = 0.01
  steps: int = 300
  maps: int = 64


def cka(target: Target, found: Sequence[Condition], sizes: Sizes) -> Rows:
  """Compares what every tap says with what it says under the right key."""
  images = target.test.image[: sizes.images]
  seen = [(c.name, look(target, c, images)) for c in found]
  rows = []
  for tap, right in seen[0][1].items():
    reference = similarity.gram(right)
    for name in _OTHERS:
      values = [value[tap] for n, value in seen if n == name]
      said = _similar(reference, values) | {"images": len(images)}
      rows.append(_row(name, "cka", tap) | said)
  return rows


def _similar(reference: np.ndarray, values: Sequence[Any]) -> dict[str, Any]:
  """Returns the CKA with each of several representations, and its interval."""
  bad = [activations.count_nonfinite(v) for v in values]
  grams = [
    similarity.gram(v) for v, n in zip(values, bad, strict=True) if n == 0
  ]
  each = [similarity.cka(reference, g) for g in grams]
  varies = [x for x in each if np.isfinite(x)]
  counts = {
    "keys": len(varies),
    "not_finite": len(values) - len(grams),
    "constant": len(each) - len(varies),
    "nonfinite": sum(bad),
  }
  if 2 * len(varies) <= len(values):  # The rest would speak for all.
    return counts | _nothing(2 * len(grams) > len(values))
  value = float(np.mean(varies))
  if len(values) > 1:
    low, high = intervals.mean_interval(np.array(varies), (-1.0, 1.0))
    return counts | _said(value, low, high, "Student t over keys")

  def part(rows: np.ndarray) -> float:
    at = np.ix_(rows, rows)
    return similarity.cka(reference[at], grams[0][at])

  low, high = similarity.jackknife(part, len(reference))
  high = min(high, 1.0)
  return counts | _said(value, low, high, "jackknife over images")


def probes(
  target: Target, found: Sequence[Condition], sizes: Sizes, classes: int
) -> Rows:
  """Reads the label from what every layer takes in, and from the logits."""
  train = target.train.image[: sizes.probe_train]
  test = target.test.image[: sizes.probe_test]
  labels = target.train.label[: len(train)], target.test.label[: len(test)]
  names = paths(target)
  taps = [f"{path} in" for path in names] + [f"{names[-1]} out"]
  rows = []
  for name in CONDITIONS:
    chosen = [c for c in found if c.name == name][: sizes.probe_wrong]
    hits: dict[str, list[int]] = {tap: [] for tap in taps}
    for condition in chosen:
      first, second = (look(target, condition, x) for x in (train, test))
      for tap in taps:
        both = first[tap], second[tap]
        if sum(map(activations.count_nonfinite, both)) == 0:
          reader = probe.fit(both[0], labels[0], classes)
          hits[tap].append(int((reader(both[1]) == labels[1]).sum()))
    for tap, right in hits.items():
      more = {"images": len(test), "labels": len(train)}
      more["not_finite"] = len(chosen) - len(right)
      said = _read(right, len(chosen), len(test))
      rows.append(_row(name, "probe", tap) | said | more)
  return rows


def _read(hits: Sequence[int], keys: int, total: int) -> dict[str, Any]:
  """Returns what probes read under those keys whose activations are finite."""
  if 2 * len(hits) <= keys:
    return _nothing(False)
  shares, counts = np.array(hits) / total, {"keys": len(hits)}
  if len(set(hits)) > 1:
    ends = intervals.mean_interval(shares)
    return counts | _said(float(shares.mean()), *ends, "Student t over keys")
  ends = intervals.clopper_pearson(hits[0], total)
  return counts | _said(float(shares[0]), *ends, _EXACT)


def tuning(target: Target, sizes: Sizes) -> Rows:
  """Retrains one layer of the stolen file alone, all of them, and none."""
  images = max(1, round(sizes.fraction * len(target.train.label)))
  budget = Budget(steps=sizes.steps, points=2)
  stolen = Model(view(target, Attacker(images=1)).stolen(), target.apply_fn)
  rows = [
    _scored("no_key", "start", referee.accuracy(stolen, target.test)),
    _scored(
      "right", "owner", referee.accuracy(target.authorized(), target.test)
    ),
  ]

  def play(name: str, has_file: bool, layers: str = "") -> dict[str, Any]:
    attacker = Attacker(knows_scheme=False, has_locked=has_file, images=images)
    attack = registry.get("fine_tune" if has_file else "scratch")
    only = {"layers": layers} if layers else {}
    grid = [{"learning_rate": rate, **only} for rate in _RATES]
    won = referee.sweep(attack, target, attacker, budget, grid)
    more = {"steps": sizes.steps, "images": images, "settings": len(grid)}
    condition = "no_key" if has_file else "fresh"
    row = _scored(condition, name, won.score) | more
    if row["value"] is not None:
      row["interval"] += ", Bonferroni over settings"
    return row

  for path in paths(target):
    rows.append(play(path, True, f"params/{path}/.*"))
  return [*rows, play("all layers", True), play("from scratch", False)]


def _scored(condition: str, layer: str, score: Any) -> dict[str, Any]:
  bad, total = score.details["nonfinite"], score.details["images"]
  said = _said(score.value, score.low, score.high, _EXACT)
  if 2 * bad >= total:  # The argmax of NaN is a class too.
    said = _nothing(False)
  return _row(condition, "layer_tuning", layer) | said | {"nonfinite": bad}


def similar_maps(
  target: Target, found: Sequence[Condition], sizes: Sizes
) -> Rows:
  """Compares saliency maps with those under the right key, image by image."""
  images, labels = (
    x[: sizes.maps] for x in (target.test.image, target.test.label)
  )
  seen = [(c.name, maps(target, c, images, labels)) for c in found]
  rows = []
  for method, right in seen[0][1].items():
    for name in _OTHERS:
      values = [value[method] for n, value in seen if n == name]
      finite = [v for v in values if np.isfinite(v).all()]
      each = [saliency.rank_correlation(right, v) for v in finite]
      row = _row(name, "saliency_similarity", "input")
      more = {"method": method, "images": len(images), "keys": len(finite)}
      more["not_finite"] = len(values) - len(finite)
      rows.append(row | _over_images(each, len(values)) | more)
  return rows


def _over_images(each: Sequence[np.ndarray], keys: int) -> dict[str, Any]:
  """Returns the mean over keys and images; its interval is over images."""
  if 2 * len(each) <= keys:
    return _nothing(False)
  stacked = np.stack(each)
  varies = np.isfinite(stacked).all(0)
  if not varies.any():
    return _nothing(True) | {"constant": len(varies)}
  means = stacked[:, varies].mean(0)
  ends = intervals.mean_interval(means, (-1.0, 1.0))
  said = _said(float(means.mean()), *ends, "Student t over images")
  return said | {"constant": int((~varies).sum())}


def _row(condition: str, metric: str, tap: str) -> dict[str, Any]:
  layer, _, side = tap.partition(" ")
  if side not in activations.SIDES:
    layer, side = tap, ""
  return {
    "condition": condition,
    "metric": metric,
    "layer": layer,
    "side": side,
  }


def _said(
  value: float, low: float, high: float, interval: str
) -> dict[str, Any]:
  return {"value": value, "low": low, "high": high, "interval": interval}


def _nothing(constant: bool) -> dict[str, Any]:
  why = "does not vary" if constant else "not finite"
  return {"value": None, "low": None, "high": None, "interval": why}


Measure = Callable[[Target, Sequence[Condition], Sizes], Rows]


def measures(classes: int) -> dict[str, Measure]:
  """Returns what there is to measure, by the name of its metric."""
  return {
    "cka": cka,
    "probe": lambda target, found, sizes: probes(target, found, sizes, classes),
    "layer_tuning": lambda target, found, sizes: tuning(target, sizes),
    "saliency_similarity": similar_maps,
  }


def complete(base: dict[str, Any], rows: Rows) -> Rows:
  """Returns the rows with the fields that all rows have."""
  return [results.row(base, **row) for row in rows]
