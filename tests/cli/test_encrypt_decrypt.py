import json
import os
import pathlib
import re

import flax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors
from safetensors import safe_open

from keyjax import checkpoint
from tests.checkpoint import damage
from tests.cli.conftest import assert_silent, tree

KEY = ("-i", "file:owner.key")
TO = ("--to", "file:owner.key")


def same(a, b):
  """Assert that two arrays are equal, bit for bit."""
  a, b = np.asarray(a), np.asarray(b)
  assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def write_plain(kind):
  """Write an unencrypted model; return its path."""
  params = tree()
  flat = {
    "dense.bias": np.asarray(params["dense"]["bias"]),
    "dense.kernel": np.asarray(params["dense"]["kernel"]),
    "step": np.asarray(params["step"]),
  }
  path = {"orbax": "in"}.get(kind, f"in.{kind}")
  if kind == "safetensors":
    safetensors.save_file(flat, path)
  elif kind == "msgpack":
    data = flax.serialization.to_bytes(params)
    pathlib.Path(path).write_bytes(data)
  else:
    checkpoint.save_plain(path, params)
  return path


def read_plain(kind, path):
  """Return the three arrays of an unencrypted model."""
  if kind == "safetensors":
    found = safetensors.load_file(path)
    return [found[name] for name in ("dense.bias", "dense.kernel", "step")]
  if kind == "msgpack":
    data = pathlib.Path(path).read_bytes()
    found = flax.serialization.msgpack_restore(data)
  else:
    found = checkpoint.restore_plain(path, tree())
  return [found["dense"]["bias"], found["dense"]["kernel"], found["step"]]


@pytest.mark.parametrize("kind", ["orbax", "safetensors", "msgpack"])
def test_weights_survive_a_round_trip(run, owner, kind):
  path = write_plain(kind)
  sealed = run("encrypt", path, "sealed", *TO, "--step", 12)
  assert sealed.code == 0, sealed.err
  out = {"orbax": "out"}.get(kind, f"out.{kind}")
  opened = run("decrypt", "sealed", out, *KEY)
  assert opened.code == 0, opened.err
  want = tree()
  wanted = [want["dense"]["bias"], want["dense"]["kernel"], want["step"]]
  for a, b in zip(read_plain(kind, out), wanted, strict=True):
    same(a, b)
  assert_silent(sealed, "owner.key")
  assert_silent(opened, "owner.key")
  # Files in a folder that others cannot enter are private.
  assert os.stat(out).st_mode & 0o077 == 0
  assert kind != "orbax" or all(
    p.stat().st_mode & 0o077 == 0 for p in pathlib.Path(out).rglob("*")
  )
  assert checkpoint.inspect("sealed", owner.key)["step"] == 12


@pytest.mark.parametrize("kind", ["safetensors", "msgpack", "orbax"])
def test_every_format_can_be_written(run, owner, kind):
  answer = run("decrypt", "model", "out", *KEY, "--format", kind, "--json")
  assert answer.json == {"format": kind, "leaves": 3, "path": "out"}
  same(read_plain(kind, "out")[0], tree()["dense"]["bias"])


@pytest.mark.parametrize("name", ["out", "out.msgpack", "out.safetensors"])
def test_new_parents_have_the_ordinary_mode_and_weights_are_private(
  run, owner, folder, name
):
  old = os.umask(0o022)
  try:
    answer = run("decrypt", "model", f"a/b/{name}", *KEY, "--leaves", "step")
  finally:
    os.umask(old)
  assert answer.code == 0, answer.err
  for path, bits in (("a", 0), ("a/b", 0), (f"a/b/{name}", 0o077)):
    assert (folder / path).stat().st_mode & 0o077 == 0o055 & ~bits, path


@pytest.mark.parametrize("name", ["out.npz", "a/out.pt", "out.safetensor"])
def test_an_unknown_suffix_is_refused(run, owner, folder, name):
  answer = run("decrypt", "model", name, *KEY)
  assert answer.code == 2 and "names no format" in answer.err
  assert ".safetensors, .msgpack" in answer.err
  assert not (folder / name).exists()


def test_names_of_orbax_folders(run, owner, folder):
  assert run("decrypt", "model", "v1.2", *KEY).code == 0
  assert run("decrypt", "model", "a.ckpt", *KEY, "--format", "orbax").code == 0
  assert (folder / "v1.2").is_dir() and (folder / "a.ckpt").is_dir()


@pytest.mark.parametrize("kind", ["safetensors", "msgpack", "orbax"])
def test_selected_leaves_are_written(run, owner, kind):
  some = ("--leaves", "dense/.*", "--format", kind, "--json")
  answer = run("decrypt", "model", "out", *KEY, *some)
  assert answer.json == {"format": kind, "leaves": 2, "path": "out"}
  if kind == "safetensors":
    found = safetensors.load_file("out")
    assert set(found) == {"dense.bias", "dense.kernel"}
    same(found["dense.kernel"], tree()["dense"]["kernel"])
  if kind == "msgpack":
    data = pathlib.Path("out").read_bytes()
    found = flax.serialization.msgpack_restore(data)
    assert set(found) == {"dense"}


@pytest.mark.parametrize(
  "leaves, sentence",
  [
    ("dense", "no leaf matches 'dense' with"),
    ("dense", "; `keyjax inspect` shows them"),
    ("(", "--leaves: not a regular expression"),
  ],
)
def test_leaves_that_do_not_match(run, owner, folder, leaves, sentence):
  answer = run("decrypt", "model", "out", *KEY, "--leaves", leaves)
  assert answer.code == 2 and sentence in answer.err
  assert answer.err.count("\n") == 1
  assert not (folder / "out").exists()


def test_metadata_is_sealed_and_restored(run, owner, folder):
  (folder / "m.json").write_text(json.dumps({"lr": 0.1, "by": "us"}))
  path = write_plain("safetensors")
  more = ("--metadata", "m.json", "--sign", "file:signer.key")
  answer = run("encrypt", path, "sealed", *TO, *more, "--json")
  assert answer.json["signed"] and answer.json["leaves"] == 3
  assert checkpoint.read_metadata("sealed", owner.key) == {
    "lr": 0.1,
    "by": "us",
  }
  signed = ("--verify-key", "@signer.key.pub")
  assert run("decrypt", "sealed", "out.msgpack", *KEY, *signed).code == 0
  assert run("decrypt", "sealed", "new/out.safetensors", *KEY).code == 0
  run("encrypt", path, "unsigned", *TO)
  answer = run("decrypt", "unsigned", "out2.msgpack", *KEY, *signed)
  assert answer.code == 1 and "is not signed" in answer.err
  assert not (folder / "out2.msgpack").exists()


def test_nothing_is_overwritten(run, owner, folder):
  path = write_plain("safetensors")
  assert run("encrypt", path, "model", *TO).code == 4
  (folder / "there.safetensors").write_text("another's")
  assert run("decrypt", "model", "there.safetensors", *KEY).code == 4
  assert (folder / "there.safetensors").read_text() == "another's"


def test_inputs_that_cannot_be_read(run, owner, folder):
  argv = ("out", *TO)
  assert run("encrypt", "absent.safetensors", *argv).code == 4
  (folder / "model.bin").write_text("x")
  answer = run("encrypt", "model.bin", *argv)
  assert answer.code == 2 and "ends in .safetensors or .msgpack" in answer.err
  for name in ("cut.safetensors", "cut.msgpack"):
    (folder / name).write_bytes(b"\x93\x01\x02")
    answer = run("encrypt", name, *argv)
    assert answer.code == 1, answer
  (folder / "empty").mkdir()
  for name in ("empty", "model"):
    answer = run("encrypt", name, *argv)
    assert answer.code == 1 and "holds no tree in the clear" in answer.err
  (folder / "list.json").write_text("[1]")
  path = write_plain("msgpack")
  assert run("encrypt", path, *argv, "--metadata", "list.json").code == 1
  assert run("encrypt", path, *argv, "--metadata", "absent").code == 4
  for step in ("-1", "ten", "1" * 5000):
    answer = run("encrypt", path, *argv, "--step", step)
    assert answer.code == 2 and step not in answer.err
  assert "argument --step: not a whole number, 0 or more" in answer.err
  assert run("encrypt", path, *argv, "--sign", "file:owner.key").code == 2
  assert run("encrypt", path, "signer.key/out", *TO).code == 4
  assert not (folder / "out").exists()


def test_checkpoints_that_cannot_be_opened(run, owner, folder):
  run("keygen", "x25519", "other.key", "--plain")
  answer = run("decrypt", "model", "out.msgpack", "-i", "file:other.key")
  assert answer.code == 3
  assert run("decrypt", "absent", "out.msgpack", *KEY).code == 4
  assert run("decrypt", "model", "signer.key/out.msgpack", *KEY).code == 4
  assert not (folder / "out.msgpack").exists()


def test_damage_is_reported_and_nothing_is_written(run, owner, folder):
  path = write_plain("safetensors")
  assert run("encrypt", path, "sealed", *TO).code == 0
  sealed = damage.message(folder / "sealed", owner.key, "dense.kernel")
  damage.flip(folder / "sealed", sealed, len(sealed) // 2)
  answer = run("decrypt", "sealed", "out.safetensors", *KEY)
  assert answer.code == 1 and "leaf dense.kernel" in answer.err
  assert not (folder / "out.safetensors").exists()


def test_colliding_names_are_refused(run, owner, folder):
  twice = {"a": {"b": jnp.ones(2)}, "a.b": jnp.ones(2)}
  checkpoint.save("twice", twice, owner.key.public)
  answer = run("decrypt", "twice", "out.safetensors", *KEY)
  assert answer.code == 1 and "one name with dots" in answer.err
  complex_ = {"a": jnp.ones(2, jnp.complex64)}
  checkpoint.save("complex", complex_, owner.key.public)
  answer = run("decrypt", "complex", "complex.safetensors", *KEY)
  assert answer.code in (0, 1)
  leftovers = [p.name for p in folder.iterdir() if p.name.startswith(".")]
  assert not leftovers


def test_shards_and_metadata(run, owner):
  safetensors.save_file(
    {x: np.zeros(4, np.int8) for x in "ab"}, "in.safetensors"
  )
  assert run("encrypt", "in.safetensors", "sealed", *TO).code == 0
  with open("metadata.json", "w") as file:
    json.dump({"format": "pt"}, file)
  options = ("--max-shard-size", "4B", "--metadata", "metadata.json")
  assert run("decrypt", "sealed", "out", *KEY, *options).code == 0
  assert sorted(os.listdir("out")) == [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
  ]
  with safe_open("out/model-00002-of-00002.safetensors", "np") as opened:
    assert opened.metadata() == {"format": "pt"} and [*opened.keys()] == ["b"]
  one = ("decrypt", "sealed", "one.safetensors", *KEY, *options[2:])
  assert run(*one).code == 0
  with safe_open("one.safetensors", "np") as opened:
    assert opened.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
  ("target", "options", "message"),
  [
    ("o", ("--max-shard-size", "5 G B"), "not a size such as 5GB or 512MiB"),
    ("o", ("--max-shard-size", "0"), "not a size such as 5GB or 512MiB"),
    ("o", ("--max-shard-size", "-1GB"), "not a size|expected one argument"),
    (
      "o.safetensors",
      ("--max-shard-size", "1GB"),
      "names one file: .* a folder",
    ),
    (
      "o",
      ("--max-shard-size", "1GB", "--format", "orbax"),
      "--max-shard-size is for safetensors, not for orbax",
    ),
    (
      "o.msgpack",
      ("--metadata", "numbers.json"),
      "--metadata is for safetensors, not for msgpack",
    ),
    (
      "o.safetensors",
      ("--metadata", "numbers.json"),
      'metadata of safetensors is text by name, such as {"format": "pt"}',
    ),
  ],
)
def test_options_that_do_not_fit_are_named(
  run, owner, target, options, message
):
  assert run("encrypt", write_plain("safetensors"), "sealed", *TO).code == 0
  pathlib.Path("numbers.json").write_text('{"a": 1}')
  answer = run("decrypt", "sealed", target, *KEY, *options)
  # A file with something else in it is refused; the others are misused.
  assert answer.code == (1 if "is text by name" in message else 2)
  assert re.search(message, answer.err)
  assert len(answer.err.splitlines()) == 1 and not os.path.exists(target)


@pytest.mark.parametrize(
  "argv",
  [
    ("encrypt", "", "c", *TO),
    ("encrypt", "in", "", *TO),
    ("encrypt", "in", "c", *TO, "--metadata", ""),
    ("decrypt", "", "out", *KEY),
    ("inspect", ""),
    ("sign", "", "--key", "file:owner.key"),
    ("data", "seal", "", "c", *TO),
  ],
)
def test_an_empty_path_is_not_the_current_folder(run, owner, argv):
  write_plain("orbax")
  answer = run(*argv)
  assert answer.code == 2 and "an empty path: name a file" in answer.err
