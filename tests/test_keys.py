"""Keys of schemes: their files, and what is never shown."""

import copy
import dataclasses
import hashlib
import importlib
import os
import pathlib
import pickle
import stat
import subprocess
import sys
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret, keys, private_files
from tests import trees


def scheme_keys() -> dict[str, object]:
  plain = trees.params("float32")
  batch = {"image": jnp.zeros((1, 8, 8, 1))}
  made = {
    "chain": keyjax.deep_lock(),
    "counter": keyjax.deep_lock("counter", 256),
    "adv": keyjax.adv_params(trees.loss, max_steps=2, loss_threshold=1e9),
    "shf": keyjax.pixel_shuffle("shf"),
    "np": keyjax.pixel_shuffle("np"),
    "ffx": keyjax.pixel_shuffle("ffx"),
    "all": keyjax.chain(
      keyjax.pixel_shuffle(), keyjax.identity(), keyjax.deep_lock()
    ),
  }
  secret = Secret.generate()
  return {n: s.keygen(secret, plain, batch) for n, s in made.items()}


def test_a_leftover_of_a_killed_process_does_not_block(
  tmp_path: pathlib.Path,
) -> None:
  """Its process ID may be ours, as often happens in containers."""
  left = (f"secret.{os.getpid()}.part", ".secret.0011223344556677.part")
  for name in left:
    (tmp_path / name).touch()
  Secret.generate().save(tmp_path / "secret")
  Secret.load(tmp_path / "secret")


def test_key_files_hold_every_kind_of_key(tmp_path: pathlib.Path) -> None:
  for name, key in scheme_keys().items():
    keys.save(tmp_path / name, key)
    loaded = keys.load(tmp_path / name)
    if isinstance(key, keys.OneTimeKey):
      assert loaded.opens_only
      loaded = loaded.replace(opens_only=False)
    trees.assert_same_bits(loaded, key)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_new_process_may_load_a_key_before_it_makes_a_scheme(
  tmp_path: pathlib.Path,
) -> None:
  batch = {"image": np.zeros((1, 4, 4, 1), np.float32)}
  scheme = keyjax.pixel_shuffle("shf", 2)
  keys.save(tmp_path / "key", scheme.keygen(Secret.generate(), None, batch))
  code = "import keyjax, sys; print(keyjax.keys.load(sys.argv[1]))"
  command = [sys.executable, "-c", code, str(tmp_path / "key")]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.stdout.startswith("<ShfKey, 16 bytes"), done.stderr[-300:]


def row_key(module: str, name: str = "RowKey") -> type:
  """Define a key class as a module of that name would."""
  body = {"__module__": module, "__annotations__": {"order": jax.Array}}
  return keys.key_dataclass(type(name, (keys.Key,), body))


def test_key_classes_of_one_name_are_told_apart(tmp_path: pathlib.Path) -> None:
  order = jnp.arange(3)
  for module in ("first", "second"):
    kind = row_key(module)
    keys.save(tmp_path / module, kind(order=order))
    assert keys.type_name(kind) == f"{module}.RowKey"
  for module in ("first", "second"):
    assert type(keys.load(tmp_path / module)).__module__ == module


def test_a_second_key_class_of_one_full_name_is_refused() -> None:
  first = row_key("third")
  with pytest.raises(ValueError, match="third.RowKey is registered already"):
    row_key("third")
  assert first(order=jnp.arange(3)).order.size == 3


def test_a_notebook_may_define_a_key_class_again(
  tmp_path: pathlib.Path,
) -> None:
  row_key("__main__")
  again = row_key("__main__")
  keys.save(tmp_path / "key", again(order=jnp.arange(3)))
  assert isinstance(keys.load(tmp_path / "key"), again)


AGAIN = """
import jax
from keyjax import keys

@keys.key_dataclass
class RowKey(keys.Key):
  order: jax.Array
"""


def test_a_file_may_be_imported_again(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.syspath_prepend(tmp_path)
  file = tmp_path / "edited_rows.py"
  file.write_text(AGAIN + "undefined_name\n")
  with pytest.raises(NameError):
    importlib.import_module("edited_rows")
  file.write_text(AGAIN + "# The error is fixed.\n")
  module = importlib.import_module("edited_rows")
  module = importlib.reload(module)
  keys.save(tmp_path / "key", module.RowKey(order=jnp.arange(3)))
  assert type(keys.load(tmp_path / "key")) is module.RowKey
  file.write_text(AGAIN + AGAIN)
  with pytest.raises(ValueError, match="edited_rows.RowKey is registered"):
    importlib.reload(module)


def test_another_file_of_one_module_name_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  for folder in ("a", "b"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "same_rows.py").write_text(AGAIN)
  with monkeypatch.context() as patch:
    patch.syspath_prepend(tmp_path / "a")
    importlib.import_module("same_rows")
  del sys.modules["same_rows"]
  monkeypatch.syspath_prepend(tmp_path / "b")
  with pytest.raises(ValueError, match="same_rows.RowKey is registered"):
    importlib.import_module("same_rows")


def test_a_scheme_that_fails_to_load_is_not_blamed_on_the_file(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  save_as(tmp_path / "key", scheme_keys()["chain"], "rows.RowKey")

  def load() -> None:
    raise ValueError("a scheme 'deep_lock' is registered already")

  monkeypatch.setattr(keyjax.schemes, "load", load)
  with pytest.raises(ValueError, match="'deep_lock' is registered already"):
    keys.load(tmp_path / "key")


def save_as(path: pathlib.Path, key: Any, name: str) -> None:
  """Save a key under another class name."""
  keys.save(path, key)
  file = flax.serialization.msgpack_restore(path.read_bytes())
  packed = flax.serialization.msgpack_restore(file["key"])
  file["key"] = flax.serialization.msgpack_serialize(packed | {"type": name})
  file["sha256"] = hashlib.sha256(file["key"]).digest()
  path.unlink()
  data = flax.serialization.msgpack_serialize(file)
  private_files.create(path, data)


def test_early_key_files_have_the_name_of_the_class_alone(
  tmp_path: pathlib.Path,
) -> None:
  own = row_key("fourth", "EarlyKey")
  save_as(tmp_path / "own", own(order=jnp.arange(3)), "EarlyKey")
  assert isinstance(keys.load(tmp_path / "own"), own)
  row_key("fifth", "EarlyKey")
  with pytest.raises(ValueError, match="fourth.EarlyKey and fifth.EarlyKey"):
    keys.load(tmp_path / "own")
  # KeyJAX's own classes go first: files of a release stay readable.
  chain = scheme_keys()["chain"]
  save_as(tmp_path / "chain", chain, "ChainKey")
  row_key("sixth", "ChainKey")
  trees.assert_same_bits(keys.load(tmp_path / "chain"), chain)


def test_a_key_class_that_is_not_loaded_is_named(
  tmp_path: pathlib.Path,
) -> None:
  save_as(tmp_path / "key", scheme_keys()["chain"], "rows.RowKey")
  with pytest.raises(ValueError, match="'rows.RowKey', which is not loaded"):
    keys.load(tmp_path / "key")


def test_damaged_key_files(tmp_path: pathlib.Path) -> None:
  key = scheme_keys()["chain"]
  keys.save(tmp_path / "key", key)
  data = (tmp_path / "key").read_bytes()
  for i, broken in enumerate((b"", data[:-5], b"junk" + data, b"\x80")):
    private_files.create(tmp_path / f"broken{i}", broken)
    with pytest.raises(ValueError, match="does not hold a key"):
      keys.load(tmp_path / f"broken{i}")


def test_a_flipped_bit_in_a_key_file_is_noticed(
  tmp_path: pathlib.Path,
) -> None:
  keys.save(tmp_path / "key", scheme_keys()["chain"])
  data = bytearray((tmp_path / "key").read_bytes())
  for at in range(0, len(data), 7):
    broken = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
    path = tmp_path / f"flip{at}"
    private_files.create(path, broken)
    try:
      loaded = keys.load(path)
    except ValueError as error:
      assert "does not hold a key" in str(error)
    else:  # The version field alone is not read.
      trees.assert_same_bits(loaded, keys.load(tmp_path / "key"))


def test_keys_show_only_their_size() -> None:
  for key in jax.tree.leaves(
    list(scheme_keys().values()), is_leaf=lambda x: isinstance(x, keys.Key)
  ):
    size = sum(x.nbytes for x in jax.tree.leaves(key))
    assert repr(key).endswith(f"{size} bytes, not shown>")


def test_keys_are_copied_and_not_pickled() -> None:
  for name, key in scheme_keys().items():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
      with pytest.raises(TypeError, match="is not pickled: write it to a file"):
        pickle.dumps({name: [key]}, protocol)
    assert jax.tree.structure(copy.deepcopy([key])) == jax.tree.structure([key])
    trees.assert_same_bits(copy.copy(key), key)


def test_no_error_of_a_damaged_file_contains_a_key(
  tmp_path: pathlib.Path,
) -> None:
  key = scheme_keys()["chain"]
  keys.save(tmp_path / "key", key)
  data = (tmp_path / "key").read_bytes()
  secret = Secret.generate()
  text = secret._bytes.hex().encode()
  for load, broken in (
    (keys.load, data + b"more"),
    (Secret.load, text[:-1] + b"\xff"),
    (Secret.load, text[:-1] + b"z"),
  ):
    (tmp_path / "broken").unlink(missing_ok=True)
    private_files.create(tmp_path / "broken", broken)
    with pytest.raises(ValueError) as error:
      load(tmp_path / "broken")
    assert error.value.__cause__ is None and error.value.__context__ is None


def test_a_traced_key_has_a_repr() -> None:
  seen = []
  key = scheme_keys()["chain"]
  jax.jit(lambda k: seen.append(repr(k)))(key)
  assert seen == ["<ChainKey, 0 bytes, not shown>"]


def test_key_dataclasses_are_frozen() -> None:
  with pytest.raises(dataclasses.FrozenInstanceError):
    scheme_keys()["chain"].master = jnp.zeros(4)  # type: ignore[attr-defined]
