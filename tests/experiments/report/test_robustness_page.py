"""The page of robustness shows its rows, loads nothing and escapes all."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments.evasion import measure
from experiments.report import robustness, svg
from tests.experiments.evasion import made

SECTIONS = [
  "The worst case",
  "Accuracy against epsilon, linf",
  "Accuracy against epsilon, l2",
  "Who attacks, linf 0.1",
  "What the changes look like",
  "Are gradients masked?",
  "Changes that transfer",
  "Checklist",
  "Published claims, measured",
  "What each attack costs",
  "Every figure",
  "Where this comes from, and its limits",
]


def pictures(title="PGD, epsilon 0.2 linf"):
  pixels = np.arange(2 * 4 * 4).reshape(2, 4, 4, 1).tolist()
  shown = dict.fromkeys(("image", "changed", "change"), pixels)
  return {"pgd": {"title": title, "model": "no lock", **shown}}


def parse(text):
  doctype, rest = text.split("\n", 1)
  assert doctype == "<!doctype html>"
  return ElementTree.fromstring(rest)


def render(rows, drawn=None):
  """Return the page of rows and their worst cases."""
  rows = rows + measure.worst_cases(rows)
  return parse(robustness.render(rows, drawn or {}))


def words(node):
  return " ".join("".join(node.itertext()).replace(svg.THIN, " ").split())


def lead(tree):
  return words(tree.find(".//p[@class='lead']"))


def part(tree, title):
  """Return a section; None if the page has none of that title."""
  found = [s for s in tree.iter("section") if words(s.find("h2")) == title]
  return found[0] if found else None


def cells(section, title):
  """Return the texts of a table's row."""
  rows = section.findall(".//tbody/tr")
  return next([words(c) for c in r] for r in rows if words(r[0]) == title)


def test_the_page_has_its_sections_and_loads_nothing():
  text = robustness.render(made.sound(), pictures())
  tree = parse(text)
  assert [words(h) for h in tree.iter("h2")] == SECTIONS
  assert re.findall(r"(?:https?:|//)[^ ]*", text) == []
  assert not list(tree.iter("script")) and not list(tree.iter("link"))
  sources = [i.get("src") for i in tree.iter("img")]
  assert len(sources) == 6
  assert all(s.startswith("data:image/png;base64,") for s in sources)


def test_the_lead_says_the_result():
  text = lead(parse(robustness.render(made.sound(), {})))
  assert text.startswith("Three models, right on 97.0 % of the images")
  assert "changes of epsilon 0.1 linf leave 4.0 % without a defence" in text
  assert (
    "69.0 % with a defence; random changes of that size leave 95.0 %" in text
  )
  assert "Of locks alone, attackers who lack the key leave 30.0 %" in text
  assert "No lock alone withstands more than the unlocked model" in text
  assert "Gradients look masked in none of three audited models." in text


def test_the_lead_names_locks_that_withstand_more_and_masked_models():
  rows = [made.attack(0.1), made.attack(0.6, "hpnn/none")]
  rows.append(made.audit("hpnn/none", "noise", masked=True))
  text = lead(render(rows))
  assert "HPNN withstands more than the unlocked model" in text
  assert "Gradients look masked in one of one audited model: HPNN." in text
  near = [made.attack(0.1), made.attack(0.14, "hpnn/none")]
  assert "No lock alone withstands more" in lead(render(near))


def test_the_worst_case_is_beside_its_control():
  table = part(parse(robustness.render(made.sound(), {})), SECTIONS[0])
  found = cells(table, "HPNN")
  assert found[1].startswith("97.0 %")
  assert found[3].startswith("4.0 %") and found[3].endswith("random 95.0 %")
  head = [words(h) for h in table.iter("th")]
  assert head[:4] == ["model", "no attack", "linf 0.05", "linf 0.1"]


@pytest.mark.parametrize(("value", "heat"), [(0.0, 1), (0.4, 0.5), (0.8, 0)])
def test_the_darker_a_cell_the_more_is_lost(value, heat):
  rows = [made.clean(0.8), made.attack(value)]
  cell = part(render(rows), SECTIONS[0]).findall(".//tbody//td")[1]
  assert float(cell.get("style").split(":")[1]) == pytest.approx(heat)


def test_curves_start_without_attack_and_are_where_the_rows_are():
  rows = [made.clean(1.0), made.attack(0.5), made.attack(0.25, epsilon=0.2)]
  chart = part(render(rows), SECTIONS[1]).find(".//svg")
  line = chart.findall(".//line[@class='line']")
  height = float(chart.get("height"))
  ends = [[1 - float(x.get(k)) / height for k in ("y1", "y2")] for x in line]
  assert np.allclose(ends, [[1.0, 0.5], [0.5, 0.25]])
  chance = chart.find(".//line[@class='chance']")
  assert float(chance.get("y1")) == pytest.approx(0.9 * height)
  tips = [words(t) for t in chart.iter("title")]
  assert tips[0].startswith("PGD, linf 0.1: 50.0 % (42.9 to 57.1 %)")


def test_an_attack_at_one_size_is_a_dot_without_a_line():
  rows = [made.clean(1.0), made.attack(0.5)]
  chart = part(render(rows), SECTIONS[1]).find(".//svg")
  assert not chart.findall(".//line[@class='line']")
  assert len(chart.findall(".//circle")) == 1


def test_attackers_are_shown_by_their_strongest_attack():
  rows = [
    made.attack(0.2),
    made.attack(0.3, label="fgsm"),
    made.attack(0.9, label="pgd_wrong", game="pgd", holder="wrong"),
  ]
  figure = part(render(rows), "Who attacks, linf 0.1")
  chart = figure.find(".//svg[@aria-label]")
  assert chart.get("aria-label").replace(svg.THIN, " ") == (
    "no lock: with the key 20.0 %, with a wrong key 90.0 %"
  )
  dots = [(c.get("class"), c.get("cx")) for c in chart.iter("circle")]
  assert dots == [("pale", "30.00%"), ("dot", "20.00%"), ("dot", "90.00%")]


def test_rows_that_prove_nothing_show_why():
  rows = [made.clean(0.9), made.attack(0.5), made.attack(None, label="bim")]
  tree = render(rows)
  why = "its logits are not finite, and follow nothing"
  crosses = part(tree, SECTIONS[1]).findall(".//svg[@class='cross']")
  assert [words(c) for c in crosses] == [f"BIM, linf 0.1: {why}"]
  table = part(tree, "Every figure").findall(".//tbody/tr")
  assert why in words(table[2]) and "%" not in words(table[2])
  assert "BIM" not in words(part(tree, "What each attack costs"))


def test_every_figure_is_in_the_table():
  rows = made.sound()
  found = [r for r in rows if r["metric"] == measure.ACCURACY]
  table = part(parse(robustness.render(rows, {})), "Every figure")
  assert len(table.findall(".//tbody/tr")) == len(found)


def test_costs_are_over_models():
  rows = [made.attack(0.5), made.attack(0.5, epsilon=0.2)]
  rows.append(made.attack(0.5, "hpnn/none", passes=80))
  found = cells(part(render(rows), "What each attack costs"), "PGD")
  assert found[1:] == ["with the key", "40 to 80", "1.5 s to 3 s", "200", "2"]


def test_audits_have_their_sentences():
  rows = made.sound() + [made.audit("none/none", "noise", masked=True)]
  found = cells(
    part(parse(robustness.render(rows, {})), SECTIONS[5]), "no lock"
  )
  assert (
    found[1].startswith("no sign") and "unbounded in a sentence" in found[1]
  )
  assert found[3].startswith("masked") and "noise in a sentence" in found[3]


def test_the_matrix_is_from_rows_to_columns():
  rows = [
    made.transfer("none/none", "hpnn/none", 0.3),
    made.transfer("hpnn/none", "none/none", 0.6),
  ]
  matrix = part(parse(robustness.render(rows, {})), "Changes that transfer")
  assert [words(h) for h in matrix.findall(".//thead//th")] == [
    "from",
    "HPNN",
    "no lock",
  ]
  assert cells(matrix, "no lock")[1].startswith("30.0 %")
  assert cells(matrix, "no lock")[2] == "–"
  assert cells(matrix, "HPNN")[2].startswith("60.0 %")


def test_studies_have_their_claim_mean_and_range():
  rows = [made.study("fgsm", seed, x) for seed, x in enumerate((0.2, 0.3, 0.7))]
  tree = parse(robustness.render(rows, {}))
  study = part(tree, "Published claims, measured")
  assert "The survey says that fgsm works." in words(study)
  want = ["0.4", "0.2 to 0.7", "3", "200", "85.9 % (published)"]
  assert cells(study, "fgsm, share")[1:] == want
  assert part(tree, SECTIONS[0]) is None
  assert "measured over seeds" in lead(tree)


def test_titles_are_escaped():
  hostile = '<script>alert("1")</script> & co'
  rows = [
    made.clean(0.9, title=hostile),
    made.attack(0.5, title=hostile, attack_title=hostile),
    made.attack(0.4, label="square", holder="api", title=hostile),
    made.audit("none/none", "noise") | {"title": hostile, "note": hostile},
    made.transfer("none/none", "none/none", 0.5) | {"source_title": hostile},
    made.study("fgsm", 0, 0.5) | {"sentence": hostile, "target": hostile},
  ]
  rows = [r | {"config": hostile, "command": hostile} for r in rows]
  tree = render(rows, pictures(hostile))
  assert not list(tree.iter("script"))
  for title in SECTIONS:
    if title != SECTIONS[2]:  # There is no second norm.
      assert hostile in words(part(tree, title)) or hostile in "".join(
        n.get("aria-label", "") for n in part(tree, title).iter()
      ), title


def test_one_model_with_one_attack_and_no_pictures_is_a_page():
  tree = render([made.clean(0.9), made.attack(0.5)])
  assert lead(tree) == (
    "One model, right on 90.0 % of the images as they are. In the worst case, "
    "changes of epsilon 0.1 linf leave 50.0 % without a defence."
  )
  assert not re.search(r"\b(None|nan)\b", words(tree.find("body")))
  assert part(tree, "What the changes look like") is None
  assert part(tree, "Who attacks, linf 0.1") is None


def test_a_page_is_written(tmp_path):
  robustness.write(tmp_path / "page.html", made.sound(), pictures())
  text = (tmp_path / "page.html").read_text()
  assert text == robustness.render(made.sound(), pictures())
