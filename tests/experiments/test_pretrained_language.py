"""The comparison of SmolLM2 with llama.cpp, without llama.cpp."""

import json
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.peers import environment
from experiments.benchmarks.pretrained import language, llama_cpp
from experiments.models import packages
from experiments.models.readers import gguf as reader
from tests.experiments.models import gguf_files


def test_a_file_is_converted_to_float32(tmp_path: pathlib.Path) -> None:
  gguf = pytest.importorskip(
    "gguf", reason="needs gguf: pip install 'keyjax[pretrained]'"
  )
  x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
  packed = gguf.quants.quantize(x, gguf.GGMLQuantizationType.Q4_1)
  metadata = gguf_files.tokenizer() | {"llama.rope.freq_base": 0.5}
  source = gguf_files.write(
    tmp_path / "a.gguf", {"w": packed}, metadata, kinds={"w": "Q4_1"}
  )
  llama_cpp.as_float32(str(source), str(tmp_path / "b.gguf"))
  before, after = (reader.contents(tmp_path / f"{n}.gguf") for n in "ab")
  assert after.metadata == before.metadata
  np.testing.assert_array_equal(after.tensors["w"], before.tensors["w"])
  kinds = [
    t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "b.gguf").tensors
  ]
  assert kinds == ["F32"]


def test_scores_are_those_of_the_next_token() -> None:
  shares = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [1, 0, 0]])
  with jax.numpy_dtype_promotion("standard"):
    perplexity, right = language._scores(
      jnp.log(jnp.asarray(shares, jnp.float32)), jnp.array([2, 0, 1])
    )
  assert perplexity == pytest.approx((2 * 4) ** 0.5)
  assert right == 0.5


@pytest.mark.parametrize(
  "theirs, share", [([1, 2, 3, 4], 1), ([1, 2, 4, 4], 0.5), ([2, 2, 3, 4], 0)]
)
def test_answers_are_compared_up_to_a_difference(theirs, share) -> None:
  assert language._common([1, 2, 3, 4], theirs) == share


def test_the_answer_of_llama_cpp_is_read(monkeypatch, tmp_path) -> None:
  monkeypatch.setattr(environment, "python", lambda name, packages: "python")
  monkeypatch.setattr(packages, "resolve", lambda name: tmp_path / "a.gguf")
  asked = []

  def run(command, **options):
    request, answer = map(pathlib.Path, command[-2:])
    asked.append(json.loads(request.read_text()))
    if asked[-1]["exact"]:
      return subprocess.CompletedProcess(command, 1, "", "no such\nmodel")
    np.savez(answer, tokens=[1, 2])
    return subprocess.CompletedProcess(command, 0, "", "")

  monkeypatch.setattr(subprocess, "run", run)
  found = language._ask({"text": "the", "exact": False})
  assert found["tokens"].tolist() == [1, 2]
  assert asked[0]["text"] == "the" and asked[0]["file"].endswith("a.gguf")
  with pytest.raises(RuntimeError, match="llama.cpp failed: no such\nmodel"):
    language._ask({"text": "the", "exact": True})
