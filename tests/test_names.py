import subprocess
import sys

import pytest

import keyjax


def test_every_public_name_is_there():
  for name in keyjax.__all__:
    assert getattr(keyjax, name) is not None
    assert name in dir(keyjax)


def test_folders_of_the_library_are_names_of_the_package():
  names = {"attacks", "defenses", "interpret", "quantize", "checkpoint"}
  assert names <= set(keyjax.__all__)


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no attribute 'unlock'"):
    keyjax.unlock  # noqa: B018


def test_the_package_loads_without_jax():
  code = "import sys, keyjax; print(sorted({'jax', 'flax'} & set(sys.modules)))"
  found = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert found.stdout == "[]\n"
