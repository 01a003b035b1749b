"""The copies command: what it measures, resumes, shows, and refuses."""

import json
import pathlib
import re
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import copies as job
from experiments.copying import plan
from experiments.report import copies as report
from experiments.run import config as configs
from experiments.tables import copies as tables
from keyjax import card as cards
from tests.conftest import ROOT
from tests.experiments import small_job
from tests.experiments.small_job import SECRET, Rows

QUOTED = ROOT / "results" / "copies_digits.json"


def tiny(**fields: Any) -> ConfigDict:
  config = small_job.config(hidden=32, epochs=20.0)
  config.num_train = 400
  config.num_test = 100
  chosen = {
    "victims": 2,
    "inputs": 20,
    "queries": (20, 100),
    "query_sets": ("marginal", "mixup", "real"),
    "replies": ("all", "temperature:20+distilled:20", "label"),
    "steps": 150,
    "suspects": 2,
    "networks": {"small": {"hidden": (4,)}},
    "recipes": {"sgd": {"optimizer": "sgd", "learning_rate": 0.05}},
  }
  plan.configure(config, **{**chosen, **fields})
  return config


def run(config: ConfigDict, folder: pathlib.Path) -> Rows:
  return small_job.run(job, config, folder)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, pathlib.Path]:
  folder = tmp_path_factory.mktemp("copies") / "run"
  rows = run(tiny(), folder)
  assert json.loads((folder / "copies.json").read_text()) == rows
  return rows, folder


def value(rows: Rows, **fields: Any) -> float:
  (found,) = (
    r["value"] for r in rows if all(r.get(k) == v for k, v in fields.items())
  )
  return float(found)


def copied(
  rows: Rows, scheme: str, condition: str, reply: str = "all"
) -> float:
  return value(
    rows,
    part="knockoff",
    metric="agreement",
    scheme=scheme,
    condition=condition,
    reply=reply,
    query_set="real",
    queries=100,
  )


@pytest.mark.slow
def test_a_service_with_the_key_is_copied_as_the_plain_model_is(
  done: Any,
) -> None:
  rows = done[0]
  control = copied(rows, "none", "plain", "swapped")
  assert control < 0.3
  plain = copied(rows, "none", "plain")
  assert plain > control + 0.3
  assert copied(rows, "none", "plain", "label") > control + 0.3
  for name in ("counter", "hpnn"):
    assert abs(copied(rows, name, "right") - plain) < 0.15
    for condition in ("wrong", "no_key"):
      assert copied(rows, name, condition) < plain - 0.3
  lost = {
    r["condition"]: r["lost"]
    for r in rows
    if r["scheme"] == "counter" and r["part"] == "knockoff"
  }
  assert lost == {"right": 0, "wrong": 1, "no_key": 1}
  for r in rows:
    assert r["low"] <= r["value"] <= r["high"], r
    assert len(r.get("values", ())) in (0, 2)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(
  done: Any,
) -> None:
  own = {
    r["guess"]: r
    for r in done[0]
    if (r["part"], r["metric"], r["scheme"]) == ("rebuild", "agreement", "none")
  }
  same = own["trained again, the same seed"]
  assert same["identical"] == 2 and same["largest_difference"] == 0
  assert same["value"] == 1
  other = own["trained again, another seed"]
  assert other["identical"] == 0 and other["value"] > 0.6
  assert other["value"] > own["20 other examples"]["value"]
  assert "identical" not in own["small"]


@pytest.mark.slow
def test_dataset_inference_is_tried_on_every_kind_of_model(done: Any) -> None:
  own = [r for r in done[0] if r["part"] == "ownership"]
  assert len(own) == 2 * 4
  for r in own:
    assert len(r["p"]) == r["models"] == (2 if r["kind"] == "victim" else 4)
    assert r["value"] == np.mean([p < 0.05 for p in r["p"]])


@pytest.mark.slow
def test_what_is_there_is_not_measured_again(done: Any) -> None:
  rows, folder = done
  file = folder / "copies.jsonl"
  before = file.read_bytes()
  parts = ("knockoff", "rebuild")
  fewer = run(tiny(parts=parts), folder)
  assert fewer == [r for r in rows if r["part"] in parts]
  assert file.read_bytes() == before
  more = run(tiny(parts=("knockoff",), replies=("all", "top:1")), folder)
  assert {r["reply"] for r in more} >= {"top:1"}
  assert file.read_bytes().startswith(before)


@pytest.mark.slow
def test_the_page_has_curves_and_no_file_has_a_key(done: Any) -> None:
  rows, folder = done
  page = report.render(rows)
  assert len(re.findall("<svg", page)) == 3 + 2  # Query sets, locks.
  assert "http" not in page.replace("http-equiv", "") and "<script" not in page
  assert (folder / "copies.html").read_text().startswith(page[:200])
  key = SECRET.child("counter_0").derive("any", 32)
  for file in (f for f in folder.rglob("*") if f.is_file()):
    for secret in (bytes([7]) * 32, bytes([7]).hex().encode() * 32, key):
      assert secret not in file.read_bytes(), file


@pytest.mark.slow
def test_rows_make_a_card_with_controls(done: Any) -> None:
  rows = done[0]
  card = cards.make(rows, "hpnn")
  assert cards.parse_card(cards.format_card(card)) == card
  found = card["leaks"]["copies"]
  plain = [x for x in found if x["condition"] == "plain"]
  # Three replies of the plain model, and the right labels.
  assert len({x["answers"] for x in plain}) == 3 + 1
  for condition in ("right", "wrong", "no_key"):
    own = [x for x in found if x["condition"] == condition]
    assert {x["queries"] for x in own} == {20, 100}
  (right,) = (
    x["value"]
    for x in found
    if (x["condition"], x["queries"]) == ("right", 100)
    and x["asked"] == plan.SETS["real"]
  )
  assert right == copied(rows, "hpnn", "right")
  control = copied(rows, "none", "plain", "swapped")
  assert control in {x["control"]["value"] for x in found}


def test_the_page_and_the_tables_say_what_the_quoted_rows_do() -> None:
  rows = json.loads(QUOTED.read_text())
  page = report.render(rows)
  lines = "\n".join(tables.copies(QUOTED.parent))
  for r in rows:
    if r["part"] == "rebuild" and r["metric"] == "agreement":
      assert tables.share(r) in page and tables.share(r) in lines
    if r["part"] == "ownership":
      assert tables.called(r) in page and tables.called(r) in lines
  for r in tables.at_most(rows):
    assert tables.share(r) in page
  assert "equal bit for bit" in lines
  assert f"`{rows[0]['command']}`" in lines


def made(reply: str, values: list[float], **fields: Any) -> dict[str, Any]:
  return {
    "part": "knockoff",
    "metric": "agreement",
    "scheme": "none",
    "title": "no lock",
    "condition": "plain",
    "reply": reply,
    "reply_title": reply,
    "query_set": "real",
    "set_title": "real",
    "queries": 10,
    "values": values,
    **fields,
  }


def test_differences_are_of_the_same_victims_and_most_queries() -> None:
  rows = [
    made("all", [0.5, 0.6, 0.7]),
    made("all", [0.1, 0.1, 0.1], queries=5),
    made("temperature:20", [0.7, 0.8, 0.9]),
    made("temperature:9", [0.5, 0.7, 0.6]),
    made("swapped", [0.1, 0.1, 0.2]),
    made("all", [0.4, 0.6, 0.7], scheme="hpnn", condition="right"),
  ]
  warm, mild = tables.temperature(rows)
  assert np.allclose((warm.value, warm.low, warm.high), 0.2)
  assert warm.verdict == "more"
  assert mild.low < 0 < mild.high and mild.verdict.startswith("no difference")
  (remote,) = tables.remote(rows)
  assert remote.value == pytest.approx(0.6 - 0.4 / 3) and remote.low > 0
  (lock,) = tables.locks(rows)
  assert lock.value == pytest.approx(-0.1 / 3) and lock.low < 0 < lock.high


@pytest.mark.parametrize(
  ("text", "title", "expected"),
  [
    ("all", "all probabilities", [4.0, 0.0]),
    ("temperature:2", "temperature 2", [2.0, 0.0]),
    (
      "temperature:2+undone:2",
      "temperature 2, undone by the attacker",
      [4.0, 0.0],
    ),
    ("label", "the label alone", [0.0, np.log(1e-45)]),
  ],
)
def test_a_reply_is_what_is_left_of_an_answer(
  text: str, title: str, expected: list[float]
) -> None:
  reply = plan.parse(text)
  assert reply.title == title and reply.temperature == 1
  found = reply.apply(np.array([[4.0, 0.0]]))
  assert np.allclose(found, [expected])


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"victims": 0}, "copies.victims=0: at least 1"),
    ({"inputs": 1}, "copies.inputs=1: at least 2"),
    ({"queries": ()}, r"copies.queries=\(\): numbers above 0"),
    ({"queries": (5, 0)}, "copies.queries="),
    ({"steps": 0}, "copies.steps=0"),
    ({"parts": ("theft",)}, "copies.parts: 'theft': choose from knockoff, own"),
    (
      {"query_sets": ("other",)},
      "copies.query_sets: 'other'.*set copies.other",
    ),
    ({"locked_sets": ("cats",)}, "copies.locked_sets: 'cats': choose from uni"),
    ({"replies": ("tops:1",)}, "copies.replies: 'tops:1': choose label"),
    (
      {"replies": ("label+undone:0",)},
      "'label.undone:0': an attacker knows a temp",
    ),
    ({"replies": ("undone:2",)}, "copies.replies: 'undone:2': choose label"),
    ({"recipes": {"x": {"dropout": 1}}}, "copies.recipes: 'x' has dropout"),
    ({"recipes": {"x": {}}}, "copies.recipes: 'x' has no field"),
  ],
)
def test_a_wrong_field_is_named(fields: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    plan.check(tiny(**fields))


def test_other_configs_and_data_are_refused(tmp_path: pathlib.Path) -> None:
  with pytest.raises(ValueError, match="the config has no copies"):
    run(configs.base(), tmp_path / "a")
  with pytest.raises(ValueError, match="copies.inputs=201: an attacker's half"):
    run(tiny(inputs=201), tmp_path / "b")
  with pytest.raises(ValueError, match="cats"):
    run(tiny(other="cats", query_sets=("other",)), tmp_path / "c")
  with pytest.raises(
    ValueError, match="copies.networks: 'x': Unknown option hiden"
  ):
    run(tiny(networks={"x": {"hiden": (4,)}}), tmp_path / "d")
  config = tiny()
  config.train.ema = 0.5
  with pytest.raises(ValueError, match=r"train\.ema is not used"):
    plan.check(config)
