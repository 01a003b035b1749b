"""KeyJAX's attacks against the authors' AutoAttack, and Foolbox, in PyTorch.

Both sides attack the same weights, exported to PyTorch, on the same images with
the same settings, budgets and batches, on all cores, one after the other. The
script asserts equal logits first. PyTorch classifies the changed images of both
sides: an accuracy is what it says.

Foolbox and PyTorch are installed in an environment of their own, and AutoAttack
from its repository, unless `--reference` names a checkout of it.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.benchmarks import timing
from experiments.benchmarks.parity import cases, networks, reference
from experiments.benchmarks.peers import environment
from keyjax.attacks import evasion

_REFERENCE = flags.DEFINE_string(
  "reference", "", "Checkout of AutoAttack; by default pip fetches it."
)
_NETWORKS = flags.DEFINE_list(
  "networks", list(networks.NETWORKS), "Networks to attack; all by default."
)
_CASES = flags.DEFINE_string(
  "cases", ".*", "Regular expression of ATTACK NORM, such as '.* linf'."
)
_COMMIT = "a39220048b3c9f2cca9a4d3a54604793c68eca7e"
PACKAGES = ("foolbox==3.3.4", "numpy==2.4.6", "torch==2.13.0")
REFERENCE = f"autoattack @ git+https://github.com/fra31/auto-attack@{_COMMIT}"
_CLOSE = 1e-4  # Largest difference of logits.
_ROUNDING = 1e-4  # Of the size of a ball.
_TARGETS = {"points": "-0.5 to 0.5", "%": "-2 to 2"}


class Side(NamedTuple):
  """What one side reached, by seed.

  Attributes:
    accuracy: Share of images that stay right.
    median: Median size of a change that succeeds.
    seconds: Times of the calls.
  """

  accuracy: list[float]
  median: list[float]
  seconds: list[float]


def rows(
  rounds: int, compared: tuple[cases.Case, ...] = cases.CASES
) -> Iterator[dict[str, Any]]:
  """Measure, and yield rows of accuracy, or distance, and of speed.

  Args:
    rounds: Greatest number of random seeds.
    compared: Attacks and networks.
  """
  folder = environment.folder("parity")
  # A subset of the cases is measured on the images of all of them.
  images = {x.network: 0 for x in compared}
  for case in compared:
    images[case.network] = max(images[case.network], case.n)
  if flags.FLAGS.is_parsed():
    compared = tuple(filter(_is_asked, compared))
  for name in dict.fromkeys(case.network for case in compared):
    own = [case for case in compared if case.network == name]
    network = networks.load(name, folder / "weights", images[name])
    with _peer(network) as ask:
      base = {"versions": _check(network, ask)}
      for case in own:
        case = case._replace(seeds=min(rounds, case.seeds))
        ours, theirs = _compare(network, case, ask)
        yield base | _reached(case, ours, theirs)
        yield base | _speed(case, ours, theirs)


def _is_asked(case: cases.Case) -> bool:
  """Return whether the command line asks for a case."""
  named = re.fullmatch(_CASES.value, f"{case.attack} {case.norm}")
  return case.network in _NETWORKS.value and named is not None


@contextlib.contextmanager
def _peer(network: networks.Network) -> Iterator[Callable[[Any], Any]]:
  """Run the side of PyTorch; yield a function that asks it one thing."""
  own = _checkout()
  packages = PACKAGES if own else (*PACKAGES, REFERENCE)
  python = environment.python("parity/python", packages)
  paths = os.pathsep.join([str(environment.ROOT), own])
  with tempfile.TemporaryDirectory() as temporary:
    file = pathlib.Path(temporary) / "network.npz"
    arrays: dict[str, Any] = dict(network.arrays)
    np.savez(file, images=network.images, labels=network.labels, **arrays)
    child = subprocess.Popen(
      [python, "-m", reference.__name__, temporary],
      env=os.environ | {"PYTHONPATH": paths},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    with child:
      assert child.stdin and child.stdout
      writer, reader = child.stdin, child.stdout

      def ask(request: Any) -> Any:
        if request is not None:
          writer.write(json.dumps(request) + "\n")
          writer.flush()
        line = reader.readline()
        if not line:
          raise RuntimeError("the side of PyTorch ended; its error is above")
        return json.loads(line)

      yield ask
      writer.close()


def _check(
  network: networks.Network, ask: Callable[[Any], Any]
) -> dict[str, str]:
  """Return the versions of the other side, if its logits are the same."""
  first = ask(None)
  logits = np.asarray(network.logits_fn(jnp.asarray(network.images)))
  apart = float(np.abs(logits - np.asarray(first["logits"])).max())
  if not apart <= _CLOSE:
    raise ValueError(f"logits differ by {apart}: the export is wrong")
  return first["versions"] | {"autoattack": _commit()}


def _checkout() -> str:
  """Return the folder of the reference; "" for the one that pip installs."""
  return _REFERENCE.value if flags.FLAGS.is_parsed() else ""


def _commit() -> str:
  """Return the commit of the reference."""
  folder = _checkout()
  if not folder:
    return _COMMIT[:7]
  git = ["git", "-C", folder, "rev-parse", "--short", "HEAD"]
  done = subprocess.run(git, capture_output=True, text=True)
  return done.stdout.strip() or "unknown"


def _compare(
  network: networks.Network, case: cases.Case, ask: Callable[[Any], Any]
) -> tuple[Side, Side]:
  """Return what both sides reached; they take turns."""
  ours, theirs = Side([], [], []), Side([], [], [])
  run = attack(network.logits_fn, case)
  images, labels = network.images[: case.n], network.labels[: case.n]
  with tempfile.TemporaryDirectory() as temporary:
    file = pathlib.Path(temporary) / "changed.npy"
    for seed in range(max(case.seeds, 2)):  # The first call compiles.
      start = time.perf_counter()
      changed = run(images, labels, jax.random.key(seed))
      ours.seconds.append(time.perf_counter() - start)
      if seed >= case.seeds:
        break
      np.save(file, changed)
      request = {"case": case._asdict(), "seed": seed}
      _add(ours, case, ask(request | {"changed": str(file)}))
      answer = ask(request)
      theirs.seconds.append(answer["seconds"])
      _add(theirs, case, answer)
      print(f"parity: {case}, seed {seed}: {answer}", file=sys.stderr)
  return ours, theirs


def _add(side: Side, case: cases.Case, answer: Mapping[str, float]) -> None:
  """Add one answer of the other side."""
  largest = answer["largest"]
  if not case.minimises and largest > case.epsilon * (1 + _ROUNDING):
    raise ValueError(f"{case}: a change of {largest} is outside the ball")
  side.accuracy.append(answer["accuracy"])
  side.median.append(answer["median"])


def attack(
  logits_fn: Callable[[jax.Array], jax.Array], case: cases.Case
) -> Callable[..., np.ndarray]:
  """Return KeyJAX's attack: a function of images, labels and a PRNG key.

  Args:
    logits_fn: Function from images to logits.
    case: What to run.
  """
  ball: dict[str, Any] = {"epsilon": case.epsilon, "norm": case.norm}
  if case.attack in cases.AUTOATTACK:
    name = "square" if case.attack == cases.EVERY_PLACE else case.attack
    names = None if name == "ensemble" else (name,)
    return lambda x, y, rng: (
      evasion.autoattack(
        logits_fn, x, y, attacks=names, batch_size=cases.BATCH, rng=rng, **ball
      ).inputs
    )

  def changed(x: jax.Array, y: jax.Array, rng: jax.Array) -> jax.Array:
    if case.attack == "pgd":
      return evasion.pgd(
        logits_fn,
        x,
        y,
        steps=cases.PGD_STEPS,
        step_size=cases.PGD_STRIDE * case.epsilon,
        keep="last",
        rng=rng,
        **ball,
      ).inputs
    if case.attack == "deepfool":
      return evasion.deepfool(logits_fn, x, y, **cases.DEEPFOOL).inputs
    return evasion.carlini_wagner(
      logits_fn, x, y, abort_early=False, **cases.CARLINI_WAGNER
    ).inputs

  batch = jax.jit(changed)

  def run(images: np.ndarray, labels: np.ndarray, rng: jax.Array) -> np.ndarray:
    parts = range(0, len(images), cases.BATCH)
    rngs = jax.random.split(rng, len(parts))
    found = [
      batch(images[i : i + cases.BATCH], labels[i : i + cases.BATCH], own)
      for i, own in zip(parts, rngs, strict=True)
    ]
    return np.concatenate(found)

  return run


def _reached(case: cases.Case, ours: Side, theirs: Side) -> dict[str, Any]:
  """Return the row of accuracy, or of the median distance."""
  if case.minimises:
    mine, other = np.array(ours.median), np.array(theirs.median)
    difference, unit = 100 * (mine / other - 1), "%"
  else:
    mine, other = np.array(ours.accuracy), np.array(theirs.accuracy)
    difference, unit = 100 * (mine - other), "points"
  what = "median distance" if case.minimises else "accuracy"
  summary = timing.Summary(
    float(difference.mean()), float(difference.min()), float(difference.max())
  )
  target = _TARGETS[unit]
  return timing.row(f"{_title(case)}: {what}", summary, unit, target) | {
    "case": case._asdict(),
    "peer": case.peer,
    "keyjax": mine.tolist(),
    "reference": other.tolist(),
  }


def _speed(case: cases.Case, ours: Side, theirs: Side) -> dict[str, Any]:
  """Return the row of speed; the first call is not counted, but compiles."""
  first, *later = ours.seconds
  times = np.array(later)
  ratios = np.median(theirs.seconds) / times
  return timing.row(
    f"{_title(case)}: speed", timing.summary(ratios), "x", ">= 2"
  ) | {
    "case": case._asdict(),
    "peer": case.peer,
    "keyjax": (case.n / times).tolist(),
    "reference": (case.n / np.array(theirs.seconds)).tolist(),
    "compilation": first - float(np.median(times)),
  }


def _title(case: cases.Case) -> str:
  """Return `MNIST, linf 0.1: APGD-CE, KeyJAX / AutoAttack`."""
  ball = case.norm if case.minimises else f"{case.norm} {case.epsilon:.4g}"
  where = networks.NETWORKS[case.network].title
  return f"{where}, {ball}: {case.attack}, KeyJAX / {case.peer}"
