"""GGUF files."""

import pathlib
import struct
import sys

import numpy as np
import pytest

from experiments.models.readers import gguf as reader
from tests.experiments.models import gguf_files

gguf = pytest.importorskip(
  "gguf", reason="needs gguf: pip install 'keyjax[pretrained]'"
)
X = np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32)
# Kind -> largest error, as a share of the range of a block of 32.
QUANTISED = {
  "BF16": 0.005,
  "Q8_0": 0.005,
  "Q5_0": 0.04,
  "Q5_1": 0.02,
  "Q4_0": 0.08,
  "Q4_1": 0.04,
}


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_quantised_tensor_is_close_to_the_original(
  kind: str, tmp_path: pathlib.Path
) -> None:
  packed = gguf.quants.quantize(X, gguf.GGMLQuantizationType[kind])
  file = gguf_files.write(
    tmp_path / "a.gguf", {"w": packed}, {}, kinds={"w": kind}
  )
  found = reader.read(file)["w"]
  assert found.shape == X.shape and found.dtype == np.float32
  blocks = X.reshape(3, -1, 32)
  error = np.abs(found - X).reshape(blocks.shape).max(-1)
  allowed = QUANTISED[kind] * np.ptp(blocks, axis=-1)
  assert (error <= allowed).all() and error.max() > 0


def test_floats_are_kept_bit_for_bit(tmp_path: pathlib.Path) -> None:
  tensors = {"full": X, "half": X.astype(np.float16)}
  file = gguf_files.write(tmp_path / "a.gguf", tensors, {"a.b": 3})
  found = reader.read(file)
  for name, want in tensors.items():
    assert found[name].dtype == np.float32
    np.testing.assert_array_equal(found[name], want)


def test_blocks_of_256_are_read(tmp_path: pathlib.Path) -> None:
  # All quants zero: 6 bits mean -32, 4 bits 0, less the minimum of a block.
  six, four = np.zeros((2, 210), np.uint8), np.zeros((2, 144), np.uint8)
  one = np.frombuffer(np.float16(1.5).tobytes(), np.uint8)
  six[:, 192:208], six[:, 208:] = 2, one  # Scales of 16 values; of all.
  four[:, 2:4], four[:, 8:12] = one, 3  # Of the minima; of the first four.
  file = gguf_files.write(
    tmp_path / "a.gguf",
    {"six": six, "four": four},
    {},
    kinds={"six": "Q6_K", "four": "Q4_K"},
  )
  found = reader.read(file)
  np.testing.assert_array_equal(found["six"], np.full((2, 256), -96.0))
  want = np.repeat([-4.5, 0.0], 128)[None].repeat(2, 0)
  np.testing.assert_array_equal(found["four"], want)


def test_metadata_are_numbers_text_and_lists(tmp_path: pathlib.Path) -> None:
  given = {"a.n": 3, "a.f": 0.5, "a.t": "text", "a.l": ["ab", "c"], "a.b": True}
  file = gguf_files.write(tmp_path / "a.gguf", {"w": X}, given)
  found = reader.metadata(file)
  assert found == given | {"general.architecture": "llama"}


def test_what_is_no_whole_file_is_refused(tmp_path: pathlib.Path) -> None:
  file = gguf_files.write_model(tmp_path / "a.gguf")
  whole = file.read_bytes()
  cases = {
    "no": (b"", "cut.gguf: no GGUF file"),
    "other": (b"PK\x03\x04" + whole[4:], "cut.gguf: no GGUF file"),
    "tensor": (
      whole[:-40],
      "cut.gguf: tensor blk.1.ffn_down.weight is truncated",
    ),
    **{
      f"header {n}": (whole[:n], "cut.gguf: the header is truncated")
      for n in (4, 9, 24, 60, 300, 1000, 4000)
    },
  }
  for content, message in cases.values():
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(content)
    with pytest.raises(ValueError, match=message) as found:
      reader.read(cut)
    assert "\n" not in str(found.value)
  with pytest.raises(FileNotFoundError):
    reader.read(tmp_path / "none.gguf")


def test_a_list_ends_with_its_file(tmp_path: pathlib.Path) -> None:
  file = gguf_files.write(tmp_path / "a.gguf", {"w": X}, {"a.l": [1, 2]})
  whole = file.read_bytes()
  at = whole.index(b"a.l") + 3 + 4 + 4
  # The package would read numbers of no bytes for as long as they are counted.
  endless = whole[:at] + (1 << 62).to_bytes(8, "little") + whole[at + 8 :]
  inner = struct.pack("<IQ", 9, 1)  # A list of one list.
  start = struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 9)
  for content in (endless, start + inner * 3000):
    file.write_bytes(content)
    with pytest.raises(ValueError, match="a.gguf: the header is truncated"):
      reader.read(file)


def test_text_that_is_none_names_the_file(tmp_path: pathlib.Path) -> None:
  file = gguf_files.write(tmp_path / "a.gguf", {"w": X}, {"a.t": "text"})
  file.write_bytes(file.read_bytes().replace(b"text", b"t\xffxt"))
  for read in (reader.contents, reader.metadata):
    with pytest.raises(ValueError, match="a.gguf: a.t is damaged: 'utf-8'"):
      read(file)


def test_a_kind_that_is_not_read_is_named(tmp_path: pathlib.Path) -> None:
  file = gguf_files.write(
    tmp_path / "a.gguf", {"w": X, "ids": np.arange(4, dtype=np.int32)}, {}
  )
  with pytest.raises(ValueError, match="a.gguf: tensor ids is of kind I32, w"):
    reader.read(file)
  # The number of a kind of some later version.
  content = file.read_bytes()
  at = content.index(b"ids") + 3 + 4 + 8
  changed = content[:at] + (999).to_bytes(4, "little") + content[at + 4 :]
  file.write_bytes(changed)
  with pytest.raises(ValueError, match="tensor ids is of kind 999, which is n"):
    reader.read(file)


def test_without_the_package_the_message_says_what_to_type(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  file = gguf_files.write(tmp_path / "a.gguf", {"w": X}, {})
  monkeypatch.setitem(sys.modules, "gguf.quants", None)
  with pytest.raises(ValueError, match=r"install 'keyjax\[pretrained\]'"):
    reader.read(file)
