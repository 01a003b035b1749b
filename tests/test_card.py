"""Security cards: content, refusals."""

import copy
import json
import os

import jsonschema
import pytest

import keyjax
from keyjax import card as cards
from keyjax.attacks import registry
from keyjax.attacks.game import Goal
from keyjax.card import checklist
from keyjax.cli import card_text
from keyjax.defenses.private import accountant
from keyjax.schemes import registry as schemes
from tests.cards import evasion, get, one_card, paths, put, rows, write_rows


@pytest.fixture(scope="module")
def card():
  return one_card()


# -------------------------------------------------------------------- content


def test_a_card_contains_the_rows(card):
  assert card["scheme"]["parts"] == [
    {
      "mechanism": "deep_lock",
      "options": {"schedule": "counter"},
      "class": "cryptographic",
    }
  ]
  assert [x["condition"] for x in card["accuracy"]] == [
    "plain",
    "right",
    "no_key",
    "wrong",
  ]
  assert {a["attack"] for a in card["attacks"]} == {"known", "tune"}
  assert card["not_played"] == [
    {"attack": "base", "note": "there is no base model"}
  ]
  tune = next(a for a in card["attacks"] if a["attack"] == "tune")
  assert tune["goal"] == "function" and tune["value"] == 0.5
  assert tune["budget"] == {"points": 2, "seed": 0, "steps": 20, "trials": 0}
  assert card["runs"][tune["run"]]["commit"] == "0123abc"
  assert card["keys"][0] == {
    "fingerprint": "aes:89ab-cdef",
    "version": "team/1",
  }


def test_accuracies_on_changed_inputs():
  """Rows of the model as it was trained, not of defended ones."""
  names = {k: rows()[1][k] for k in ("scheme", "title", "mechanism", "options")}
  found = [
    evasion(names, 0.4),
    evasion(names, None, condition="no_key"),
    evasion(names | {"title": "with noise"}, 0.7, defense="noise"),
  ]
  card = cards.make(rows() + found, "counter")
  (row,) = card["evasion"]
  assert (row["value"], row["epsilon"], row["queries"]) == (0.4, 0.1, 80)
  assert row["title"] == "PGD" and row["condition"] == "right"
  assert {a["attack"] for a in card["attacks"]} == {"known", "tune"}
  shown = "\n".join(card_text.lines(card))
  assert "0.1 linf" in shown and "40.00" in shown
  assert "changed inputs" not in "\n".join(card_text.lines(one_card()))
  alone = cards.make([*found], "counter")
  assert alone["attacks"] == [] and len(alone["evasion"]) == 1


def test_epsilon_is_shown_with_what_it_assumes():
  training = accountant.Training(1000, 100, 50, 1e-5, 150)
  fields = accountant.Guarantee(2.0, 1.1, 1.0, "aes", training).fields()
  found = [row | {"privacy": fields} for row in rows()]
  card = cards.make(found, "counter")
  assert card["privacy"] == fields
  shown = "\n".join(card_text.lines(card))
  assert accountant.in_words(fields) in shown
  for field in fields:
    left = {k: v for k, v in fields.items() if k != field}
    with pytest.raises(cards.CardError, match=field):
      cards.check(card | {"privacy": left})
  with pytest.raises(cards.CardError, match="of private and of other models"):
    cards.make([*found[:-2], *rows()[-2:]], "both")
  assert "privacy" not in one_card()


@pytest.mark.parametrize("depth", (100, 100_000))
def test_a_deep_card_is_refused(card, depth):
  """Without a limit Python's own stack decides, which differs by version."""
  deep = "x"
  for _ in range(depth):
    deep = [deep]
  changed = copy.deepcopy(card)
  changed["scheme"]["parts"][0]["options"]["deep"] = deep
  with pytest.raises(cards.CardError, match="at most 64 levels"):
    cards.check(changed)


def test_a_card_knows_every_goal_and_condition():
  fields = cards.schema()["$defs"]["attack"]["properties"]
  assert fields["goal"]["enum"] == [str(goal) for goal in Goal]
  found = {a.condition for a in registry.applicable("deep_lock")}
  assert found <= set(fields["condition"]["enum"])


def test_a_chain_lists_its_parts(card):
  found = cards.make(rows(), "both")["scheme"]["parts"]
  assert [(p["mechanism"], p["class"]) for p in found] == [
    ("hpnn", "access control by degradation"),
    ("deep_lock", "obfuscation"),
  ]


def test_rows_answer_the_items_that_they_decide(card):
  found = {x["item"]: x for x in card["checklist"]}
  assert list(found) == list(checklist.ITEMS) and len(found) == 25
  assert found["adaptive"]["because"] == "for this scheme: known_plaintext"
  assert found["convergence"]["answer"] == "no"  # Twice the score.
  assert found["random_noise"] | {"asks": ""} == {
    "item": "random_noise",
    "asks": "",
    "answer": "no",
    "because": "4 random keys",
    "by": "rows",
  }
  assert found["randomness"]["because"].endswith("known 9")
  assert found["release"]["by"] == "owner"
  assert found["provable"]["answer"] == "not answered"
  assert found["adaptive_wins"]["answer"] == "not answered"


def test_a_falling_curve_is_reported(card):
  fallen = rows()
  for row in fallen:
    if row.get("attack") == "tune":
      row["curve"].reverse()
  found = cards.make(fallen, "counter")["checklist"]
  sanity = next(x for x in found if x["item"] == "sanity")
  assert sanity["answer"] == "no" and "tune" in sanity["because"]


def test_the_order_of_rows_does_not_matter(card):
  one = cards.make(rows(), "counter")
  two = cards.make(rows()[::-1] + rows(), "counter")
  assert cards.format_card(one) == cards.format_card(two)
  again = cards.parse_card(cards.format_card(card))
  assert again == card


def test_files_of_both_kinds_are_read(tmp_path):
  lines, listed = write_rows(tmp_path)
  found = cards.read_rows(lines) + cards.read_rows(listed)
  assert cards.make(found, "counter") == cards.make(rows(), "counter")


@pytest.mark.parametrize(
  "name",
  [*sorted({*schemes.names()} - {"identity", "deep_lock"}), "pixel_shuffle"],
)
def test_classes_are_those_of_the_docstrings(name):
  factory = getattr(keyjax, name, keyjax.pixel_shuffle)
  text = " ".join(factory.__doc__.split())
  assert f"Class: *{schemes.security_class(name, {})}*" in text


def test_both_schedules_have_the_class_of_their_docstring():
  text = " ".join(keyjax.deep_lock.__doc__.split())
  for schedule in ("chain", "counter"):
    found = schemes.security_class("deep_lock", {"schedule": schedule})
    assert f"`{schedule}` is *{found}*" in text
  assert schemes.security_class("of my own", {}) == "unclassified"


# ------------------------------------------------------- rows that are refused


def changed(field, value, attack="tune"):
  made = rows()
  for row in made:
    if row.get("attack") == attack:
      row[field] = value
  return made


@pytest.mark.parametrize(
  "found, sentence",
  [
    (changed("low", None), "'tune' has no 'low'"),
    (changed("interval", ""), "interval"),
    (changed("low", 0.9), "outside its interval"),
    (changed("value", float("nan")), "not evidence"),
    (changed("budget", None), "has no 'budget'"),
    (changed("dataset", "mnist"), "disagree on 'dataset'"),
    (changed("mechanism", "hpnn"), "disagree on 'mechanism'"),
    (changed("command", "KEYJAX-SECRET-SECRET:AAAA"), "private key"),
    (changed("details", {"key": "ab" * 32}), "private key"),
    (changed("value", 1.5), "attacks/"),
    (changed("low", -0.1), "a share is below 0"),
    (changed("command", ""), "has no 'command'"),
    (changed("value", None), "'tune', which has no value, has no 'note'"),
    (
      [r | {"value": None, "note": "?"} for r in rows() if r.get("attack")],
      "nothing was measured of 'counter'",
    ),
    (rows()[:1], "about one scheme"),
  ],
)
def test_rows_that_are_not_evidence_are_refused(found, sentence):
  with pytest.raises(cards.CardError, match=sentence) as error:
    cards.make(found, "counter")
  assert "AAAA" not in str(error.value) and "abab" not in str(error.value)


def test_several_schemes_need_a_label():
  with pytest.raises(cards.CardError, match="both, counter"):
    cards.make(rows())


def test_rows_of_an_older_release_have_no_mechanism():
  old = [{k: v for k, v in r.items() if k != "mechanism"} for r in rows()]
  with pytest.raises(cards.CardError, match="do not have 'mechanism'"):
    cards.make(old, "counter")


@pytest.mark.parametrize(
  "text", ["", "{", "[1]", '{"value": NaN}\n', '[{"value": -Infinity}]', "7"]
)
def test_other_files_than_rows_are_refused(tmp_path, text):
  (tmp_path / "rows").write_text(text)
  with pytest.raises(cards.CardError, match="holds no rows"):
    cards.read_rows(tmp_path / "rows")


@pytest.mark.parametrize(
  "answers, sentence",
  [
    ({"luck": {}}, "no item 'luck'"),
    ({"release": "yes"}, "needs an `answer`"),
    ({"release": {"answer": "maybe", "because": "x"}}, "needs an `answer`"),
    ({"release": {"answer": "yes", "because": " "}}, "non-empty"),
    ({"adaptive": {"answer": "yes", "because": "x"}}, "the rows answer"),
  ],
)
def test_malformed_answers_are_refused(answers, sentence):
  with pytest.raises(cards.CardError, match=sentence):
    cards.make(rows(), "counter", answers=answers)


@pytest.mark.parametrize("key", ["", "two words", "a=", "\x1b[2J", "a" * 200])
def test_a_key_is_a_public_name(key):
  with pytest.raises(cards.CardError, match="a name has"):
    cards.make(rows(), "counter", keys=[key])


def test_key_bytes_are_not_a_public_name():
  with pytest.raises(cards.CardError, match="private key"):
    cards.make(rows(), "counter", keys=[os.urandom(32).hex()])


# ------------------------------------------------------------------- the form


def test_the_schema_is_valid(card):
  jsonschema.Draft202012Validator.check_schema(cards.schema())


@pytest.mark.parametrize(
  "path, value, sentence",
  [
    (("version",), 2, "another version than 1"),
    (("version",), True, "another version than 1"),
    (("keyjax",), "key", "not a KeyJAX card"),
    (("more",), 1, "more"),
    (("runs",), [], "runs"),
    (("attacks", 0, "low"), None, "attacks/0/low"),
    (("attacks", 0, "value"), "1", "attacks/0/value"),
    (("attacks", 0, "run"), 9, "no run 9"),
    (("accuracy", 0, "condition"), "near", "accuracy/0/condition"),
    (("scheme", "parts", 0, "class"), "obfuscation", "the class of"),
    (
      ("scheme", "parts", 0, "options"),
      {},
      "is 'obfuscation', not 'cryptographic'",
    ),
    (("checklist",), [], "is incomplete"),
    (("checklist", 0, "asks"), "Is it good?", "other questions"),
    (("checklist", 0, "answer"), "yes", "who answered"),
    (("checklist", 2, "because"), " ", "has no reason"),
    (("data", "source"), "-----BEGIN PRIVATE KEY", "private key"),
  ],
)
def test_malformed_cards_are_refused(card, path, value, sentence):
  with pytest.raises(cards.CardError, match=sentence):
    cards.check(put(card, path, value))


def test_the_class_of_a_scheme_of_another_package_is_not_checked(card):
  assert cards.unknown_mechanisms(card) == []
  theirs = put(card, ("scheme", "parts", 0, "mechanism"), "theirs")
  assert cards.unknown_mechanisms(theirs) == ["theirs"]
  assert cards.parse_card(cards.format_card(theirs)) == theirs
  # It must be one of the known words, and a known scheme is still checked.
  theirs["scheme"]["parts"].append(card["scheme"]["parts"][0])
  cards.check(theirs)
  for at, text in ((0, "unbreakable"), (1, "obfuscation")):
    with pytest.raises(cards.CardError, match=text):
      cards.check(put(theirs, ("scheme", "parts", at, "class"), text))


def test_no_field_may_be_missing(card):
  found = {p[: i + 1] for p in paths(card) for i in range(len(p))}
  for path in sorted(found, key=str):
    if isinstance(path[-1], int):
      continue  # With one score or run less it is another card, well-formed.
    if {"options", "attacker", "setting", "details"} & set(path[:-1]):
      continue  # The scheme or the attack determines what is in these.
    if path[-1] in ("right", "max", "max_high", "min"):
      continue
    made = copy.deepcopy(card)
    del get(made, path[:-1])[path[-1]]
    with pytest.raises(cards.CardError):
      cards.check(made)


def test_only_the_canonical_bytes_are_read(card):
  data = cards.format_card(card)
  bad = {
    b" " + data: "canonical",
    json.dumps(card).encode(): "canonical",
    data[:-2]: "not JSON",
    data.replace(b'"version":1', b'"version":1,"version":1'): "canonical",
    data.replace(b'"value":0.5', b'"value":NaN', 1): "not JSON",
    data.replace(b'"value":0.5', b'"value":1e999', 1): "JSON",
    b"": "not JSON",
    b"[" * 100_000: "not JSON",
    b"[" * 1_000_000: "too many parts",
    bytes(1 << 25): "at most",
  }
  for text, sentence in bad.items():
    with pytest.raises(cards.CardError, match=sentence):
      cards.parse_card(text)


@pytest.mark.parametrize("found", [[], [{"metric": "accuracy"}]])
def test_rows_without_a_scheme_are_refused(found) -> None:
  with pytest.raises(cards.CardError, match="one scheme; no row names one"):
    cards.make(found)
