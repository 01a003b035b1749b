"""`keyjax card`: made, signed, checked and shown."""

import json
import pathlib

import pytest

import keyjax
from keyjax import cli, keyring
from tests.cards import write_rows
from tests.cli.conftest import assert_silent, process

MAKE = ("card", "make", "--rows", "rows.jsonl", "results.json")
COUNTER = ("--scheme", "counter", "--out", "card.json")


@pytest.fixture(autouse=True)
def files(folder):
  write_rows(folder)
  (folder / "model.bin").write_bytes(b"locked")


@pytest.fixture(params=keyring.signing.SIGNING)
def signer(request, run):
  verify = run("keygen", request.param, "s.key", "--plain").out.strip()
  return "file:s.key", verify


def test_made_signed_checked_shown(run, signer):
  source, verify = signer
  more = ("--model", "model.bin", "--key-fingerprint", "team/1=aes:0123-4567")
  made = run(*MAKE, *COUNTER, *more, "--sign", source)
  assert (made.code, made.err) == (0, "")
  assert "is about counter, signed by" in made.out
  checked = run(
    *("card", "check", "card.json", "--json"),
    *("--verify-key", verify, "--model", "model.bin"),
  )
  assert checked.json == {
    "card": "card.json",
    "model": "checked",
    "signature": "checked",
    "unknown_mechanisms": [],
  }
  shown = run("card", "show", "card.json")
  assert shown.code == 0
  for text in ("cryptographic", "team/1", "aes:0123", "50.00", "tuning"):
    assert text in shown.out, text
  assert "not answered: judgement, " in shown.out
  assert "holds against the 1 attack run; no break known; " in shown.out
  whole = run("card", "show", "card.json", "--json")
  assert whole.json == json.loads(pathlib.Path("card.json").read_text())
  for answer in (made, checked, shown, whole):
    assert_silent(answer, "s.key")


def test_key_space_verdict_and_no_interval_of_one_game(run, folder):
  lines = (folder / "rows.jsonl").read_text().splitlines()
  rows = [json.loads(x) for x in lines]
  won = {"value": 1.0, "low": 1.0, "high": 1.0, "key_bits": 146.0}
  for row in rows:
    if row["attack"] == "known":
      row |= won
  (folder / "rows.jsonl").write_text(
    "".join(json.dumps(r) + "\n" for r in rows)
  )
  assert run(*MAKE, "--scheme", "both", "--out", "card.json").code == 0
  shown = " ".join(run("card", "show", "card.json").out.split())
  assert "key space 146.0 bits" in shown
  assert "known break 60 labelled images" in shown
  assert "four known float32 weights" in shown
  assert "verdict broken by: known (100.0 %)" in shown
  assert "100.00 - 100.00" not in shown


def test_a_reader_without_the_package_of_a_scheme(run, folder, signer):
  source, verify = signer
  run(*MAKE, *COUNTER)
  card = keyjax.card.read_card("card.json")
  card["scheme"]["parts"][0]["mechanism"] = "theirs\x1b[2J"
  card = keyjax.card.sign(card, keyring.read_key(source))
  (folder / "theirs.json").write_bytes(keyjax.card.format_card(card))
  checked = run("card", "check", "theirs.json", "--verify-key", verify)
  assert checked.code == 0, checked.err
  assert "theirs\\x1b[2J is not known here: its class is not" in checked.out
  shown = run("card", "show", "theirs.json")
  text = "theirs\\x1b[2J: cryptographic (as stated; not known here)"
  assert shown.code == 0 and text in shown.out
  assert "\x1b" not in checked.out + shown.out


def test_without_a_key_the_signature_is_not_checked(run, signer):
  run(*MAKE, *COUNTER, "--sign", signer[0])
  assert "signature: not checked" in run("card", "check", "card.json").out
  run(*MAKE, "--scheme", "counter", "--out", "unsigned.json")
  assert "signature: none" in run("card", "check", "unsigned.json").out
  answer = run("card", "check", "unsigned.json", "--verify-key", signer[1])
  assert answer.code == 1 and "is not signed" in answer.err


def test_changed_cards_and_models_are_refused(run, folder, signer):
  source, verify = signer
  run(*MAKE, *COUNTER, "--model", "model.bin", "--sign", source)
  text = (folder / "card.json").read_text()
  changed = text.replace('"commit":"0123abc"', '"commit":"0123abd"')
  assert changed != text
  (folder / "forged.json").write_text(changed)
  answer = run("card", "check", "forged.json", "--verify-key", verify)
  assert answer.code == 1 and "was changed" in answer.err
  (folder / "model.bin").write_bytes(b"lockee")
  answer = run("card", "check", "card.json", "--model", "model.bin")
  assert answer.code == 1 and "not the model" in answer.err
  (folder / "later.json").write_text(
    text.replace('"version":1}', '"version":2}')
  )
  answer = run("card", "show", "later.json")
  assert answer.code == 1 and "another version than 1" in answer.err


@pytest.mark.parametrize(
  "argv, code, sentence",
  [
    ((*MAKE, "--out", "card.json"), 1, "about one scheme"),
    (("card", "make", "--rows", "gone", *COUNTER), 4, "gone"),
    ((*MAKE, *COUNTER, "--model", "gone"), 4, "gone"),
    ((*MAKE, *COUNTER, "--answers", "rows.jsonl"), 1, "a JSON object"),
    ((*MAKE, *COUNTER, "--key-fingerprint", "a b"), 1, "a name has"),
    ((*MAKE, *COUNTER, "--key-fingerprint", "ab" * 32), 2, "private key"),
    (
      (*MAKE, *COUNTER, "--sign", "file:gone"),
      4,
      "key file gone does not exist",
    ),
    (("card", "check", "model.bin"), 1, "a card is not JSON"),
    (("card", "check", "gone"), 4, "gone"),
    (("card",), 2, "required: COMMAND"),
    (("card", "burn"), 2, "invalid choice"),
  ],
)
def test_errors_are_one_line(run, argv, code, sentence):
  answer = run(*argv)
  assert answer.code == code and sentence in answer.err, answer.err
  assert answer.err.count("\n") == 1
  assert not pathlib.Path("card.json").exists()


def test_a_card_is_not_overwritten(run, folder):
  (folder / "card.json").write_text("mine")
  assert run(*MAKE, *COUNTER).code == 4
  assert (folder / "card.json").read_text() == "mine"


def test_a_key_that_opens_does_not_sign(run):
  run("keygen", "x25519", "a.key", "--plain")
  answer = run(*MAKE, *COUNTER, "--sign", "file:a.key")
  assert answer.code == 2 and "does not sign" in answer.err


def test_the_owners_answers_are_in_the_card(run, folder):
  answers = {"prior_work": {"answer": "yes", "because": "see docs \x1b[2J"}}
  (folder / "answers.json").write_text(json.dumps(answers))
  assert run(*MAKE, *COUNTER, "--answers", "answers.json").code == 0
  shown = run("card", "show", "card.json").out
  assert "(owner)" in shown and "\x1b" not in shown


@pytest.mark.parametrize("command", ["make", "check", "show"])
def test_help_of_each_fits_into_80_columns(command, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "80")
  with pytest.raises(SystemExit):
    cli.main(["card", command, "--help"])
  text = capsys.readouterr().out
  assert f"examples:\n  keyjax card {command} " in text
  assert max(map(len, text.split("\n"))) <= 80


@pytest.mark.slow
def test_a_process_makes_the_same_bytes(run, folder):
  run(*MAKE, *COUNTER)
  answer = process(*MAKE, "--scheme", "counter", "--out", "again.json")
  assert answer.code == 0, answer.err
  again = (folder / "again.json").read_bytes()
  assert again == (folder / "card.json").read_bytes()


def test_an_accuracy_of_nan_is_not_shown(run):
  run(*MAKE, *COUNTER)
  card = keyjax.card.read_card("card.json")
  for row in card["accuracy"]:
    row["nonfinite"] = row["images"] * row["keys"] * 6 // 10
  pathlib.Path("nan.json").write_bytes(keyjax.card.format_card(card))
  shown = run("card", "show", "nan.json")
  assert shown.code == 0 and "60.00 not finite: proves nothing" in shown.out
  before = run("card", "show", "card.json").out
  assert "50.00" in before and "proves nothing" not in before
