"""Fixtures of checkpoints."""

from collections.abc import Iterator

import pytest

from tests.checkpoint.children import Server


@pytest.fixture(scope="session")
def children() -> Iterator[Server]:
  """A server that forks processes of their own."""
  server = Server()
  try:
    yield server
  finally:
    server.close()
