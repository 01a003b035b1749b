"""What transformed images give away: rows and a picture."""

import json
import pathlib

import jax
import pytest

from experiments.attacking import jigsaw


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  out = tmp_path_factory.mktemp("jigsaw")
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    jigsaw.run("digits", "", str(out), counts=(1, 400))
  return out


def test_digits_at_small_blocks_are_restored(folder: pathlib.Path) -> None:
  rows = json.loads((folder / "digits.json").read_text())
  # SHF with two templates at two block sizes, NP, FFX; two numbers each.
  assert len(rows) == 2 * (2 + 1 + 1 + 2)
  assert {r["images"] for r in rows} == {1, 400}
  found = {
    (r["scheme"], r["block_size"], r["template"]): r
    for r in rows
    if r["images"] == 400
  }
  known = found["shf", 2, "images"]
  assert known["value"] == 1 and known["psnr"] == 99, "every pixel is back"
  assert found["np", 4, "none"]["pixels"] is None
  for row in rows:
    assert 0 <= row["value"] <= 1 and row["metric"] == "key_share"
    assert row["command"] and row["dataset"] == "digits"


def test_the_picture_is_drawn(folder: pathlib.Path) -> None:
  assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
