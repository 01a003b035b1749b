"""Fixtures of the checkpoint tests."""

from collections.abc import Iterator

import pytest

from tests.checkpoint.children import Server


@pytest.fixture(scope="session")
def children() -> Iterator[Server]:
  """Return a server that forks child processes."""
  server = Server()
  try:
    yield server
  finally:
    server.close()
