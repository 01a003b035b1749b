"""Studies of poisoned data: a claim each, measured on small networks.

A file of this folder is a study, as in `experiments.studies`: a module with
`TITLE`, `SENTENCE` (the claim, in our words), `DATASETS` and
`run(lab) -> list[Figure]`. `AXIS` says what `x` of its figures is, if it draws
curves; `lab.show` keeps pictures. `python -m experiments.poisoning` runs those
that a config names.

  >>> flips = get("label_flips")
  >>> flips.TITLE, flips.DATASETS
  ('Flipped labels', ('digits', 'mnist'))
"""

import types

from experiments.run import modules

__all__ = ["get", "names"]

_SHARED = {"base", "locked", "trojaned"}  # No studies.


def names() -> tuple[str, ...]:
  """Return the names of all studies, in alphabetical order."""
  return modules.names(__path__, without=_SHARED)


def get(name: str) -> types.ModuleType:
  """Return a study.

  Raises:
    ValueError: If the name is unknown; the message lists the known ones.
  """
  return modules.get(__name__, name, names(), "study of poisoned data")
