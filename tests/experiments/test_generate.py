"""The generate command, on a tiny model of SmolLM2's architecture."""

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import generate, models
from experiments.serving import sealed
from keyjax import Secret, checkpoint, keyring, tree
from tests import trees
from tests.conftest import ROOT
from tests.experiments.models import gguf_files

for _package in ("gguf", "tokenizers"):
  pytest.importorskip(
    _package, reason=f"needs {_package}: pip install 'keyjax[pretrained]'"
  )
ALICE = keyring.HpkePrivateKey.generate("x25519")
EVE = keyring.HpkePrivateKey.generate("x25519")
Call = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Return a folder with keys, a model, and the model sealed for Alice."""
  made = tmp_path_factory.mktemp("generate")
  for name, key in ("alice", ALICE), ("eve", EVE):
    keyring.write_key(made / f"{name}.key", key, plain=True)
    (made / f"{name}.pub").write_text(
      keyring.format_recipient(key.public) + "\n"
    )
  gguf_files.write_model(made / "tiny.gguf")
  sealed.seal(made / "sealed", made / "tiny.gguf", [ALICE.public])
  return made


@pytest.fixture
def call(folder, capsys, monkeypatch) -> Call:
  """Return a function that runs the command, and returns what it prints."""
  monkeypatch.chdir(folder)
  monkeypatch.delenv("KEYJAX_IDENTITY", raising=False)
  flags.FLAGS.mark_as_parsed()

  def run(**given) -> str:
    given = {"checkpoint": "sealed", "most": 12, **given}
    with flagsaver.flagsaver(**given):
      generate.main(["generate"])
    out, said = capsys.readouterr()
    print(said, end="", file=sys.stderr)  # For the caller to read.
    return out

  return run


def refused(call: Call, capsys, **given) -> str:
  """Return the one line that the command ends with."""
  with pytest.raises(SystemExit) as found:
    call(**given)
  message = str(found.value)
  assert message.startswith("error: ") and "\n" not in message
  return message


def alone(folder: pathlib.Path, prompt: list[int], most: int) -> list[int]:
  """Generate from the file, without a cache."""
  loaded = sealed.load(folder / "tiny.gguf")
  apply_fn = jax.jit(loaded.model.apply)
  text = list(prompt)
  while len(text) < len(prompt) + most:
    padded = np.zeros((1, 64), np.int32)
    padded[0, : len(text)] = text
    token = int(apply_fn(loaded.variables, padded)[0, len(text) - 1].argmax())
    if token in loaded.tokenizer.end:
      break
    text.append(token)
  return text[len(prompt) :]


def test_a_recipient_gets_the_answer_of_the_model(folder, call, capsys) -> None:
  given = {"identity": ["file:alice.key"], "prompt": "the 12", "raw": True}
  out, said = call(**given, compare="tiny.gguf"), capsys.readouterr().err
  tokenizer = sealed.load(folder / "tiny.gguf").tokenizer
  want = alone(folder, tokenizer.encode("the 12"), 12)
  assert len(set(want)) > 1
  assert out == "".join(tokenizer.stream(want)) + "\n"
  assert f"; 4 tokens asked, {len(want)} answered, " in said
  assert said.endswith(" of 3 rounds; the same answer\n")


@pytest.mark.slow
def test_the_command_seals_and_generates(folder, tmp_path) -> None:
  def shell(*options: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "experiments.generate", *options]
    paths = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
      command, cwd=folder, env=paths, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr

  made, key = str(tmp_path / "locked"), str(tmp_path / "lock.key")
  lock = ["--lock=deep_lock", f"--lock_key={key}", "--to=@alice.pub"]
  out, _ = shell("--seal=tiny.gguf", f"--checkpoint={made}", *lock)
  assert out.startswith(f"sealed tiny.gguf in {made}")
  asked = ["--prompt=the 12", "--raw", "--most=12", f"--lock_key={key}"]
  opened = ["-i", "file:alice.key", f"--checkpoint={made}", "--each_pass"]
  _, said = shell(*opened, *asked, "--compare=tiny.gguf")
  assert "; 4 tokens asked, 12 answered, " in said
  assert said.endswith(" of 3 rounds; the same answer\n")


def test_a_locked_model_needs_its_key_too(
  folder, call, capsys, tmp_path
) -> None:
  made, key = tmp_path / "locked", tmp_path / "lock.key"
  sealed.seal(made, folder / "tiny.gguf", [ALICE.public], "deep_lock", key)
  loaded = sealed.open_sealed(made, [ALICE], key)
  plain = sealed.load(folder / "tiny.gguf").variables
  trees.assert_same_bits(loaded.unlocked(), plain)
  asked = {"identity": ["file:alice.key"], "prompt": "the 12", "raw": True}
  message = refused(call, capsys, checkpoint=str(made), **asked)
  assert "locked is locked by deep_lock: give --lock_key" in message
  # What the recipient has without that key is another model, or none.
  stolen = tree.as_floats(loaded.variables, plain)
  for got, want in zip(
    jax.tree.leaves(stolen), jax.tree.leaves(plain), strict=True
  ):
    assert (np.asarray(got) != want).mean() > 0.9


@pytest.mark.slow
def test_signs_are_in_the_weights_and_in_each_pass(
  folder, call, tmp_path
) -> None:
  made, key = tmp_path / "locked", tmp_path / "lock.key"
  sealed.seal(made, folder / "tiny.gguf", [ALICE.public], "hpnn", key)
  asked = {"identity": ["file:alice.key"], "prompt": "the 12", "raw": True}
  want = call(**asked)
  assert call(**asked, checkpoint=str(made), lock_key=str(key)) == want
  stolen = checkpoint.restore(made, ALICE)["variables"]
  plain = sealed.load(folder / "tiny.gguf").variables
  got, kernel = (
    np.asarray(x["params"]["block_1"]["mlp_up"]["kernel"])
    for x in (stolen, plain)
  )
  assert 0.2 < (got == -kernel).mean() < 0.8


def test_wrong_arguments_are_one_line(folder, call, capsys) -> None:
  alice = {"identity": ["file:alice.key"], "prompt": "the"}
  cases = [
    ({"prompt": "the"}, "no key is given: -i SOURCE"),
    ({**alice, "identity": ["file:eve.key"]}, "cannot be opened|not open"),
    ({**alice, "identity": ["file:none.key"]}, "file none.key does not exist"),
    ({**alice, "identity": ["alice.key"]}, "did you mean file:alice.key"),
    ({**alice, "checkpoint": "none"}, "none"),
    ({**alice, "checkpoint": "."}, "checkpoint"),
    ({**alice, "prompt": "\udcff"}, "surrogates not allowed"),
    ({**alice, "prompt": ""}, "give --checkpoint, and --prompt or --seal"),
    ({**alice, "prompt": "a " * 40}, "tokens: the context of 64 has no room"),
    ({**alice, "raw": True, "most": 0}, "at least one token"),
    ({**alice, "raw": True, "top_p": 2.0}, "top_p=2.0 <= 1"),
    ({**alice, "lock_key": "lock.key"}, "has no lock: leave out --lock_key"),
    ({"seal": "tiny.gguf", "checkpoint": "new"}, "who can open it"),
    ({"seal": "tiny.gguf", "to": ["@alice.pub"]}, "sealed exists"),
  ]
  seal = {"checkpoint": "new", "to": ["@alice.pub"], "seal": "tiny.gguf"}
  cases += [
    ({**seal, "lock": "xor", "lock_key": "k"}, "Unknown lock 'xor': choose"),
    ({**seal, "lock": "hpnn"}, "a lock and the file of its key"),
    ({**seal, "seal": "alice.pub"}, "alice.pub: weights with a tokenizer"),
    ({**seal, "seal": "none.gguf"}, "none.gguf"),
    ({**seal, "seal": "package:none"}, "Unknown weights package:none"),
    ({**seal, "to": ["alice.pub"]}, "did you mean @alice.pub"),
  ]
  for given, message in cases:
    found = refused(call, capsys, **given)
    assert re.search(message, found), (given, found)
  assert not (folder / "new").exists()


def test_a_model_that_is_not_read_is_not_sealed(call, capsys, tmp_path) -> None:
  seal = {"checkpoint": str(tmp_path / "new"), "to": ["@alice.pub"]}
  tokens = gguf_files.tokenizer()["tokenizer.ggml.tokens"]
  cases = {
    "other": ({}, "mamba", "architecture mamba is unknown"),
    "words": ({"llama.vocab_size": 300}, "llama", "has 263 tokens, the model"),
    "part": ({"llama.expert_count": 2}, "llama", "llama.expert_count=2"),
  }
  for name, (change, architecture, message) in cases.items():
    file = gguf_files.write(
      tmp_path / f"{name}.gguf",
      gguf_files.arrays(len(tokens)),
      gguf_files.METADATA | gguf_files.tokenizer() | change,
      architecture=architecture,
    )
    assert message in refused(call, capsys, seal=str(file), **seal)
  assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_something_else_is_refused(
  folder, call, capsys, tmp_path
) -> None:
  loaded = sealed.load(folder / "tiny.gguf")
  record = checkpoint.read_metadata(folder / "sealed", ALICE)["language_model"]
  tokenizer = np.frombuffer(
    json.dumps(loaded.tokenizer.record()).encode(), np.uint8
  )
  content = {"variables": loaded.variables, "tokenizer": tokenizer}
  shorter = jax.tree.map(lambda x: x, loaded.variables)
  del shorter["params"]["norm"]
  cases = {
    "plain": ({"w": jnp.ones(2)}, {}, "plain holds no language model"),
    "architecture": (
      content,
      record | {"model": "mamba"},
      "Unknown model 'mamba': choose from",
    ),
    "options": (
      content,
      record | {"options": record["options"] | {"hidden": 32}},
      r"mlp_down/kernel of shape (64, 32), the model of shape (32, 32)",
    ),
    "words": (
      content,
      record | {"options": record["options"] | {"vocabulary": 300}},
      "the tokenizer has 263 tokens, the model 300",
    ),
    "lock": (content, record | {"lock": "xor"}, "lock has the lock 'xor'"),
    "kind": (content, record | {"model": "gpt_micro"}, "Unknown option base"),
    "lacks": (content, record | {"options": {}}, "lacks a part of the model"),
    "text": (
      content,
      record | {"options": record["options"] | {"depth": "2"}},
      "a model of depth='2'",
    ),
    "deep": (
      content,
      record | {"options": record["options"] | {"depth": 10**9}},
      "the checkpoint has no 1000000000 blocks",
    ),
    "alone": ({"tokenizer": tokenizer}, record, "no variables, or no token"),
    "leaf": (
      content | {"variables": shorter},
      record,
      "params/norm/scale of shape None, the model of shape (32,)",
    ),
  }
  for name, (saved, described, message) in cases.items():
    path = tmp_path / name
    metadata = {"language_model": described} if described else {}
    checkpoint.save(path, saved, ALICE.public, metadata=metadata)
    found = refused(
      call,
      capsys,
      checkpoint=str(path),
      identity=["file:alice.key"],
      prompt="the",
    )
    assert message in found


@pytest.mark.slow
def test_smollm2_answers_when_it_is_opened(tmp_path, capsys) -> None:
  try:
    source = sealed.load("package:smollm2")
  except ValueError as error:
    pytest.skip(str(error))
  count = sum(x.size for x in jax.tree.leaves(source.variables))
  assert count == 134_515_008
  assert source.model == models.create("smollm2_135m", 49_152, (), ())
  made = tmp_path / "sealed"
  sealed.seal(made, "package:smollm2", [ALICE.public])
  loaded = sealed.open_sealed(made, [ALICE])
  generator = generate.Generator(loaded.model)
  found = generator.stream(
    loaded.variables,
    loaded.tokenizer.chat("What is the capital of France?"),
    32,
    end=loaded.tokenizer.end,
  )
  answer = "".join(loaded.tokenizer.stream(found))
  assert answer == "The capital of France is Paris."
  with pytest.raises(Exception, match="open"):
    sealed.open_sealed(made, [keyring.SymmetricKey(Secret.generate())])
