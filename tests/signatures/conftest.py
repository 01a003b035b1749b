import pytest

from tests.signatures.golden import make


@pytest.fixture
def model(tmp_path):
  """The model of the golden bundles."""
  return make.write_model(tmp_path)
