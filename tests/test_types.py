"""Types, checked beside the other tests: alone they keep one processor busy."""

import subprocess
import sys

from tests.conftest import ROOT


def test_types() -> None:
  done = subprocess.run(
    [sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
