"""Confident learning against cleanlab, which has an environment of its own."""

import pathlib
import subprocess

import jax
import numpy as np
import pytest

from experiments.benchmarks.peers import environment
from keyjax.attacks.poisoning import label_flips
from keyjax.defenses.poisoning import confident_learning

PACKAGES = ("cleanlab==2.9.0", "numpy==2.4.6", "scikit-learn==1.9.1")
PROGRAM = """
import sys
import numpy as np
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
with np.load(sys.argv[1]) as found:
  given = dict(found)
np.savez(
  sys.argv[1],
  joint=compute_confident_joint(**given),
  flags=find_label_issues(**given, filter_by="prune_by_noise_rate", n_jobs=1),
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_counts_and_flags_are_those_of_cleanlab(
  share: float, tmp_path: pathlib.Path
) -> None:
  try:
    python = environment.python("cleanlab", PACKAGES)
  except SystemExit as error:
    pytest.skip(str(error))
  rng = np.random.default_rng(0)
  truth = rng.integers(5, size=2000)
  labels = label_flips.at_random(truth, share, 5, rng=jax.random.key(0)).label
  logits = rng.normal(size=(2000, 5)) + 4 * np.eye(5)[truth]
  probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  file = tmp_path / "case.npz"
  np.savez(file, labels=labels, pred_probs=probs)
  subprocess.run([python, "-c", PROGRAM, str(file)], check=True)
  with np.load(file) as found:
    theirs = dict(found)
  joint = confident_learning.joint(labels, probs)
  np.testing.assert_allclose(joint, theirs["joint"], atol=1)
  flags = confident_learning.flags(labels, probs)
  both = (flags & theirs["flags"]).sum()
  assert both / (flags | theirs["flags"]).sum() > 0.95
