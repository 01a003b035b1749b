r"""Attacks on HPNN: a MNIST CNN in which every key bit acts.

python -m experiments.attack --config=configs/attack_hpnn.py \
      --workdir=runs/attack_hpnn

2 cores of a Xeon, 30 minutes shared with other jobs, 2026-11-22; the figures
are in docs/attacks/hpnn.md.

The CNN of `hpnn.py:mnist` has 176 locked neurons, and 256 key bits of which
about 150 act; with 256 hidden units there are 304, and all bits act.
"""

from ml_collections import ConfigDict

from experiments.run.config import (
  attack,
  mnist,
  scheme,
  set_attacks,
  set_schemes,
)

_TUNE = (
  {"optimizer": "adam", "learning_rate": 1e-3},
  {"optimizer": "sgd", "learning_rate": 3e-2},
)
_FRACTIONS = {"0.1 %": 0.001, "0.5 %": 0.005, "2 %": 0.02, "10 %": 0.1}
_BLIND = {"informed": False, "starts": 3}


def get_config() -> ConfigDict:
  """Return the config."""
  config = mnist("attack_hpnn")
  config.model_args.units = 256
  set_schemes(config, hpnn=scheme("hpnn", "HPNN, 256 key bits"))
  attacks = {"statistics": attack("hpnn_statistics", "the weights alone")}
  for n in (8, 16, 32, 64, 128, 256, 1024):
    holds = {"images": n, "queries": n, "points": 3}
    attacks[f"oracle_{n}"] = attack(
      "hpnn_relax_oracle",
      f"relaxation, {n} queries",
      steps=300,
      grid=({"loss": "mse"},),
      **holds,
    )
    attacks[f"algebra_{n}"] = attack(
      "hpnn_algebraic", f"algebra, {n} queries", steps=200, **holds
    )
  holds = {"images": 1200, "queries": 1200, "points": 4}
  attacks |= {
    "jsd": attack(
      "hpnn_relax_oracle",
      "relaxation by JSD, 1,200 queries",
      steps=300,
      grid=({"loss": "jsd"},),
      **holds,
    ),
  }
  for i, (name, share) in enumerate(_FRACTIONS.items()):
    few = {"fraction": share, "steps": 400, "points": 3}
    attacks |= {
      f"relax_{i}": attack(
        "hpnn_relax",
        f"relaxation, {name} of the labels",
        grid=({}, {"starts": 3}),
        **few,
      ),
      f"tune_{i}": attack(
        "fine_tune", f"fine-tuning, {name}", grid=_TUNE, **few
      ),
      f"scratch_{i}": attack(
        "scratch", f"from scratch, {name}", grid=_TUNE, **few
      ),
    }
  two = {"fraction": 0.02, "points": 4}
  attacks |= {
    "retrain": attack("hpnn_retrain", "absorb, retrain, 2 %", steps=400, **two),
    "jsd_blind": attack(
      "hpnn_relax_oracle",
      "relaxation by JSD as published, 1,200 queries",
      steps=1500,
      grid=({"loss": "jsd", **_BLIND},),
      images=1200,
      queries=1200,
      points=4,
    ),
  }
  for known in (False, True):
    more = {**two, "schedule": known}
    end = "_known" * known
    suffix = ", known schedule" * known
    attacks |= {
      f"greedy{end}": attack(
        "hpnn_greedy", f"greedy flips, 2 %{suffix}", steps=1000, **more
      ),
      f"genetic{end}": attack(
        "hpnn_genetic",
        f"genetic search, 2 %{suffix}",
        steps=1000,
        grid=({"population": 32},),
        **more,
      ),
      f"relax_blind{end}": attack(
        "hpnn_relax",
        f"relaxation as published, 2 %{suffix}",
        steps=1500,
        grid=(_BLIND,),
        **more,
      ),
    }
  set_attacks(config, **attacks)
  return config
