"""docs/release.md: its commands run, its tables are read."""

import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from keyjax import checkpoint
from keyjax.release import policy
from keyjax.release.evidence import read_evidence
from tests.conftest import ROOT
from tests.ports import free_port

TEXT = (ROOT / "docs/release.md").read_text()


def blocks(language):
  return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_the_evidence_is_read(tmp_path):
  pods, enclaves = (tomllib.loads(x)["evidence"] for x in blocks("toml"))
  assert read_evidence(pods["pods"], tmp_path)
  pcrs = {n: ["1" * 96] for n in enclaves["enclaves"]["pcrs"]}
  assert read_evidence(enclaves["enclaves"] | {"pcrs": pcrs}, tmp_path)


def test_every_field_of_the_policy_is_described():
  for kind in (policy.Caller, policy.Rule, policy.Policy):
    for name in set(kind.__dataclass_fields__) - {"text"}:
      assert f"`{name}`" in TEXT or f"`{name}." in TEXT, name


@pytest.mark.slow
def test_the_commands_run_from_top_to_bottom(tmp_path):
  weights = {"kernel": np.ones((4, 2), np.float32)}
  checkpoint.write_weights(tmp_path / "model.safetensors", weights)
  script = "\n".join(blocks("bash")).replace("8443", str(free_port()))
  program = tmp_path / "bin" / "keyjax"
  program.parent.mkdir()
  program.write_text(f'#!/bin/sh\nexec {sys.executable} -m keyjax.cli "$@"\n')
  program.chmod(0o700)
  path = f"{program.parent}:{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", "-c", f"set -e; trap 'kill %1' EXIT\n{script}"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=300,
    env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "has 0 of 2 approvals" in done.stderr
  assert "1 releases, 1 receipts: all as signed" in done.stdout
  opened = checkpoint.read_weights(tmp_path / "out.safetensors")
  np.testing.assert_array_equal(opened["kernel"], weights["kernel"])
