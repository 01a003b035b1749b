"""The main job under differential privacy, from rows to report."""

import json
import pathlib
from typing import Any

import jax
import pytest

from experiments import main
from experiments.run.config import base, scheme, set_schemes
from keyjax.defenses.private.accountant import in_words

pytest.importorskip("jax_privacy", reason="needs pip install 'keyjax[privacy]'")


def config() -> Any:
  made = base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (16,)
  made.num_train = 128
  made.num_test = 40
  made.train.update(batch_size=32, epochs=1.0)
  made.train.dp.update(on=True, noise_multiplier=1.0, delta=1e-3)
  made.evaluate.update(batch_size=40, wrong_keys=2, distance_keys=0)
  set_schemes(made, hpnn=scheme("hpnn", "HPNN", units=16))
  return made


@pytest.mark.slow
def test_every_row_has_epsilon_and_what_it_assumes(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  folder = tmp_path / "run"
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    rows = main.run(config(), str(folder))
    again = main.run(config(), str(folder))
  fields = rows[0]["privacy"]
  assert fields["steps"] == 4 and fields["sampling"].endswith("at 48")
  assert all(row["privacy"] == fields for row in rows)
  spent = {r["scheme"]: r["value"] for r in rows if r["metric"] == "epsilon"}
  assert spent == dict.fromkeys(("plain", "hpnn"), fields["epsilon"])
  words = in_words(fields)
  assert " ".join(words.split()) in " ".join(capsys.readouterr().out.split())
  assert words in (folder / "report.html").read_text()
  # The loss of private examples is in no report.
  figures = json.loads((folder / "plain" / "outcome.json").read_text())
  assert figures["figures"]["curve"] == []
  assert [r["value"] for r in again] == [r["value"] for r in rows]
