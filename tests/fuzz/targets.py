"""All targets by name."""

import pathlib

from tests.fuzz import (
  card_targets,
  checkpoint_targets,
  data_targets,
  envelope_targets,
  keyring_targets,
  release_targets,
  signature_targets,
  step_targets,
  weight_targets,
)

CORPUS = pathlib.Path(__file__).parent / "corpus"
_FILES = (
  keyring_targets,
  envelope_targets,
  weight_targets,
  card_targets,
  checkpoint_targets,
  data_targets,
  release_targets,
  signature_targets,
  step_targets,
)
TARGETS = {target.name: target for file in _FILES for target in file.TARGETS}
