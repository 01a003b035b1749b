"""Runs of one config with several seeds, as commands that write folders."""

import pathlib
import subprocess
import sys

from experiments.run import results
from experiments.tables.code import ROOT
from experiments.tables.headlines import Run


def play(run: Run, seeds: int, home: pathlib.Path) -> list[pathlib.Path]:
  """Run a config with several seeds, in processes of their own.

  Args:
    run: Which config, and which of its pairs.
    seeds: Number of seeds.
    home: Folder for runs, which resume; those of another commit have another
      folder in it.

  Returns:
    The folder of each run.
  """
  folders = []
  for seed in range(seeds):
    folder = home / results.commit() / f"{run.name}_{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *run.command(seed, folder)]
    print(" ".join(command), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)
    folders.append(folder)
  return folders
