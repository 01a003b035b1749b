import pytest

from tests.release.world import World


@pytest.fixture
def world(tmp_path):
  """A release server that is not started, and a policy without approvals."""
  made = World(tmp_path)
  made.write_policy()
  return made
