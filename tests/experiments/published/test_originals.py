"""The comparison of published models with the programs that they are for."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks.pretrained import comparison, others
from experiments.models import dbnet, packages, pretrained
from experiments.models.wordpiece import WordPiece
from experiments.published import cascade, embeddings


def test_every_part_is_a_section() -> None:
  for name, rows in comparison.PARTS.items():
    assert benchmark.SECTIONS[f"pretrained.{name}"] is rows
  assert benchmark.SECTIONS["pretrained"] is comparison.rows
  assert not [x for x in benchmark.DEFAULT if x.startswith("pretrained")]


def test_windows_are_parts_of_a_photograph() -> None:
  photo = np.zeros((256, 256, 3), np.uint8)
  photo[:64, 192:] = 255
  windows = others._windows(photo)
  assert {k: x.shape for k, x in windows.items()} == {
    "refine": (49, 24, 24, 3),
    "output": (49, 48, 48, 3),
    "proposal": (1, 129, 130, 3),
  }
  # The seventh of 49 parts is white, and nothing else is wholly white.
  white = windows["output"].min((1, 2, 3)) > 0.9
  assert np.flatnonzero(white).tolist() == [6]


def answers(texts: list[str], inputs: Any, pages: np.ndarray) -> Any:
  """Answer as the other side does, by our own models."""
  folder = packages.find("minilm").parent
  encoder, variables = embeddings.load(folder)
  tokens = WordPiece(folder / "tokenizer.json", encoder.vocabulary, 32)(texts)
  found = {
    "tokens": tokens,
    "vectors": np.asarray(jax.jit(encoder.apply)(variables, tokens)),
  }
  nets, variables = cascade.load("package:mtcnn-")
  forward = jax.jit(functools.partial(nets.apply, variables))
  for name, file in others._NETWORKS.items():
    out = forward({name: inputs[f"window_{file}"]})[name]
    found[f"{file}_face"] = np.asarray(jax.nn.softmax(out["face"]))
    found[f"{file}_box"] = np.asarray(out["box"])
  for name, photo in inputs.items():
    if name.startswith("photo"):
      own = cascade.detect(forward, photo)
      boxes = own.boxes[:, [1, 0, 3, 2]]
      found[name] = np.concatenate([boxes, own.scores[:, None]], 1)
  detector = dbnet.TextDetector()
  variables = pretrained.load(packages.find("ppocr"), detector, pages[:1])
  logits = jax.jit(detector.apply)(variables, pages)
  return found | {"map": np.asarray(jax.nn.sigmoid(logits))}


@pytest.mark.slow
def test_differences_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
  for library in ("onnx", "tokenizers"):
    pytest.importorskip(library, reason="pip install 'keyjax[pretrained]'")
  try:
    packages.find("minilm"), packages.find("ppocr")
    packages.find("mtcnn-pnet"), others.images.find("page.png")
  except ValueError as error:
    pytest.skip(str(error))
  kept: dict[str, Any] = {}

  def ask(*args: Any) -> Any:
    kept["answers"] = kept.get("answers") or answers(*args)
    return kept["answers"]

  monkeypatch.setattr(others, "_ask", ask)
  same = {r["name"]: r["value"] for r in others.rows(3)}
  assert len(same) == 13
  assert all(v < 1e-5 for k, v in same.items() if "largest difference" in k)
  kept["answers"]["vectors"] = kept["answers"]["vectors"] * 1.01
  kept["answers"]["photo_0"] = kept["answers"]["photo_0"] + 1
  apart = {r["name"]: r["value"] for r in others.rows(3)}
  changed = [k for k in same if abs(apart[k] - same[k]) > 1e-4]
  assert len(changed) == 3 and all("M" in k[:2] for k in changed)
  kept["answers"]["photo_0"] = np.zeros((0, 5), np.float32)
  with pytest.raises(ValueError, match="photo_0: 1 faces, PyTorch 0"):
    list(others.rows(3))
