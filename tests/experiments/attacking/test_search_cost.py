"""The price of trying every key: bits and years, at a measured rate."""

import json
import math
import pathlib
import types

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from experiments import attack as command
from experiments.attacking import search_cost
from experiments.run import config as configs
from keyjax import keys


@pytest.fixture
def config() -> ConfigDict:
  """Return a config of two schemes with a key, one without, and no attacks."""
  made = configs.base()
  made.name = "tiny"
  made.model = "mlp"
  made.model_args.hidden = (16,)
  made.train.epochs = 0.1
  made.train.batch_size = 64
  configs.set_schemes(
    made,
    none=configs.scheme("identity", "no lock"),
    np=configs.scheme("np", "NP, M=2", block_size=2),
    counter=configs.scheme("deep_lock", "counter", schedule="counter"),
  )
  return made


def test_a_config_without_attacks_prices_every_key(
  config: ConfigDict, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    rows = command.run(config, str(tmp_path / "run"))
  assert "Trying every key" in capsys.readouterr().out
  assert {r["scheme"]: r["key_bits"] for r in rows} == {"np": 2, "counter": 128}
  for row in rows:
    assert row["metric"] == "log10_years" and row["command"]
    rate, bits = row["keys_a_second"], row["key_bits"]
    assert rate > 0
    years = bits - 1 - math.log2(rate * 365.25 * 86400)
    assert row["value"] == pytest.approx(years * math.log10(2))
  assert rows[1]["value"] > 20 > 0 > rows[0]["value"]
  lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
  assert [json.loads(line) for line in lines] == rows
  page = (tmp_path / "run" / "attacks.html").read_text()
  assert "What trying every key would cost" in page
  assert "<td>128.0</td>" in page and "Schemes against attacks" not in page


@keys.key_dataclass
class Uncounted(keys.Key):
  """A key of a scheme of one's own, without `entropy_bits`, which is optional.

  Attributes:
    word: A number.
  """

  word: jax.Array


def test_a_key_that_does_not_count_its_space_is_a_note(
  config: ConfigDict,
) -> None:
  configs.set_attacks(config, price=configs.attack("search_cost"))
  target = types.SimpleNamespace(key=Uncounted(word=jnp.zeros(1)))
  targets = types.SimpleNamespace(get=lambda scheme: target)
  row = search_cost.SearchCost(config, targets)("np", "price")
  assert row["value"] is None and row["note"] == "no key space for a Uncounted"
