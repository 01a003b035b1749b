"""Fixtures for several folders."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def bucket_server():
  """Serve buckets on this machine: TensorStore asks once where they are."""
  from tests import buckets

  with buckets.serving():
    yield


@pytest.fixture(scope="session")
def children():
  """Return a server that forks child processes."""
  from tests.checkpoint.children import Server

  server = Server()
  try:
    yield server
  finally:
    server.close()


@pytest.fixture
def bucket(bucket_server, request):
  """Return the path of an empty folder in a bucket."""
  name = "".join(c if c.isalnum() else "-" for c in request.node.nodeid)
  return f"gs://bucket/{name}"
