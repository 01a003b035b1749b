"""Security cards: what a model tells of its data."""

import copy
import json

import jsonschema
import pytest

from keyjax import card as cards
from keyjax.cli import card_text
from tests import cards as whole
from tests import leak_rows
from tests.cards import get, paths, put
from tests.conftest import ROOT
from tests.leak_rows import NONE, SCHEME, copy_of, membership, recording

MEMBERSHIP = (
  "examples",
  "members",
  "others",
  "draw",
  "models",
  "shadows_used",
  "shadow_models",
  "label_noise",
  "nan",
)
COPY = ("reply_title", "set_title", "victims", "inputs", "test_images", "lost")
GRADIENT = ("scene", "trained", "images", "unrelated", "seeds", "knows")
UPDATE = ("passes", "members", "others", "draw", "label_noise", "nan", "knows")


def make(rows):
  return cards.make(rows, "hpnn")


@pytest.fixture(scope="module")
def card():
  return make(leak_rows.rows())


def shown(card):
  return "\n".join(card_text.lines(card))


def test_a_card_contains_the_figures_and_all_that_they_assume(card):
  leaks = card["leaks"]
  assert {k: len(v) for k, v in leaks.items()} == {
    "membership": 6,
    "copies": 4,
    "gradients": 2,
    "updates": 2,
  }
  found = {x["condition"]: x for x in leaks["membership"]}
  assert list(found) == ["plain", "right", "api", "no_key"]
  assert found["api"]["answers"] == "the label alone"
  assert found["right"]["metric"] == "tpr" and found["right"]["fpr"] == 0.001
  assert found["right"]["resolved"] is False
  assert {x["condition"] for x in leaks["copies"]} == {"plain", "right"}
  assert all(x["control"]["low"] == 0.4 for x in leaks["copies"])
  assert {x["seeds"] for x in leaks["updates"]} == {2}
  assert card["accuracy"] == card["attacks"] == []
  assert card["scheme"]["title"] == "HPNN"


def test_the_same_rows_give_the_same_bytes(card):
  again = make(leak_rows.rows()[::-1] + leak_rows.rows())
  assert cards.format_card(again) == cards.format_card(card)
  assert cards.parse_card(cards.format_card(card)) == card


def test_a_reader_sees_the_assumptions_beside_each_figure(card):
  text = " ".join(shown(card).split())
  for words in (
    "600 examples, at random from the training images; of the first model "
    "judged 288 are members and 312 are not. 20 % of the labels are wrong.",
    "the highest of 2 attacks, with 95 % intervals",
    "right (3 models judged, 7 of 600 scores NaN) "
    "AUC 50.00 (40.00 - 60.00); LiRA; 64 shadow models, the same key",
    "TPR at FPR 0.1 % 50.00 (40.00 - 60.00); LiRA; 64 shadow models, the same "
    "key; too few others: it is the TPR at FPR 0",
    "LiRA; no shadow model",
    "api: the label alone (3 models judged",
    "LiRA; 64 shadow models, no key",
    "3 originals of 689 images each; the attacker has 45 other images",
    "right, answers all: real inputs, 40: 50.00, 1,200: 50.00 (40.00 - 60.00); "
    "control 50.00 (40.00 - 60.00)",
    "The attacker has the weights. An image is named if it is nearer than 200 ",
    "1 image, HPNN, right (8 images) named 25.00 (",
    "PSNR, dB 0.2 (0.0 - 3.4); a search",
    "300 inputs that were served and 310 that were not, at random, too. 10 %",
    "right, it learned the right answers, 2 x (0 NaN) AUC 25.00 (",
    "a search; has the weights",
  ):
    assert words in text, words
  assert "LiRA" not in shown(whole.one_card())


def test_the_rows_of_other_commands_may_be_on_the_card_too(card):
  names = SCHEME | {"options": {}}
  rows = [whole.accuracy(names, "right", 0.9), *leak_rows.rows()]
  both = make(rows)
  assert both["leaks"] == card["leaks"] and len(both["accuracy"]) == 1
  assert "leaks" not in make(rows[:1])
  assert "leaks" not in whole.one_card()


def test_models_that_were_trained_in_another_way_are_left_out(card):
  for names in (SCHEME, NONE):
    other = membership(names, "right", training="early", title="early")
    assert make([*leak_rows.rows(), other]) == card
  noisy = recording("gradients", metric="named", defense="noise")
  assert make([*leak_rows.rows(), noisy]) == card


@pytest.mark.parametrize(
  "row, fields",
  [
    (membership(SCHEME, "right"), MEMBERSHIP),
    (membership(SCHEME, "right", metric="tpr_0.01"), ["resolved"]),
    (copy_of(SCHEME, "right"), COPY),
    (recording("gradients", metric="named"), GRADIENT),
    (recording("online", metric="auc"), UPDATE),
  ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_a_row_without_an_assumption_is_refused(row, fields, gone):
  for field in (*fields, "low", "interval"):
    changed = {k: v for k, v in row.items() if k != field}
    if not gone:
      changed[field] = None
    control = copy_of(NONE, "plain", "swapped")
    with pytest.raises(cards.CardError) as error:
      make([changed, control])
    text = str(error.value)
    assert f"has no '{field}': " in text and "\n" not in text


def test_a_service_says_what_it_answers():
  with pytest.raises(cards.CardError, match="has no 'reply_title'"):
    make([*leak_rows.rows(), membership(NONE, "api", reply_title=None)])
  with pytest.raises(cards.CardError, match="answers"):
    make([*leak_rows.rows(), membership(NONE, "api", reply_title="")])


@pytest.mark.parametrize(
  "row, sentence",
  [
    (membership(SCHEME, "right", value=float("nan")), "not evidence"),
    (membership(SCHEME, "right", nan=float("inf")), "not evidence"),
    (membership(SCHEME, "right", value=0.9), "lira: the value is outside"),
    (membership(SCHEME, "right", draw="ab" * 32), "private key"),
    (membership(SCHEME, "right", shadow_models="many"), "leaks/membership/"),
    (membership(SCHEME, "near"), "other types"),
    (membership(SCHEME, "right", metric="tpr_x", resolved=True), "other types"),
    (membership(SCHEME, "right", dataset="mnist"), "disagree on 'dataset'"),
    (membership(NONE, "plain", model="cnn"), "disagree on 'model'"),
    (membership(SCHEME, "right", options={"seed": 1}), "disagree on 'options'"),
    (membership(SCHEME, "right", privacy={"epsilon": 1}), "of private and of"),
    (copy_of(SCHEME, "right", queries=7), "'real' has no control with as many"),
    (copy_of(NONE, "plain", "swapped", low=0.3), "has several controls"),
    (copy_of(SCHEME, "right", high=0.45), "right: the value is outside"),
    (copy_of(NONE, "plain", "swapped", low=None), "no 'low'"),
    (recording("gradients", metric="named", model="cnn"), "on 'model'"),
    (recording("gradients", metric="named", mechanism=""), "'mechanism'"),
    (recording("online", metric="auc", scheme_title="H"), "on 'title'"),
  ],
)
def test_rows_that_are_not_evidence_are_refused(row, sentence):
  with pytest.raises(cards.CardError, match=sentence) as error:
    make([*leak_rows.rows(), row])
  assert "abab" not in str(error.value)


def test_figures_of_one_seed_have_no_interval():
  row = recording("gradients", metric="named", mechanism="hpnn")
  row |= {"low": None, "high": None, "interval": ""}
  with pytest.raises(cards.CardError, match=r"no 'low'.*recording\.json"):
    make([row])


def test_recordings_of_an_older_release_do_not_say_whose_they_are():
  old = {"mechanism": "", "scheme_title": "HPNN"}
  row = recording("gradients", metric="named", **old)
  with pytest.raises(cards.CardError, match=r"'x' has no 'mechanism'.*\.json"):
    make([row])


def test_rows_of_copies_that_a_document_quotes_make_a_card():
  rows = cards.read_rows(ROOT / "results" / "copies_digits.json")
  found = make(rows)["leaks"]["copies"]
  control = [
    r
    for r in rows
    if r["metric"] == "agreement" and r.get("reply") == "swapped"
  ]
  shares = {(r["set_title"], r["queries"]): r["value"] for r in control}
  assert len(found) > len(control) > 4
  for entry in found:
    own = shares[entry["asked"], entry["queries"]]
    assert entry["control"]["value"] == own < 0.3
  right = [x["value"] for x in found if x["condition"] == "right"]
  assert max(right) > 0.9


# ------------------------------------------------------------------- the form


@pytest.mark.parametrize(
  "path, value, sentence",
  [
    (("leaks",), {}, "leaks"),
    (("leaks", "membership"), [], "leaks/membership"),
    (("leaks", "more"), [1], "more"),
    (("leaks", "membership", 0, "value"), 2, "leaks/membership/0/value"),
    (("leaks", "membership", 0, "value"), 0.1, "outside its interval"),
    (("leaks", "membership", 0, "run"), 9, "no run 9"),
    (("leaks", "copies", 0, "control", "low"), 0.9, "copies: the value is"),
    (("leaks", "gradients", 0, "value"), 50, "leaks/gradients/0/value"),
    (("leaks", "updates", 0, "nan"), -1, "leaks/updates/0/nan"),
  ],
)
def test_malformed_cards_are_refused(card, path, value, sentence):
  with pytest.raises(cards.CardError, match=sentence):
    cards.check(put(card, path, value))


def test_no_field_may_be_missing(card):
  schema = cards.schema()
  only = {"$ref": "#/$defs/leaks", "$defs": schema["$defs"]}
  is_valid = jsonschema.Draft202012Validator(only).is_valid
  leaks = card["leaks"]
  assert is_valid(leaks)
  found = {p[: i + 1] for p in paths(leaks) for i in range(len(p))}
  for path in sorted(found, key=str):
    if len(path) > 2:  # With fewer figures it is another card, well-formed.
      made = copy.deepcopy(leaks)
      del get(made, path[:-1])[path[-1]]
      assert not is_valid(made), path


def test_names_on_a_card_are_not_trusted(card):
  text = json.dumps(card).replace("LiRA", "[/]\\u001b[2J")
  lines = shown(json.loads(text))
  assert "\x1b" not in lines and "[/]\\x1b[2J" in lines
