"""Studies: a published claim each, measured on small networks.

A file of this folder is a study: a module with `TITLE`, `SENTENCE` (the claim,
in our words), `DATASETS` and `run(lab) -> list[Figure]`; see
`experiments.studies.base`. `python -m experiments.robustness` runs those that a
config names.

  >>> single_step = get("single_step")
  >>> single_step.TITLE, single_step.DATASETS
  ('One step: FGSM', ('digits', 'mnist'))
"""

import importlib
import pkgutil
import types

from experiments.studies.base import Figure, Lab, Network, network, share

__all__ = ["Figure", "Lab", "Network", "get", "names", "network", "share"]


def names() -> tuple[str, ...]:
  """Return the names of all studies, in alphabetical order."""
  files = {module.name for module in pkgutil.iter_modules(__path__)}
  return tuple(sorted(files - {"base"}))


def get(name: str) -> types.ModuleType:
  """Return a study.

  Raises:
    ValueError: If the name is unknown; the message lists the known ones.
  """
  if name not in names():
    raise ValueError(
      f"Unknown study {name!r}: choose from {', '.join(names())}."
    )
  return importlib.import_module(f"{__name__}.{name}")
