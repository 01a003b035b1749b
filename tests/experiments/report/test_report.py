import html.parser
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments import report
from experiments.report import charts, commands, svg, view
from experiments.run import results

BASE = {
  "config": "tiny",
  "dataset": "digits",
  "model": "cnn",
  "command": "python -m experiments.main --config=configs/tiny.py",
  "commit": "abc1234",
  "hardware": "1 x cpu",
  "date": "2026-01-02T03:04:05+00:00",
  "jax": "0.10.2",
  "source": "made up",
  "classes": 10,
}
WRONG = [0.1, 0.25, 0.4375]


def accuracy(scheme, condition, value, **more):
  fields = {"low": value - 0.02, "high": value + 0.02, "images": 200, "keys": 1}
  return results.row(
    BASE,
    scheme=scheme,
    title=more.pop("title", scheme),
    condition=condition,
    metric="accuracy",
    value=value,
    **(fields | {"nonfinite": 0} | more),
  )


def cost(scheme, metric, value, title=None, condition=""):
  title = title or scheme
  return results.row(
    BASE,
    scheme=scheme,
    title=title,
    condition=condition,
    metric=metric,
    value=value,
  )


def plain():
  return [
    accuracy("plain", "plain", 0.9775),
    cost("plain", "parameters", 22602),
  ]


def locked(label, title=None, blind=False):
  """Return one scheme's rows; `blind`: NaN without the right key."""
  title = title or label
  bad = 200 if blind else 0
  made = [
    accuracy(label, "right", 0.9625, title=title),
    accuracy(label, "api", 0.9625, title=title),
    accuracy(label, "no_key", 0.1325, title=title, nonfinite=bad),
    accuracy(
      label,
      "wrong",
      0.2625,
      title=title,
      keys=3,
      max=0.4375,
      max_high=0.51,
      nonfinite=3 * bad,
    ),
    accuracy(
      label, "near", 0.65, title=title, keys=2, distance=1, nonfinite=2 * bad
    ),
  ]
  made += [
    cost(label, metric, value, title)
    for metric, value in (
      ("round_trip", 1),
      ("parameters", 22602),
      ("changed_parameters", 17),
      ("outside_range", 4),
      ("times_range", 95.2),
      ("compressed_share", 0.93),
      ("repeated_blocks", 0.004),
      ("key_bytes", 1040),
      ("encrypt_seconds", 0.00444),
      ("decrypt_seconds", 0.000347),
    )
  ]
  made.append(cost(label, "drop", 84.5, title, "no_key"))
  return made


def figures():
  pixels = np.arange(2 * 4 * 4).reshape(2, 4, 4, 1).tolist()
  near = {"distance": 1, "unit": "bits", "accuracies": [0.6, 0.7]}
  step = {"step": 50, "loss": 0.5, "accuracy": 0.9, "images_per_second": 9e3}
  return {
    "wrong": WRONG,
    "near": [near | {"nonfinite": 0}],
    "curve": [step, step | {"step": 90, "loss": math.nan}],
    "shuffle": {"before": pixels, "after": pixels[::-1]},
    "histogram": {
      "leaf": "params/conv/kernel",
      "changed": 1,
      "edges": [-1.0, 0.0, 1.0, 2.0],
      "before": [5, 9, 0],
      "after": [5, 8, 1],
    },
  }


def parse(text):
  doctype, rest = text.split("\n", 1)
  assert doctype == "<!doctype html>"
  return ElementTree.fromstring(rest)


def words(node):
  return " ".join("".join(node.itertext()).replace(svg.THIN, " ").split())


def cells(tree, table, title):
  """Return the text of a table's row."""
  rows = tree.findall(".//table")[table].findall("./tbody/tr")
  return next(
    [words(c) for c in row] for row in rows if words(row[0]).startswith(title)
  )


def test_every_scheme_is_in_both_tables_and_in_every_chart():
  rows = plain() + locked("hpnn", "HPNN") + locked("shf", "SHF, M=4")
  drawn = {"plain": {}, "hpnn": figures(), "shf": figures()}
  tree = parse(report.render(rows, drawn))
  for title in ("HPNN", "SHF, M=4"):
    assert cells(tree, 1, title) and cells(tree, 2, title)
    names = [words(h) for h in tree.iter("h3")]
    assert names.count(title) == 6  # Keys, spread, near, image, weights, curve.
  assert words(tree.find(".//h1")) == "Two locks on digits, measured"


def test_the_tables_show_the_values_of_the_rows():
  tree = parse(report.render(plain() + locked("hpnn"), {}))
  assert view.interval(charts.Estimate(0.0, 0.0, 0.0)) is None
  right, no_key, mean, best, api, bad = cells(tree, 1, "hpnn")[1:]
  assert right == "96.25" + "94.2 to 98.2 %" + "−1.5 points"
  assert no_key.startswith("13.25") and no_key.endswith("−84.5 points")
  assert mean.startswith("26.25")
  assert best == "43.75" + "up to 51.0 %"
  assert api == right
  assert bad == "0.0 %"
  key, changed, packed, encrypt, decrypt, same = cells(tree, 2, "hpnn")[1:]
  assert packed == "93.0 %" + "0.4 % of blocks repeated"
  assert key == "1,040 B"
  outside = "4 outside their layer's range, up to 95.2 times"
  assert changed == "17" + "of 22,602 (0.08 %)" + outside
  assert (encrypt, decrypt, same) == ("4.44 ms", "347 µs", "yes")


@pytest.mark.parametrize(
  ("schedule", "words_of_it"),
  [
    ("chain", ("obfuscation", "128.0 bits", "four known float32")),
    ("counter", ("cryptographic", "128.0 bits", "no break known")),
  ],
)
def test_counter_mode_does_not_look_like_the_chain(schedule, words_of_it):
  names = {"mechanism": "deep_lock", "options": {"schedule": schedule}}
  rows = [*locked("lock"), cost("lock", "key_bits", 128.0)]
  page = report.render(plain() + [r | names for r in rows], {})
  shown = " ".join(cells(parse(page), 0, "lock"))
  assert all(x in shown for x in words_of_it), shown
  assert ("no break known" in shown) == (schedule == "counter")


def test_the_summary_is_made_from_the_rows():
  tree = parse(report.render(plain() + locked("hpnn"), {}))
  lead = words(tree.find(".//p[@class='lead']"))
  assert "cnn, 22,602 parameters" in lead
  assert "97.8 % of 200 test images (95 % interval: 95.8 to 99.8 %)" in lead
  assert "With the right key, accuracy is 96.2 %; without a key 13.2 %" in lead
  assert "best wrong key reaches 43.8 %" in lead
  assert "bit for bit" in lead and "NaN" not in lead


def test_chance_is_drawn_where_classes_are_known():
  rows = plain() + locked("hpnn")
  assert 'class="chance"' in report.render(rows, {})
  without = [{k: v for k, v in r.items() if k != "classes"} for r in rows]
  assert 'class="chance"' not in report.render(without, {})


TWO = '''r"""Two.

Two on A:

    python -m experiments.main --config=configs/two.py:a \\
      --workdir=runs/a_two

It takes a minute.

Two on B:

    python -m experiments.main --config=configs/two.py:b \\
      --workdir=runs/b_two
"""
'''


def test_what_to_try_next_is_five_commands(tmp_path, monkeypatch):
  for name, source in (
    ("tiny", '"""This run."""'),
    ("broken", "def ("),
    ("attack_hpnn", '"""Attacks on <HPNN>."""\nset_attacks(config)'),
    ("attack_shf", '"""Attacks on SHF."""\nset_attacks(config)'),
  ):
    (tmp_path / f"{name}.py").write_text(source)
  monkeypatch.setattr(commands, "CONFIGS", tmp_path)
  rows = plain() + [r | {"mechanism": "hpnn"} for r in locked("hpnn")]
  tree = parse(report.render(rows, {}))
  whys = [words(d) for d in tree.findall(".//dl[@class='commands']/dt")]
  assert whys == [
    "More wrong keys",
    "Another training run",
    "Both runs side by side",
    "Attacks on <HPNN>",
    "All configs, each with its command",
  ]
  typed = [words(c) for c in tree.findall(".//pre/code")]
  assert typed[0] == (
    "python -m experiments.main --config=configs/tiny.py \\ "
    "--workdir=runs/tiny_256 \\ --config.evaluate.wrong_keys=256"
  )
  assert typed[2] == "python -m experiments.compare runs/tiny runs/tiny_seed1"
  assert typed[3] == (
    "python -m experiments.attack --config=configs/attack_hpnn.py \\ "
    "--workdir=runs/attack_hpnn"
  )


@pytest.mark.parametrize(
  ("mechanisms", "said"),
  [
    (["hpnn"], "The lock has a known break."),
    (["hpnn", "shf"], "Each of the two locks has a known break."),
    (["counter"], "No break is known of one lock (counter)."),
    (
      ["counter", "hpnn"],
      "No break is known of one lock (counter); the other one has a known "
      "break.",
    ),
    (["counter", "identity"], "No break is known of one lock (counter)."),
  ],
)
def test_the_page_begins_with_a_verdict(mechanisms, said):
  names = {"counter": {"mechanism": "deep_lock"}}
  options = {"counter": {"options": {"schedule": "counter"}}}
  rows = [
    r | names.get(x, {"mechanism": x}) | options.get(x, {"options": {}})
    for x in mechanisms
    for r in locked(x)
  ]
  tree = parse(report.render(plain() + rows, {}))
  assert words(tree.find(".//p[@class='lead']")).startswith(said)


def test_configs_of_a_file_are_known_by_their_titles(tmp_path, monkeypatch):
  for name, source in (
    ("broken", "def ("),
    ("fight", '"""Attacks."""\nset_attacks(config)'),
    ("interpret_it", '"""Inside."""'),
    ("two", TWO),
  ):
    (tmp_path / f"{name}.py").write_text(source)
  monkeypatch.setattr(commands, "CONFIGS", tmp_path)
  assert [(c.title, c.program, c.argument) for c in commands.known()] == [
    ("broken", "main", "broken.py"),
    ("Attacks", "attack", "fight.py"),
    ("Inside", "interpret", "interpret_it.py"),
    ("Two on A", "main", "two.py:a"),
    ("Two on B", "main", "two.py:b"),
  ]


def test_a_run_of_a_file_with_several_configs_names_its_config(
  tmp_path, monkeypatch
):
  (tmp_path / "two.py").write_text(TWO)
  monkeypatch.setattr(commands, "CONFIGS", tmp_path)
  rows = [row | {"config": "b_two"} for row in plain()]
  tree = parse(report.render(rows, {}))
  typed = [words(c) for c in tree.findall(".//pre/code")]
  job = "python -m experiments.main --config=configs/two.py"
  assert typed[1] == (
    f"{job}:b \\ --workdir=runs/b_two_seed1 \\ --config.train.seed=1"
  )
  assert typed[2].endswith("experiments.compare runs/b_two runs/b_two_seed1")


def test_nan_is_flagged_and_kept_out_of_the_summary():
  rows = plain() + locked("deep", blind=True) + locked("hpnn")
  tree = parse(report.render(rows, {"deep": figures(), "hpnn": figures()}))
  row = cells(tree, 1, "deep")
  assert row[-1] == "100.0 %" + "argmax of NaN, proves nothing"
  assert "proves nothing" not in " ".join(cells(tree, 1, "hpnn"))
  struck = tree.findall(".//td[@class='bad']")
  assert [words(c) for c in struck] == [
    "13.25mostly NaN",
    "26.25mostly NaN",
    "43.75mostly NaN",
  ]
  lead = words(tree.find(".//p[@class='lead']"))
  assert "One of two locks answered mostly NaN" in lead
  captions = [words(c) for c in tree.iter("figcaption")]
  assert captions.count("argmax of NaN, proves nothing") == 2  # Spread, near.


def test_a_failed_round_trip_is_reported():
  rows = [r for r in plain() + locked("hpnn") if r["metric"] != "round_trip"]
  page = report.render(rows, {})
  assert "Not shown to decrypt bit for bit: hpnn" in page


@pytest.mark.parametrize("field", ["title", "dataset", "model", "command"])
def test_markup_in_a_row_is_shown_as_text(field):
  evil = "</style><script>alert(1)</script>\"'&"
  rows = [r | {field: evil} for r in plain() + locked("hpnn")]
  page = report.render(rows, {"hpnn": figures()})
  tree = parse(page)
  assert "<script" not in page
  assert not list(tree.iter("script"))
  assert evil in "".join(tree.itertext())


class _Links(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.found = []
    self.tags = set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    names = ("src", "href", "xlink:href", "srcset", "action", "data")
    self.found += [v for k, v in attrs if k in names]


def test_the_page_loads_nothing():
  page = report.render(plain() + locked("shf"), {"shf": figures()})
  links = _Links()
  links.feed(page)
  assert links.found
  assert all(x.startswith("data:image/png;base64,") for x in links.found)
  assert not links.tags & {"script", "link", "iframe", "object", "a"}
  assert not re.search(r"url\(|@import|https?://", page)
  assert "default-src &#x27;none&#x27;" in page


def test_a_run_without_locks():
  tree = parse(report.render(plain(), {"plain": {"curve": []}}))
  assert words(tree.find(".//h1")) == "A plain model on digits"
  assert "Nothing was locked" in words(tree.find(".//p[@class='lead']"))
  assert not tree.findall(".//table")
  assert [words(h) for h in tree.iter("h2")] == [
    "What to try next",
    "Where this comes from, and its limits",
  ]


def test_no_rows_at_all():
  parse(report.render([], {}))


@pytest.mark.parametrize("hole", [None, math.nan])
def test_values_may_be_missing(hole):
  names = ("value", "low", "high", "max", "max_high", "nonfinite", "images")
  rows = [
    {k: hole if k in names else v for k, v in r.items()}
    for r in plain() + locked("hpnn")
  ]
  drawn = figures() | {"wrong": [hole, 0.5], "curve": [{"step": hole}]}
  drawn["near"] = [{"distance": 1, "unit": "bits", "accuracies": [hole]}]
  page = report.render(rows, {"hpnn": drawn})
  shown = words(parse(page).find("body"))
  assert "nan %" not in shown.lower() and "None" not in shown
  assert cells(parse(page), 1, "hpnn")[1] == view.DASH


def test_each_figure_may_be_missing():
  whole = figures()
  rows = plain() + locked("hpnn")
  for name in whole:
    parse(report.render(rows, {"hpnn": {name: whole[name]}}))
    rest = {k: v for k, v in whole.items() if k != name}
    parse(report.render(rows, {"hpnn": rest}))


def test_write_leaves_only_the_page_in_its_folder(tmp_path):
  page = tmp_path / "report.html"
  rows = json.loads(json.dumps(plain() + locked("hpnn")))
  report.write(page, rows, {"hpnn": figures()})
  assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
  parse(page.read_text(encoding="utf-8"))
