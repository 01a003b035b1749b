"""The compiled cipher under the address and undefined-behaviour sanitizers."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from keyjax.aes import library

TOP = pathlib.Path(__file__).parents[2]
FLAGS = (
  *("-std=c11", "-O1", "-g", "-shared", "-fPIC"),
  *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
)


def runtime(name):
  """Return the file of a sanitizer's run-time library."""
  command = ["gcc", f"-print-file-name={name}"]
  return subprocess.check_output(command, text=True).strip()


@pytest.mark.slow
def test_no_read_or_write_is_outside_a_buffer(tmp_path):
  if not (shutil.which("gcc") and sys.platform == "linux"):
    pytest.skip("needs gcc on Linux")
  preload = [runtime("libasan.so"), runtime("libubsan.so")]
  if not all(map(os.path.isabs, preload)):
    pytest.skip("gcc has no sanitizers")
  for name in ("keyjax", "tests"):
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(TOP / name, tmp_path / name, ignore=ignored)
  for name in ("conftest.py", "pyproject.toml"):
    shutil.copy(TOP / name, tmp_path)
  folder = tmp_path / library.FOLDER.relative_to(TOP)
  for name in library.LIBRARIES:
    target = folder / f"{name}.abi3.so"
    command = ["gcc", *FLAGS, str(folder / f"{name}.c"), "-o", str(target)]
    subprocess.run(command, check=True)
  environment = os.environ | {
    "LD_PRELOAD": ":".join(preload),
    "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps what it allocates.
    "PYTHONPATH": str(tmp_path),
  }
  done = subprocess.run(
    [
      *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
      *("-p", "no:xdist", "-o", "addopts=", "-m", "not slow"),
      *("tests/aes/test_native.py", "tests/seal/test_chunks.py"),
    ],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
  assert " passed" in done.stdout and "skipped" not in done.stdout
