"""The price of trying every key: bits and years, at a rate that is measured."""

import json
import math
import pathlib

import jax
import pytest

from experiments.attacking import brute_force
from experiments.run import config as configs


def test_every_keyed_scheme_has_its_price(tmp_path: pathlib.Path) -> None:
  config = configs.base()
  config.name, config.model = "tiny", "mlp"
  config.model_args.hidden = (16,)
  config.train.epochs, config.train.batch_size = 0.1, 64
  configs.set_schemes(
    config,
    none=configs.scheme("identity", "no lock"),
    np=configs.scheme("np", "NP, M=2", block_size=2),
    counter=configs.scheme("deep_lock", "counter", schedule="counter"),
  )
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    rows = brute_force.run(config, str(tmp_path / "run"))
  assert {r["scheme"]: r["key_bits"] for r in rows} == {"np": 2, "counter": 128}
  for row in rows:
    rate, bits = row["keys_a_second"], row["key_bits"]
    assert rate > 0
    years = bits - 1 - math.log2(rate * 365.25 * 86400)
    assert row["value"] == pytest.approx(years * math.log10(2))
  assert rows[1]["value"] > 20 > 0 > rows[0]["value"]
  written = (tmp_path / "run" / "brute_force.json").read_text()
  assert json.loads(written) == rows
