"""Studies of trojans, with few steps and few networks."""

from collections.abc import Iterator

import pytest

from experiments.poisons import (
  trojan_detectors,
  trojan_locks,
  trojan_models,
  trojaned,
)


@pytest.fixture(autouse=True, scope="session")
def small() -> Iterator[None]:
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(trojaned, "_STEPS", 100)
    patch.setattr(trojan_detectors, "_CLEAN", 2)
    patch.setattr(trojan_models, "_CLEAN", 2)
    patch.setattr(trojan_models, "_STEPS", {"digits": 20})
    patch.setattr(trojan_models, "_TROJANED", {"digits": 2})
    patch.setattr(trojan_locks, "_WRONG", 2)
    patch.setattr(trojan_locks, "_RANDOM", {"digits": 2})
    yield
