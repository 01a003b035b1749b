"""Scores of LiRA and RMIA against the code of their authors.

Both sides score the same answers: of 33 small networks of digits, of which one
is the target. Both repositories are fetched at the commits below, unless
`--lira` and `--rmia` name checkouts of them.

What differs on purpose is left out. Offline, LiRA's code takes the density on
both sides of the median; ours is the paper's, of one side, so that ranks above
the median are compared. With one variance for all, its online attack takes that
of the models with an example for those without too. RMIA's code keeps the
largest half of the reference models' answers for the population: it is given
half as many models, and ours each of them twice.
"""

import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from absl import flags

from experiments import data, models
from experiments.benchmarks import timing
from experiments.benchmarks.membership import reference
from experiments.benchmarks.peers import environment
from experiments.run.config import base
from keyjax.attacks.fit import Recipe
from keyjax.attacks.game import Examples
from keyjax.attacks.privacy import lira, rmia, shadows, signals, stacked

_LIRA = flags.DEFINE_string(
  "lira", "", "Checkout of TensorFlow Privacy; by default git fetches it."
)
_RMIA = flags.DEFINE_string(
  "rmia", "", "Checkout of ML Privacy Meter; by default git fetches it."
)
_SOURCES = {
  "lira": (
    "https://github.com/tensorflow/privacy",
    "03035d5d4a271ac795dab80f5bc1cef82fc3d462",
  ),
  "rmia": (
    "https://github.com/privacytrustlab/ml_privacy_meter",
    "e384af8fd9319b8eeb1303aa82474df1441e3c59",
  ),
}
_PACKAGES = (
  "matplotlib==3.11.2",
  "numpy==2.4.6",
  "scikit-learn==1.9.1",
  "scipy==1.17.1",
)
_POOL, _SHADOWS, _A = 600, 32, 0.3


def rows(rounds: int) -> Iterator[dict[str, Any]]:
  """Yield the largest difference of scores, for each attack.

  Args:
    rounds: Not used: nothing is timed.
  """
  del rounds
  given = answers()
  theirs = ask(given)
  note = ", ".join(
    f"{name} {commit[:7]}" for name, (_, commit) in _SOURCES.items()
  )
  for name, (ours, others) in pairs(given, theirs).items():
    apart = float(np.abs(ours - others).max())
    yield timing.row(
      f"{name}: largest difference of scores",
      timing.exact(apart),
      "",
      target="0 up to rounding",
      note=note,
    )


def answers() -> dict[str, np.ndarray]:
  """Return what small networks of digits answer; one of them is the target."""
  config = base()
  dataset = data.from_config(config)
  pool = Examples(_floats(dataset.train_images), dataset.train_labels)
  pool = Examples(pool.image[:_POOL], pool.label[:_POOL].astype(np.int32))
  config.model = "mlp"
  config.model_args.hidden = (64,)
  model = models.from_config(config, dataset)
  members = shadows.split(_SHADOWS, _POOL)
  members = np.concatenate([members, shadows.split(2, _POOL, seed=1)[:1]])
  found = shadows.train(
    model.apply,
    lambda rng: model.init(rng, pool.image[:1]),
    pool,
    members,
    Recipe(learning_rate=3e-3),
    steps=300,
    chunk=_SHADOWS + 1,
    logits=True,
  )
  rest = _floats(dataset.test_images)
  labels = dataset.test_labels.astype(np.int32)
  logits = stacked.answers(model.apply, found.params, rest)
  assert found.logits is not None
  phi = signals.log_odds(found.logits, pool.label)
  p = np.exp(signals.log_confidence(found.logits, pool.label))
  rest_p = np.exp(signals.log_confidence(logits, labels))
  return {
    "members": members[:-1],
    "shadow_phi": phi[:-1],
    "phi": phi[-1],
    "shadow_p": p[:-1],
    "p": p[-1],
    "rest_shadow_p": rest_p[: _SHADOWS // 2],
    "rest_p": rest_p[-1],
    "a": np.asarray(_A),
  }


def pairs(
  given: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Return our scores and theirs, on one scale, by attack."""
  arrays = (given["phi"], given["shadow_phi"], given["members"])
  made = {}
  made["LiRA"] = (lira.scores(*arrays), -theirs["generate_ours"])
  offline = lira.scores(*arrays, online=False, variance="fixed")
  above = offline > 0
  made["LiRA, offline, one variance, ranks"] = (
    _ranked(offline[above]),
    _ranked(-theirs["generate_ours_offline"][above]),
  )
  twice = np.concatenate([given["rest_shadow_p"]] * 2)
  found = rmia.scores(
    np.log(given["p"]),
    np.log(given["shadow_p"]),
    given["members"],
    np.log(given["rest_p"]),
    np.log(twice),
    online=False,
    gamma=1.0,
    a=_A,
  )
  made["RMIA, offline"] = (found, theirs["run_rmia"])
  return made


def ask(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Return the scores of the authors' code, from a process of its own."""
  python = environment.python("membership/python", _PACKAGES)
  folders = [_checkout(name) for name in _SOURCES]
  with tempfile.TemporaryDirectory() as temporary:
    files = [str(pathlib.Path(temporary) / x) for x in ("in.npz", "out.npz")]
    np.savez(files[0], **given)  # type: ignore[arg-type]
    file = pathlib.Path(reference.__file__)
    done = subprocess.run(
      [python, str(file), *folders, *files],
      capture_output=True,
      text=True,
      env={"MPLBACKEND": "agg", "HOME": temporary},
    )
    if done.returncode:
      sys.exit(
        f"error: the authors' code failed: {done.stderr.splitlines()[-1]}"
      )
    with np.load(files[1]) as found:
      return dict(found)


def _checkout(name: str) -> str:
  """Return the folder of a repository, fetched once at its commit."""
  flag = {"lira": _LIRA, "rmia": _RMIA}[name]
  if flags.FLAGS.is_parsed() and flag.value:
    return str(flag.value)
  url, commit = _SOURCES[name]
  folder = environment.folder("membership") / f"{name}-{commit[:7]}"
  if not (folder / ".git").exists():
    folder.mkdir(parents=True, exist_ok=True)
    for command in (
      ["init", "--quiet"],
      ["fetch", "--quiet", "--depth=1", url, commit],
      ["checkout", "--quiet", "FETCH_HEAD"],
    ):
      done = subprocess.run(
        ["git", "-C", str(folder), *command], capture_output=True, text=True
      )
      if done.returncode:
        sys.exit(f"error: git cannot fetch {url}: pass --{name}=DIR")
  return str(folder)


def _floats(images: np.ndarray) -> np.ndarray:
  return images.astype(np.float32) / 255


def _ranked(values: np.ndarray) -> np.ndarray:
  """Return the rank of each value, equal values first come first."""
  found = np.empty(len(values))
  found[np.argsort(values, kind="stable")] = np.arange(len(values))
  return found
