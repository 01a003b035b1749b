"""Readers of weight files: what they read, and what they refuse."""

import io
import json
import pathlib
import pickle
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from experiments.models import readers
from experiments.models.readers import base
from tests.experiments.models import pt_files

RNG = np.random.default_rng(0)
A = RNG.normal(size=(2, 3)).astype(np.float32)
B = RNG.normal(size=(4,)).astype(np.float16)


def assert_same(found: Any, **wanted: np.ndarray) -> None:
  assert set(found) == set(wanted)
  for name, array in wanted.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


def refused(path: pathlib.Path, message: str) -> None:
  with pytest.raises(ValueError, match=message) as caught:
    readers.read(path)
  assert "\n" not in str(caught.value).strip()


# --------------------------------------------------------------------- shards


def shards(folder: pathlib.Path, **places: str) -> pathlib.Path:
  """Write a and b in files of their own, and an index with places."""
  safetensors.numpy.save_file({"a": A}, folder / "one.safetensors")
  safetensors.numpy.save_file({"b": B}, folder / "two.safetensors")
  index = folder / "model.safetensors.index.json"
  known = {"a": "one.safetensors", "b": "two.safetensors"}
  index.write_text(json.dumps({"weight_map": known | places}))
  return index


def test_an_index_and_its_folder_give_all_shards(tmp_path) -> None:
  assert_same(readers.read(shards(tmp_path)), a=A, b=B)
  assert_same(readers.read(tmp_path), a=A, b=B)


def test_a_folder_with_one_file(tmp_path) -> None:
  refused(tmp_path, r"no file \*.safetensors.index.json or \*.safetensors")
  np.savez(tmp_path / "other.npz", a=A)
  safetensors.numpy.save_file({"a": A}, tmp_path / "model.safetensors")
  assert_same(readers.read(tmp_path), a=A)
  safetensors.numpy.save_file({"b": B}, tmp_path / "again.safetensors")
  refused(tmp_path, "several files of weights: again.saf.*, model.saf")


def test_a_missing_shard_is_named(tmp_path) -> None:
  index = shards(tmp_path)
  (tmp_path / "two.safetensors").unlink()
  refused(index, "^model.safetensors.index.json names two.*, which is missing$")


def test_a_shard_and_its_index_agree(tmp_path) -> None:
  refused(
    shards(tmp_path, c="one.safetensors"), "^one.saf.* lacks c, which model"
  )
  refused(
    shards(tmp_path, a="two.safetensors", c="one.safetensors"),
    "^one.safetensors has a, which is not in model",
  )


def test_an_index_stays_in_its_folder(tmp_path) -> None:
  for place in ("../one.safetensors", 7):
    refused(shards(tmp_path, a=place), "puts a in .*: no file name")


@pytest.mark.parametrize(
  "text", ["{", "[]", '{"weight_map": 1}', "[" * 100_000]
)
def test_a_damaged_index(tmp_path, text: str) -> None:
  index = shards(tmp_path)
  index.write_text(text)
  refused(index, "model.safetensors.index.json is no index of safetensors")


def test_a_damaged_file(tmp_path) -> None:
  for name in ("a.safetensors", "a.onnx", "a.pt"):
    (tmp_path / name).write_bytes(b"\xff" * 40)
    if name == "a.onnx":
      pytest.importorskip("onnx", reason="pip install 'keyjax[pretrained]'")
    refused(tmp_path / name, f"^{name} is (damaged|not read): ")


def test_a_damaged_archive_of_arrays(tmp_path) -> None:
  made = io.BytesIO()
  np.savez(made, a=A)
  whole, file = made.getvalue(), tmp_path / "a.npz"
  changed = whole.replace(A.tobytes(), (A + 1).tobytes())
  with zipfile.ZipFile(tmp_path / "text.zip", "w") as other:
    other.writestr("text", "text")
  np.save(tmp_path / "one.npy", A)
  others = [(tmp_path / x).read_bytes() for x in ("text.zip", "one.npy")]
  for damaged in (b"", b"?", whole[:99], changed, *others):
    file.write_bytes(damaged)
    refused(file, "^a.npz is not read: .")


def test_a_kind_that_safetensors_does_not_read_is_named(tmp_path) -> None:
  entry = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
  header = json.dumps({"a": entry}).encode()
  file = tmp_path / "a.safetensors"
  file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
  refused(file, "^a.safetensors has a tensor of a kind .*float8_e4m3fn")


def test_other_suffixes_and_absent_files(tmp_path) -> None:
  refused(tmp_path / "a.h5", r"a.h5: weights are read from a folder, \.gguf,")
  for suffix in (".npz", ".safetensors", ".onnx", ".pt"):
    if suffix == ".onnx":
      pytest.importorskip("onnx", reason="pip install 'keyjax[pretrained]'")
    with pytest.raises(FileNotFoundError):
      readers.read(tmp_path / f"none{suffix}")


def test_an_absent_library_says_what_to_type() -> None:
  with pytest.raises(ValueError, match=r"pip install 'keyjax\[pretrained\]'"):
    base.library("no_such_library")


# ----------------------------------------------------------------------- ONNX


@pytest.fixture
def onnx() -> Any:
  return pytest.importorskip(
    "onnx", reason="needs onnx: pip install 'keyjax[pretrained]'"
  )


def graph(onnx: Any, *tensors: Any, nodes: Any = ()) -> Any:
  made = onnx.helper.make_graph(nodes, "g", [], [], initializer=tensors)
  return onnx.helper.make_model(made)


def test_initialisers_and_constants(onnx, tmp_path) -> None:
  numpy_helper = onnx.numpy_helper
  shape = np.array([2, 3], np.int64)
  node = onnx.helper.make_node(
    "Constant", [], ["b"], value=numpy_helper.from_array(B, "inner")
  )
  model = graph(
    onnx,
    numpy_helper.from_array(A, "a"),
    numpy_helper.from_array(shape, "shape"),
    nodes=[node],
  )
  onnx.save(model, tmp_path / "a.onnx")
  assert_same(readers.read(tmp_path / "a.onnx"), a=A, b=B, shape=shape)


def test_external_data(onnx, tmp_path) -> None:
  model = graph(onnx, onnx.numpy_helper.from_array(A, "a"))
  onnx.save(
    model,
    tmp_path / "a.onnx",
    save_as_external_data=True,
    location="a.data",
    size_threshold=0,
  )
  assert (tmp_path / "a.data").is_file()
  assert_same(readers.read(tmp_path / "a.onnx"), a=A)
  (tmp_path / "a.data").unlink()
  refused(tmp_path / "a.onnx", "^a.onnx: a cannot be read: ")


def test_quantised_and_sparse_tensors_are_named(onnx, tmp_path) -> None:
  tensor = onnx.numpy_helper.from_array(np.zeros(3, np.int8), "w")
  onnx.save(graph(onnx, tensor), tmp_path / "a.onnx")
  refused(tmp_path / "a.onnx", "^a.onnx: w is INT8, which is not read: only FL")
  model = graph(onnx)
  sparse = model.graph.sparse_initializer.add()
  sparse.values.CopyFrom(onnx.numpy_helper.from_array(A, "s"))
  onnx.save(model, tmp_path / "a.onnx")
  refused(tmp_path / "a.onnx", "a.onnx: s is sparse")
  node = onnx.helper.make_node(
    "Constant", [], [], value=onnx.numpy_helper.from_array(A, "inner")
  )
  onnx.save(graph(onnx, nodes=[node]), tmp_path / "a.onnx")
  assert readers.read(tmp_path / "a.onnx") == {}  # Nobody reads that node.
  twice = [onnx.numpy_helper.from_array(A, "a")] * 2
  onnx.save(graph(onnx, *twice), tmp_path / "a.onnx")
  refused(tmp_path / "a.onnx", "two tensors a")


# -------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("write", [pt_files.older, pt_files.archive])
def test_tensors_of_pytorch(write, tmp_path) -> None:
  turned = np.asfortranarray(A)  # Strides that are not those of C.
  (tmp_path / "a.pt").write_bytes(write({"a": A, "b": B, "turned": turned}))
  assert_same(readers.read(tmp_path / "a.pt"), a=A, b=B, turned=A)


def test_a_pickle_calls_nothing(tmp_path) -> None:
  class Harm:
    def __reduce__(self):
      return (print, ("called",))

  for value in ({"a": Harm()}, Harm()):
    made = b"".join(
      pickle.dumps(x, 2)
      for x in (pt_files.MAGIC, 1001, {"little_endian": True}, value)
    )
    (tmp_path / "a.pt").write_bytes(made)
    refused(tmp_path / "a.pt", r"it needs .*builtin.*print, which is not read")


def named(module: str, name: str) -> bytes:
  """Return the opcode that puts what a name stands for on the stack."""
  return f"c{module}\n{name}\n".encode()


def pickled(value: Any) -> bytes:
  """Return the opcodes of a value, without start and end."""
  return pickle.dumps(value, 2)[2:-1]


@pytest.mark.parametrize(
  "name", [("torch", "BFloat16Storage"), ("torch._utils", "_rebuild_tensor_v2")]
)
def test_a_pickle_changes_nothing(name, tmp_path) -> None:
  # As a state, this once made bfloat16 a type of 8 bytes, for all of JAX.
  wide = (3, ">", None, None, None, 8, 8, 0)
  for state in (wide, {"x": 1}, (None, {"__defaults__": (1,)})):
    code = b"\x80\x02" + named(*name) + pickled(state) + b"b0}."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as made:
      made.writestr("net/data.pkl", code)
    refused(tmp_path / "a.pt", "^a.pt is not read: ")
  assert np.dtype(ml_dtypes.bfloat16).itemsize == 2


def test_a_small_file_takes_no_large_memory(tmp_path) -> None:
  file = tmp_path / "a.pt"
  # 32 GB: a list up to the number of the value.
  file.write_bytes(b"\x80\x02}r" + (1 << 31).to_bytes(4, "little") + b".")
  refused(file, "^a.pt is not read: it stores value 2147483648")
  with (
    zipfile.ZipFile(io.BytesIO(pt_files.archive({"a": A}))) as whole,
    zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made,
  ):
    for name in whole.namelist():
      made.writestr(name, whole.read(name))
  refused(file, "^a.pt is not read: net/data.pkl in it is compressed")


@pytest.mark.parametrize("write", [pt_files.older, pt_files.archive])
def test_a_tensor_without_numbers(write, tmp_path) -> None:
  for shape in ((0,), (3, 0), (2, 0, 3)):
    empty = np.zeros(shape, np.float32)
    (tmp_path / "a.pt").write_bytes(write({"a": empty}))
    assert_same(readers.read(tmp_path / "a.pt"), a=empty)


def test_a_view_outside_its_storage(tmp_path) -> None:
  (tmp_path / "a.pt").write_bytes(pt_files.older({"a": A}, shift=1))
  refused(tmp_path / "a.pt", r"a tensor \[2, 3\] is outside its storage")
  whole = pt_files.older({"a": A})
  (tmp_path / "a.pt").write_bytes(whole[:-4])
  refused(tmp_path / "a.pt", "outside its storage")


def test_a_repeated_number_is_no_tensor(tmp_path) -> None:
  wide = np.broadcast_to(np.float32(1), (1000,))
  with pytest.raises(ValueError, match="outside its storage"):
    _view_of(wide, tmp_path)


def _view_of(array: np.ndarray, folder: pathlib.Path) -> Any:
  data = pt_files.older({"a": array})
  # The storage of the view has one number.
  cut = len(data) - 4 * array.size - 8
  one = (1).to_bytes(8, "little") + np.float32(1).tobytes()
  (folder / "a.pt").write_bytes(data[:cut] + one)
  return readers.read(folder / "a.pt")


def test_what_is_no_dictionary_of_tensors(tmp_path) -> None:
  for value, message in (
    (3, "not a dictionary"),
    ({"a": 3}, "a is not a te"),
    ([["\n"]], "not a dictionary"),
  ):
    made = b"".join(
      pickle.dumps(x, 2)
      for x in (pt_files.MAGIC, 1001, {"little_endian": True}, value)
    )
    (tmp_path / "a.pt").write_bytes(made)
    refused(tmp_path / "a.pt", message)
  (tmp_path / "a.pt").write_bytes(pt_files.archive({"a": A}, order="big"))
  refused(tmp_path / "a.pt", "big-endian")
