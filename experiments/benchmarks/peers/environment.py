"""Environments of their own for peers, which KeyJAX never imports.

Made once with `python -m venv` and pip, in a folder of the cache
(`$XDG_CACHE_HOME`, or `.cache` in the checkout), and used again while the
packages and the version of Python are the same. tensorizer needs PyTorch. The
build for CPUs takes 200 MB; where pip would take the one for CUDA, of several
GB, set `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`.
"""

import ctypes.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGES = (
  "cryptography==50.0.1",  # Makes CryptoTensors' signing key.
  "cryptotensors==0.2.3",
  "ml-dtypes==0.6.0",
  "numpy==2.4.6",
  "pyrage==1.4.0",
  "safetensors==0.8.0",
  "tensorizer==2.12.1",
  "torch==2.13.0",
)
_RECORD = "installed.txt"


def folder(name: str = "peers") -> pathlib.Path:
  """Return a folder of the cache, which may not exist."""
  home = os.environ.get("XDG_CACHE_HOME")
  return (pathlib.Path(home) if home else ROOT / ".cache") / name


def python(name: str = "peers", packages: Sequence[str] = PACKAGES) -> str:
  """Return an environment's interpreter; make the environment if needed.

  Args:
    name: Its folder in the cache.
    packages: What pip installs.

  Raises:
    SystemExit: If the environment cannot be made, with one line.
  """
  made = folder(name)
  wanted = "\n".join((platform.python_version(), *packages))
  record = made / _RECORD
  interpreter = str(made / "bin" / "python")
  if record.is_file() and record.read_text() == wanted:
    return interpreter
  print(f"{name}: installing {', '.join(packages)} in {made}", file=sys.stderr)
  if made.exists() and not (made / "pyvenv.cfg").exists():
    sys.exit(f"error: {made} is not a virtual environment: remove it")
  shutil.rmtree(made, ignore_errors=True)
  _run("venv", [sys.executable, "-m", "venv", str(made)])
  install = ["-m", "pip", "install", "--quiet", *packages]
  _run("pip", [interpreter, *install])
  record.write_text(wanted)
  return interpreter


def _run(what: str, command: list[str]) -> None:
  done = subprocess.run(command, capture_output=True, text=True)
  if done.returncode:
    lines = [x for x in done.stderr.splitlines() if x.startswith("ERROR")]
    lines = lines or done.stderr.splitlines() or done.stdout.splitlines()
    cause = lines[-1] if lines else f"exit code {done.returncode}"
    sys.exit(f"error: {what} cannot make the environment of peers: {cause}")


def missing(tool: str) -> str:
  """Return what this machine lacks to run a tool, "" if nothing.

  Args:
    tool: Name of the tool, in `tools.PEERS`.
  """
  programs = {"age": "age", "openssl": "openssl"}
  if tool in programs and not shutil.which(programs[tool]):
    return f"no program {programs[tool]} on the PATH"
  if tool == "tensorizer" and not ctypes.util.find_library("sodium"):
    return "no library libsodium, which tensorizer encrypts with"
  return ""
