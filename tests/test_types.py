"""Types, checked beside the other tests: alone they keep one processor busy."""

import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(
  np.lib.NumpyVersion(np.__version__) >= "2.5.0",
  reason="mypy rejects x.max() by the stubs of NumPy 2.5: checked with 2.4",
)
def test_types() -> None:
  done = subprocess.run(
    [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
