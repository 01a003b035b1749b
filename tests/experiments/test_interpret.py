"""The interpret command: rows, honest gaps, resumption, the page."""

import json
import math
import pathlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import keyjax
from experiments import interpret as job
from experiments.interpretation import layers
from experiments.interpretation.layers import Sizes
from experiments.report.layered import Point, layered
from experiments.run import config as configs
from experiments.run.config import scheme, set_schemes
from tests import repeatable

SMALL = Sizes(
  images=300,
  wrong=3,
  probe_train=300,
  probe_test=300,
  probe_wrong=2,
  fraction=0.1,
  steps=30,
  maps=6,  # As many as the page shows.
)
# The accuracy of so small a network under a wrong key depends on the key.
SECRET = keyjax.Secret(bytes([7]) * 32)
Rows = list[dict[str, Any]]


def tiny() -> ConfigDict:
  config = configs.base()
  config.name = "tiny"
  config.model = "mlp"
  config.model_args.hidden = (32, 16)
  config.train.epochs = 6.0
  config.train.batch_size = 64
  config.train.learning_rate = 1e-2
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN"),
    float32=scheme("deep_lock", "Deep-Lock <float32>"),
  )
  return config


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, pathlib.Path]:
  folder = tmp_path_factory.mktemp("interpret") / "run"
  with (
    repeatable.secrets("interpret"),
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    return job.run(tiny(), str(folder), "", SECRET, SMALL), folder


def pick(rows: Rows, **fields: Any) -> Rows:
  return [r for r in rows if all(r[k] == v for k, v in fields.items())]


def test_every_figure_has_its_interval_or_says_why_there_is_none(done) -> None:
  rows, _ = done
  assert {r["metric"] for r in rows} == set(layers.measures(10))
  for row in rows:
    for field in ("command", "commit", "hardware", "date", "dataset", "title"):
      assert row[field], field
    if row["value"] is None:
      assert row["interval"] == "not finite" and row["scheme"] == "float32"
      assert row["condition"] in ("wrong", "no_key")
    else:
      assert row["low"] <= row["value"] <= row["high"] <= 1
      assert math.isfinite(row["low"])
  json.dumps(rows, allow_nan=False)


def test_the_key_of_hpnn_shows_from_the_second_layer(done) -> None:
  found = pick(done[0], scheme="hpnn", metric="cka", condition="wrong")
  where = {(r["layer"], r["side"]): r for r in found}
  assert list(where) == [
    (layer, side)
    for layer in ("dense_0", "dense_1", "head")
    for side in ("in", "out")
  ]
  assert where["dense_0", "out"]["value"] == pytest.approx(1)
  assert where["dense_1", "in"]["value"] < 0.999
  assert where["head", "out"]["value"] < where["dense_1", "in"]["value"]
  assert {r["keys"] for r in found} == {3}


def test_probes_and_retraining(done) -> None:
  read = {
    (r["condition"], r["layer"], r["side"]): r["value"]
    for r in pick(done[0], scheme="hpnn", metric="probe")
  }
  # Pixels are the same in every condition.
  assert (
    len({v for (_, layer, _), v in read.items() if layer == "dense_0"}) == 1
  )
  logits = {c: v for (c, _, side), v in read.items() if side == "out"}
  assert logits["right"] > 0.8 and logits["right"] > logits["wrong"]
  tuned = pick(done[0], scheme="hpnn", metric="layer_tuning")
  by = {r["layer"]: r["value"] for r in tuned}
  assert list(by)[:5] == ["start", "owner", "dense_0", "dense_1", "head"]
  assert by["all layers"] > by["start"] + 0.2
  assert by["owner"] == pytest.approx(logits["right"], abs=0.1)
  swept = {r["layer"] for r in tuned if "Bonferroni" in r["interval"]}
  assert swept == {*by} - {"start", "owner"}


def test_ciphertext_is_not_finite_and_the_right_key_is(done) -> None:
  rows = pick(done[0], scheme="float32", metric="cka", condition="no_key")
  seen = {f"{r['layer']} {r['side']}": r for r in rows}
  assert seen["dense_0 in"]["value"] == pytest.approx(1)
  assert seen["head out"]["value"] is None
  assert seen["head out"]["nonfinite"] == SMALL.images
  fresh = pick(done[0], scheme="float32", condition="fresh", metric="cka")
  assert all(r["value"] is not None for r in fresh)
  # The argmax of NaN is not an accuracy either.
  tuned = pick(done[0], scheme="float32", metric="layer_tuning")
  assert [r["layer"] for r in tuned if r["value"] is None] == ["start"]


def test_the_page_and_resumption(done, capsys) -> None:
  rows, folder = done
  page = (folder / "interpret.html").read_text()
  assert "Deep-Lock &lt;float32&gt;" in page and "not finite" in page
  # The image and four conditions, six times, for two schemes.
  assert page.count('<img src="data:image/png') == 2 * 5 * 6
  assert not re.search(r"https?://", page) and page.count("<svg role") == 4
  drawn = json.loads((folder / "hpnn" / "saliency.json").read_text())
  shown = [np.array(drawn[c]) for c in ("right", "wrong", "no_key", "fresh")]
  assert {m.shape for m in shown} == {(6, 8, 8, 1)}
  assert all(m.max() == 255 for m in shown)
  assert not np.array_equal(shown[0], shown[1])
  before = (folder / "interpret.jsonl").read_text()
  with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
    again = job.run(tiny(), str(folder), "", SECRET, SMALL)
  assert again == rows
  assert (folder / "interpret.jsonl").read_text() == before
  assert "measured before" in capsys.readouterr().out


def test_text_is_refused(tmp_path: pathlib.Path) -> None:
  config = configs.base()
  config.name = "t"
  config.dataset = "fake"
  config.model = "gpt_micro"
  config.fake.shape = (16,)
  config.fake.classes = 20
  set_schemes(config, hpnn=scheme("hpnn", layers=".*mlp.*"))
  with pytest.raises(ValueError, match="is text"):
    job.run(config, str(tmp_path / "t"))


def test_public_weights_as_they_are_are_refused(tmp_path: pathlib.Path) -> None:
  config = configs.base()
  config.weights = "public.npz"
  config.train.epochs = 0.0
  with pytest.raises(ValueError, match="train.epochs=0: saliency maps"):
    job.run(config, str(tmp_path / "t"))
  assert not (tmp_path / "t").exists()


def test_there_is_no_figure_if_most_keys_have_none() -> None:
  good = np.random.default_rng(0).normal(size=(30, 5))
  bad = np.full((30, 5), np.nan)
  gram = layers.similarity.gram(good)
  found = layers.similar(gram, [good, bad, bad])
  assert found["value"] is None and found["interval"] == "not finite"
  assert found["not_finite"] == 2 and found["nonfinite"] == 60
  found = layers.similar(gram, [good, good, bad])
  assert found["value"] == pytest.approx(1) and found["keys"] == 2
  flat = layers.similar(gram, [np.ones((30, 5))])
  assert flat["value"] is None and flat["interval"] == "does not vary"


def test_a_chart_breaks_its_line_where_there_is_no_figure() -> None:
  points = [
    Point("a", "a in", 0.9, 0.8, 1.0),
    Point("a", "a out", None, None, None, "not finite"),
    Point("b", "b in", 0.5, 0.4, 0.6),
    Point("b", "b out", 0.4, -0.1, 0.6),
  ]
  drawn = layered({("wrong", "s2"): points}, "title", 0.0)
  assert "wrong, a out: not finite" in drawn and drawn.count("<path") == 1
  assert drawn.count('class="line"') == 1 and drawn.count("whisker") == 3
