"""What transformed images reveal by themselves: rows and a picture."""

import importlib.util
import pathlib
from typing import Any

import jax
import pytest

from experiments import attack as command
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return tmp_path_factory.mktemp("jigsaw") / "run"


@pytest.fixture(scope="module")
def rows(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Return the config's rows on the digits, of 1 and 400 images."""
  file = ROOT / "configs" / "attack_jigsaw.py"
  spec = importlib.util.spec_from_file_location("attack_jigsaw", file)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.dataset = "digits"
  with config.attacks.unlocked():
    for label in [*config.attacks]:
      if label.endswith(("_10", "_100")):
        del config.attacks[label]
  for label in ("model_1000", "own_1000"):
    config.attacks[label].attacker.ciphertexts = 400
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    return command.run(config, str(folder))


def test_digits_at_small_blocks_are_restored(
  rows: list[dict[str, Any]],
) -> None:
  # SHF with two templates at two block sizes, NP, FFX; two numbers each.
  assert len(rows) == 2 * (2 + 1 + 1 + 2)
  assert {r["attacker"]["ciphertexts"] for r in rows} == {1, 400}
  found = {(r["scheme"], r["attack"]): r for r in rows}
  known = found["shf_m2", "own_1000"]
  assert known["value"] == 1
  assert known["details"]["psnr"] == 99, "every pixel is restored"
  assert known["details"]["pixels"] == 1
  assert "pixels" not in found["np", "model_1000"]["details"]
  for row in rows:
    assert 0 <= row["value"] <= 1 and row["metric"] == "key"
    assert 0 < row["details"]["psnr"] <= 99
    assert row["command"] and row["dataset"] == "digits"


@pytest.mark.usefixtures("rows")
def test_the_picture_is_drawn(folder: pathlib.Path) -> None:
  picture = (folder / "restored.png").read_bytes()
  assert picture.startswith(b"\x89PNG")
