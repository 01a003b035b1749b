"""Do locked networks still reveal a property of the training data?

Shadow networks and targets are trained on disjoint halves of the data, half of
them with a property: the digit 7 three times as frequent; none at all (which
must show on plain weights); no difference (which must not). Each is locked
under a key of its own, and meta-classifiers guess the property of the targets.

In a config `trials` is the number of shadows and of targets, `steps` those of
training each network, and the grid's setting names the property and what the
attacker sees, `{"property": "frequent", "shadows": "locked"}`.

Of files:

    plain       the target's file; they learn from plain shadows
    locked      the same, from shadows that they locked under their own keys
    known_pair  one secret for all files of Deep-Lock, and the weights in one of
                them: they open the others with its keystream

Of answers to `attacker.queries` images of their own, learned from shadows that
are asked in the same way:

    answers     logits of a service with the right key
    labels      its labels alone
    wrong_key   logits under a wrong key
    no_key      logits of the stolen file, run as it is

With `"epsilon": 4.0`, all networks are trained with differential privacy, and
are not locked; with `"epsilon": None`, in the same way, but without noise.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.attacking import (
  classifiers,
  known_pair,
  locked_nets,
  private_nets,
  rows,
  shadows,
)
from experiments.attacking.locked_nets import TRAINED_UNDER, Locked
from experiments.attacking.targets import Targets
from experiments.run import results
from keyjax.attacks import intervals
from keyjax.attacks.game import Cost, Goal

NAME = "property_inference"
PAIR = "known_pair"
FILES = ("plain", "locked", PAIR)
ANSWERS = ("answers", "labels", "wrong_key", "no_key")
SERVED = ("answers", "labels")  # By a service with the right key.
# Schemes that lock the weights of a plain model, or do as much (`lock_all`).
_SCHEMES = ("identity", "deep_lock", "keyed_noise", "hpnn", *TRAINED_UNDER)


class _Seen(NamedTuple):
  """What the attacker sees: of their own shadows, and of the targets."""

  own: Any
  targets: Any


def applies(mechanism: str) -> bool:
  """Return whether the files of many networks can be made for a scheme."""
  return mechanism in _SCHEMES


def check(config: ConfigDict, label: str) -> None:
  """Check the model, the numbers and the setting of a config's attack.

  Raises:
    ValueError: If something is wrong; the message says what.
  """
  spec = config.attacks[label]
  hidden = config.model_args.get("hidden", ())
  if config.model != "mlp" or len(hidden) != 1:
    raise ValueError(
      f"attacks.{label}: {NAME} reads an MLP with one hidden layer; set "
      "model=mlp and model_args.hidden=(16,)"
    )
  if spec.trials < 2 or spec.steps < 1:
    raise ValueError(
      f"attacks.{label}: trials={spec.trials}, steps={spec.steps}: must be at "
      "least 2 networks, one of which has the property, and 1 step"
    )
  settings = spec.grid.settings
  known = {"property": (*shadows.PROPERTIES,), "shadows": (*FILES, *ANSWERS)}
  if len(settings) != 1 or set(settings[0]) - {"epsilon"} != set(known):
    raise ValueError(
      f"attacks.{label}.grid: must be one setting with {', '.join(known)}, and "
      "epsilon if networks are private"
    )
  for field, values in known.items():
    if settings[0][field] not in values:
      raise ValueError(
        f"attacks.{label}.grid: {field}={settings[0][field]!r}: choose from "
        f"{', '.join(values)}"
      )
  seen = settings[0]["shadows"]
  if seen == PAIR:
    _only(config, label, ("deep_lock",), f"{PAIR} is for files of deep_lock")
  if "epsilon" in settings[0]:
    only = "private networks are not locked"
    _only(config, label, ("identity",), only)
  queries = rows.attacker_of(spec, 1).queries
  if (seen in ANSWERS) != (queries > 0):
    raise ValueError(
      f"attacks.{label}: queries={queries} for {seen}: must be the number of "
      "images that are asked, or 0 for files"
    )


def _only(
  config: ConfigDict, label: str, wanted: tuple[str, ...], why: str
) -> None:
  """Check that an attack is tried on some schemes alone."""
  for name, scheme in config.schemes.items():
    chosen = re.fullmatch(config.attacks[label].schemes, name)
    if chosen and applies(scheme.scheme) and scheme.scheme not in wanted:
      raise ValueError(f"attacks.{label}: {why}, not {name}: set schemes")


class PropertyInference:
  """Judges what files reveal of the training data of many networks."""

  def __init__(self, config: ConfigDict, targets: Targets) -> None:
    """Prepare to judge; nothing is trained yet.

    Args:
      config: Config with `schemes` and `attacks`.
      targets: Source of the data, the model and the locks.
    """
    self._config = config
    self._targets = targets
    self._trained: dict[tuple, tuple[shadows.Nets, shadows.Nets]] = {}

  def __call__(self, scheme: str, label: str) -> dict[str, Any]:
    """Judge one pair of labels and return its row."""
    spec = self._config.attacks[label]
    setting = dict(spec.grid.settings[0])
    data = self._targets.job.dataset
    attacker = rows.attacker_of(spec, len(data.train_labels))
    under = scheme if self._mechanism(scheme) in TRAINED_UNDER else ""
    learned = "" if setting["shadows"] == "plain" else under
    nets = (
      self._networks(learned, setting, spec)[0],
      self._networks(under, setting, spec)[1],
    )
    start, busy = time.perf_counter(), time.process_time()
    seen, served = self._seen(scheme, setting, nets, attacker.queries)
    own, targets = nets
    tried = classifiers.CLASSIFIERS
    if setting["shadows"] in ANSWERS:
      tried = classifiers.OF_ANSWERS
    hits = hits_of(tried, seen.own, own.label, seen.targets, targets.label)
    best = max(hits, key=lambda k: hits[k])
    total = len(targets.label)
    low, high = intervals.clopper_pearson(hits[best], total, len(hits))
    cost = Cost(
      steps=spec.steps,
      queries=attacker.queries,
      seconds=round(time.perf_counter() - start, 6),
      cpu_seconds=round(time.process_time() - busy, 6),
    )
    wanted = "api" if setting["shadows"] in SERVED else "wrong"
    return results.row(
      rows.fields(self._config, scheme, label, attacker),
      condition=rows.condition(self._config, scheme, wanted),
      metric=str(Goal.DISTINGUISH),
      value=hits[best] / total,
      low=low,
      high=high,
      interval="Clopper-Pearson over networks, Bonferroni over classifiers",
      cost=cost._asdict(),
      curve=[],
      details={k: n / total for k, n in hits.items()} | {"best": best} | served,
      setting=setting,
      property=setting["property"],
      networks=total,
      **self._promised(setting, spec),
    )

  def _seen(
    self,
    scheme: str,
    setting: Mapping[str, Any],
    nets: tuple[shadows.Nets, shadows.Nets],
    queries: int,
  ) -> tuple[_Seen, dict[str, Any]]:
    """Return what the attacker sees, and what else the row says of it."""
    own, targets = nets
    kind = setting["shadows"]
    if kind == PAIR:
      lock = self._targets.job.locks[scheme].scheme
      found = known_pair.opened(lock, own.params, targets.params)
      return _Seen(own.params, found), {}
    stolen = self._locked(scheme, targets)
    if kind == "plain":
      return _Seen(own.params, stolen.floats), {}
    mine = self._locked(scheme, own)
    if kind == "locked":
      return _Seen(mine.floats, stolen.floats), {}
    logits = _Seen(
      *(self._answers(scheme, kind, x, queries) for x in (mine, stolen))
    )
    nonfinite = int((~np.isfinite(logits.targets)).any(-1).sum())
    as_seen = (
      locked_nets.labels if kind == "labels" else locked_nets.log_probabilities
    )
    return _Seen(*map(as_seen, logits)), {"nonfinite": nonfinite}

  def _answers(
    self, scheme: str, kind: str, locked: Locked, queries: int
  ) -> np.ndarray:
    """Return the logits of networks for images of the attacker."""
    apply_fn = self._targets.job.model.apply
    images = self._half(0)[0][:queries].astype(np.float32) / 255
    if kind == "no_key" or not jax.tree.leaves(locked.keys):
      return locked_nets.answers(apply_fn, locked.floats, images)
    lock = self._targets.job.locks[scheme].scheme
    keys = locked.keys
    if kind == "wrong_key":
      one = jax.tree.map(lambda x: x[0], locked.floats)
      count = len(jax.tree.leaves(keys)[0])
      keys = locked_nets.new_keys(lock, one, count, self._batch())
    return locked_nets.answers(apply_fn, locked.files, images, lock, keys)

  def _networks(
    self, under: str, setting: Mapping[str, Any], spec: ConfigDict
  ) -> tuple[shadows.Nets, shadows.Nets]:
    """Return shadows and targets, trained once for all that see them.

    Args:
      under: Label of the scheme under whose keys they are trained, if any.
      setting: Setting of the attack.
      spec: The attack.
    """
    trained = {k: v for k, v in setting.items() if k != "shadows"}
    wanted = (under, *trained.items(), spec.trials, spec.steps)
    if wanted not in self._trained:
      own, targets = (self._train(x, under, trained, spec) for x in (0, 1))
      self._trained[wanted] = own, targets
    return self._trained[wanted]

  def _train(
    self, half: int, under: str, setting: Mapping[str, Any], spec: ConfigDict
  ) -> shadows.Nets:
    """Return shadows (half 0) or targets (1); see `_networks`."""
    name, kinds = setting["property"], list(shadows.PROPERTIES)
    run = self._targets.job.config.train.seed
    seed = 2 * (len(kinds) * run + kinds.index(name)) + half
    model, prevalence = self._targets.job.model, shadows.PROPERTIES[name]
    images, labels = self._half(half)
    if "epsilon" in setting:
      found = private_nets.guarantee(
        len(labels), setting["epsilon"], spec.steps
      )
      return private_nets.train(
        model, images, labels, prevalence, spec.trials, found, seed
      )
    lock, keys = None, None
    if under:
      lock = self._targets.job.locks[under].scheme
      keys = locked_nets.new_keys(lock, None, spec.trials, self._batch())
    return shadows.train(
      model,
      images,
      labels,
      prevalence,
      spec.trials,
      spec.steps,
      seed,
      lock,
      keys,
    )

  def _promised(
    self, setting: Mapping[str, Any], spec: ConfigDict
  ) -> dict[str, Any]:
    """Return how the targets were trained, and what that guarantees."""
    if "epsilon" not in setting:
      return {"trained": "as usual"}
    if setting["epsilon"] is None:
      return {"trained": "clipped, no noise"}
    size = len(self._half(1)[1])
    found = private_nets.guarantee(size, setting["epsilon"], spec.steps)
    return {"trained": "private", "privacy": found.fields()}

  def _half(self, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of shadows (0) or of targets (1)."""
    data = self._targets.job.dataset
    return data.train_images[half::2], data.train_labels[half::2]

  def _batch(self) -> dict[str, Any]:
    images = self._targets.job.dataset.train_images[:1]
    return {"image": jnp.asarray(images.astype(np.float32) / 255)}

  def _mechanism(self, scheme: str) -> str:
    return str(self._config.schemes[scheme].scheme)

  def _locked(self, scheme: str, nets: shadows.Nets) -> Locked:
    """Return the locked files of networks, under keys of their own."""
    return locked_nets.lock_all(
      self._targets.job.locks[scheme].scheme,
      self._mechanism(scheme),
      nets,
      self._batch(),
    )


def hits_of(
  tried: Mapping[str, classifiers.Classifier],
  own: Any,
  label: np.ndarray,
  targets: Any,
  truth: np.ndarray,
) -> dict[str, int]:
  """Return how many properties each classifier guesses right.

  Args:
    tried: The classifiers.
    own: What the attacker sees of their own shadows.
    label: int32[n], which of these have the property.
    targets: What they see of the networks that are judged.
    truth: int32[m], which of these have it.
  """
  return {
    kind: int((guess(own, label, targets) == truth).sum())
    for kind, guess in tried.items()
  }
