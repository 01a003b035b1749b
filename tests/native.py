"""The compiled cipher of a checkout, built again when its source changes."""

import fcntl
import os
import pathlib
import shutil
import subprocess

FOLDER = pathlib.Path(__file__).parent.parent / "keyjax" / "aes" / "csrc"
FLAGS = ("-std=c11", "-O3", "-fPIC", "-shared", "-fvisibility=hidden")


def build() -> None:
  """Compile the libraries that are older than their source."""
  compiler = shutil.which("cc")
  if compiler is None:
    return
  newest = max(p.stat().st_mtime for p in FOLDER.glob("*.[ch]"))
  with open(FOLDER / ".lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    for source in FOLDER.glob("*.c"):
      target = source.with_suffix(".abi3.so")
      if target.exists() and target.stat().st_mtime >= newest:
        continue
      made = FOLDER / f".{target.name}"
      command = [compiler, *FLAGS, "-o", str(made), str(source)]
      if subprocess.run(command, capture_output=True).returncode == 0:
        os.replace(made, target)
