"""Secrets that are the same in each run, for tests whose figures vary with one.

A folder's conftest imports the fixture; others take their secrets from the
operating system.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Iterator

import pytest

from keyjax import Secret


@contextlib.contextmanager
def secrets(name: str) -> Iterator[None]:
  """Let `Secret.generate` return a sequence of secrets that a name decides."""
  numbers = itertools.count()

  def generate() -> Secret:
    text = f"{name} {next(numbers)}"
    return Secret(hashlib.sha256(text.encode()).digest())

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Secret, "generate", staticmethod(generate))
    yield


@pytest.fixture(autouse=True)
def repeatable_secrets() -> Iterator[None]:
  """Give each test the same sequence of secrets, whatever ran before it."""
  with secrets("test"):
    yield
