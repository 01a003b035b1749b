"""The side of the authors, in a process of its own.

It reads what models answered from a file, and scores it by the code of LiRA's
authors (`generate_ours`, `generate_ours_offline`) and of RMIA's (`run_rmia`).
"""

import importlib.util
import pathlib
import sys
from typing import Any

import numpy as np

LIRA = "research/mi_lira_2021/plot.py"
RMIA = "modules/mia/attacks/rmia.py"


def module(file: pathlib.Path) -> Any:
  """Return a Python file as a module."""
  spec = importlib.util.spec_from_file_location(file.stem, file)
  assert spec is not None and spec.loader is not None
  made = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(made)
  return made


def main(lira: str, rmia: str, given: str, found: str) -> None:
  """Score what is given by the code in two checkouts."""
  their_lira = module(pathlib.Path(lira) / LIRA)
  their_rmia = module(pathlib.Path(rmia) / RMIA)
  with np.load(given) as x:
    members, a = x["members"], float(x["a"])
    check = (np.zeros((1, members.shape[1]), bool), x["phi"][None, :, None])
    made = {}
    for kind, fixed in (
      ("generate_ours", False),
      ("generate_ours_offline", True),
    ):
      score, _ = getattr(their_lira, kind)(
        members, x["shadow_phi"][..., None], *check, fix_variance=fixed
      )
      made[kind] = np.asarray(score)
    made["run_rmia"] = their_rmia.run_rmia(
      x["p"], x["shadow_p"].T, members.T, x["rest_p"], x["rest_shadow_p"].T, a
    )
  np.savez(found, **made)  # type: ignore[arg-type]


if __name__ == "__main__":
  main(*sys.argv[1:])
