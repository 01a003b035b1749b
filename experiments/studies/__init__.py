"""Studies: a published claim each, measured on small networks.

A file of this folder is a study: a module with `TITLE`, `SENTENCE` (the claim,
in our words), `DATASETS` and `run(lab) -> list[Figure]`; see
`experiments.studies.base`. `python -m experiments.robustness` runs those that a
config names.

  >>> single_step = get("single_step")
  >>> single_step.TITLE, single_step.DATASETS
  ('One step: FGSM', ('digits', 'mnist'))
"""

import types

from experiments.run import modules
from experiments.studies.base import Figure, Lab, Network, network, share

__all__ = ["Figure", "Lab", "Network", "get", "names", "network", "share"]


def names() -> tuple[str, ...]:
  """Return the names of all studies, in alphabetical order."""
  return modules.names(__path__, without={"base"})


def get(name: str) -> types.ModuleType:
  """Return a study.

  Raises:
    ValueError: If the name is unknown; the message lists the known ones.
  """
  return modules.get(__name__, name, names(), "study")
