"""Do locked weights still reveal a property of the training data?

Shadow networks and targets are trained on disjoint halves of the data, half of
them with a property: the digit 7 three times as frequent; none at all (which
must show on plain weights); no difference (which must not). Each is locked
under a key of its own, and four meta-classifiers guess the property of the
targets. One attacker learns from plain shadows, another from shadows that they
locked under keys of their own. A third meets an owner with one secret for all
files of Deep-Lock, and has one of these files and the weights in it: they open
the others with its keystream, and learn from plain shadows.

In a config `trials` is the number of shadows and of targets, `steps` those of
training each network, and the grid's setting names the property and what the
attacker learns from, `{"property": "frequent", "shadows": "locked"}`.
"""

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import classifiers, known_pair, rows, shadows
from experiments.attacking.targets import Targets
from experiments.run import results
from keyjax import tree
from keyjax.attacks import intervals
from keyjax.attacks.game import Cost, Goal
from keyjax.schemes import hpnn

NAME = "property_inference"
PAIR = "known_pair"
LEARN_FROM = ("plain", "locked", PAIR)
# Schemes that lock the weights of a plain model, or do as much (`lock_all`).
_SCHEMES = ("identity", "deep_lock", "keyed_noise", "hpnn")


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
  known = {"property": (*shadows.PROPERTIES,), "shadows": LEARN_FROM}
  settings = spec.grid.settings
  if len(settings) != 1 or set(settings[0]) != set(known):
    raise ValueError(
      f"attacks.{label}.grid: must be one setting with {', '.join(known)}"
    )
  for field, values in known.items():
    if settings[0][field] not in values:
      raise ValueError(
        f"attacks.{label}.grid: {field}={settings[0][field]!r}: choose from "
        f"{', '.join(values)}"
      )
  if settings[0]["shadows"] == PAIR:
    _check_streams(config, label)


def _check_streams(config: ConfigDict, label: str) -> None:
  for name, scheme in config.schemes.items():
    chosen = re.fullmatch(config.attacks[label].schemes, name)
    if chosen and applies(scheme.scheme) and scheme.scheme != "deep_lock":
      raise ValueError(
        f"attacks.{label}: {PAIR} is for files of deep_lock, not {name}: set "
        "schemes"
      )


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
    own, targets = self._networks(setting["property"], spec)
    start, busy = time.perf_counter(), time.process_time()
    learned = own.params
    if setting["shadows"] == "locked":
      learned = self._files(scheme, own.params)
    if setting["shadows"] == PAIR:
      lock = self._targets.job.locks[scheme].scheme
      stolen = known_pair.opened(lock, own.params, targets.params)
    else:
      stolen = self._files(scheme, targets.params)
    hits = hits_of(own, learned, targets, stolen)
    best = max(hits, key=lambda k: hits[k])
    total = len(targets.label)
    low, high = intervals.clopper_pearson(hits[best], total, len(hits))
    data = self._targets.job.dataset
    attacker = rows.attacker_of(spec, len(data.train_labels))
    cost = Cost(
      steps=spec.steps,
      seconds=round(time.perf_counter() - start, 6),
      cpu_seconds=round(time.process_time() - busy, 6),
    )
    return results.row(
      rows.fields(self._config, scheme, label, attacker),
      condition=rows.condition(self._config, scheme, "wrong"),
      metric=str(Goal.DISTINGUISH),
      value=hits[best] / total,
      low=low,
      high=high,
      interval="Clopper-Pearson over networks, Bonferroni over classifiers",
      cost=cost._asdict(),
      curve=[],
      details={k: n / total for k, n in hits.items()} | {"best": best},
      setting=setting,
      property=setting["property"],
      networks=total,
    )

  def _networks(
    self, name: str, spec: ConfigDict
  ) -> tuple[shadows.Nets, shadows.Nets]:
    """Return shadows and targets, trained once for all schemes."""
    wanted = (name, spec.trials, spec.steps)
    if wanted not in self._trained:
      self._trained[wanted] = self._train(name, spec.trials, spec.steps)
    return self._trained[wanted]

  def _train(
    self, name: str, count: int, steps: int
  ) -> tuple[shadows.Nets, shadows.Nets]:
    job = self._targets.job
    kinds = list(shadows.PROPERTIES)
    run = job.config.train.seed
    seed = 2 * (len(kinds) * run + kinds.index(name))
    first, second = (
      shadows.train(
        job.model,
        job.dataset.train_images[half::2],
        job.dataset.train_labels[half::2],
        prevalence=shadows.PROPERTIES[name],
        count=count,
        steps=steps,
        seed=seed + half,
      )
      for half in (0, 1)
    )
    return first, second

  def _files(self, scheme: str, params: Any) -> Any:
    """Return the locked files of networks, as floats; see `lock_all`."""
    images = self._targets.job.dataset.train_images[:1]
    return lock_all(
      self._targets.job.locks[scheme].scheme,
      self._config.schemes[scheme].scheme,
      params,
      batch={"image": jnp.asarray(images.astype(np.float32) / 255)},
    )


def hits_of(
  own: shadows.Nets, learned: Any, targets: shadows.Nets, stolen: Any
) -> dict[str, int]:
  """Return how many properties each classifier guesses right.

  Args:
    own: The attacker's shadows.
    learned: Their files, as the attacker learns from them.
    targets: The networks that are judged.
    stolen: Their locked files.
  """
  return {
    kind: int((guess(learned, own.label, stolen) == targets.label).sum())
    for kind, guess in classifiers.CLASSIFIERS.items()
  }


def lock_all(scheme: keyjax.Scheme, name: str, params: Any, batch: Any) -> Any:
  """Lock each network under a key of its own; return the files as floats.

  Args:
    scheme: Scheme that locks.
    name: Name of the scheme. HPNN's file is the plain network with signs
      absorbed: training under its key gives the same (capacity theorem).
    params: Tree with a first axis over networks.
    batch: Argument of `keygen`.
  """
  one = jax.tree.map(lambda x: x[0], params)
  count = len(jax.tree.leaves(params)[0])
  keys = [
    scheme.keygen(keyjax.Secret.generate(), one, batch) for _ in range(count)
  ]
  if not jax.tree.leaves(keys[0]):
    return params
  encrypt: Callable[..., Any] = scheme.encrypt
  if name == "hpnn":
    encrypt = hpnn.absorb
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *keys)
  return tree.as_floats(_vmapped(encrypt)(stacked, params), params)


_vmapped = functools.lru_cache(maxsize=16)(lambda f: jax.jit(jax.vmap(f)))
