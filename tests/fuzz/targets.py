"""All targets by name."""

import pathlib

from tests.fuzz import checkpoint_targets, keyring_targets, weight_targets

CORPUS = pathlib.Path(__file__).parent / "corpus"
TARGETS = {
  target.name: target
  for target in (
    *keyring_targets.TARGETS,
    *weight_targets.TARGETS,
    *checkpoint_targets.TARGETS,
  )
}
