"""The experiments without the packages that they need."""

import importlib
import importlib.util

import pytest

import experiments


def test_a_checkout_without_the_extra_says_what_to_install(monkeypatch) -> None:
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ImportError, match="run `make install`, or pip install"):
    importlib.reload(experiments)
