import pathlib
import re

import pytest
from shamir_mnemonic.wordlist import WORDLIST

from keyjax import keyring
from tests.cli.conftest import assert_silent, secrets_of


@pytest.fixture
def shares(run):
  run("keygen", "secret", "root.key", "--plain")
  split = ("split", "file:root.key", "--threshold", 2, "--shares", 3)
  answer = run(*split, "--out", "shares")
  assert answer.code == 0, answer.err
  return answer


def test_any_two_of_three_restore(run, shares):
  assert_silent(shares, "root.key")
  files = shares.out.split()
  assert files == [f"shares/share-{i}.txt" for i in (1, 2, 3)]
  assert all(pathlib.Path(f).stat().st_mode & 0o077 == 0 for f in files)
  words = pathlib.Path(files[0]).read_text().split("\n")[1]
  assert len(words.split()) == 33 and words not in shares.out
  for i, pair in enumerate([files[:2], files[1:], files[::2]]):
    answer = run("combine", *pair, "--out", f"again-{i}", "--plain")
    assert answer.code == 0, answer.err
    assert_silent(answer, "root.key")
    assert secrets_of(f"again-{i}") == secrets_of("root.key")


def test_one_share_is_not_enough(run, shares):
  answer = run("combine", "shares/share-1.txt", "--out", "again", "--plain")
  assert answer.code == 1
  assert answer.err == "keyjax: 1 different shares, and 2 are needed\n"
  assert not pathlib.Path("again").exists()


def test_a_misread_word_is_refused_and_not_repeated(run, shares):
  path = pathlib.Path("shares/share-1.txt")
  head, words, _ = path.read_text().split("\n")
  wrong = words.split()
  wrong[7] = "academic" if wrong[7] != "academic" else "acid"
  path.write_text("\n".join([head, " ".join(wrong)]))
  pair = ("shares/share-1.txt", "shares/share-2.txt")
  answer = run("combine", *pair, "--out", "again", "--plain")
  assert answer.code == 1 and "share 1" in answer.err
  # No word of the message could be one of a share, whatever the shares.
  assert not set(re.findall("[a-z]+", answer.err.lower())) & set(WORDLIST)


def test_shares_of_two_secrets_do_not_mix(run, shares):
  run("keygen", "secret", "other.key", "--plain")
  split = ("split", "file:other.key", "--threshold", 2, "--shares", 2)
  run(*split, "--out", "others")
  pair = ("shares/share-1.txt", "others/share-2.txt")
  answer = run("combine", *pair, "--out", "again", "--plain")
  assert answer.code == 1 and "different secrets" in answer.err


def test_the_fingerprint_in_the_files_is_checked(run, shares):
  pair = [pathlib.Path(f"shares/share-{i}.txt") for i in (1, 2)]
  for path in pair:
    head, words, _ = path.read_text().split("\n")
    last = "0" if head[-1] != "0" else "1"
    path.write_text(f"{head[:-1]}{last}\n{words}\n")
  answer = run("combine", *pair, "--out", "again", "--plain")
  assert answer.code == 1 and "a different fingerprint" in answer.err


def test_shares_are_printed_when_asked(run, shares):
  split = ("split", "file:root.key", "--threshold", 2, "--shares", 2)
  answer = run(*split, "--print")
  secret = keyring.combine_shares(answer.out.splitlines())
  assert secret == keyring.read_key("file:root.key")
  words = run(*split, "--print", "--json").json["words"]
  assert keyring.combine_shares(words) == secret


def test_no_share_is_overwritten_and_none_left_behind(run, shares, folder):
  (folder / "more").mkdir()
  (folder / "more" / "share-2.txt").write_text("another's")
  split = ("split", "file:root.key", "--threshold", 2, "--shares", 3)
  answer = run(*split, "--out", "more")
  assert answer.code == 4
  assert [p.name for p in (folder / "more").iterdir()] == ["share-2.txt"]


@pytest.mark.parametrize(
  "numbers, sentence",
  [
    ((1, 3), "1 of 3 shares: at least 2 restore a secret"),
    ((4, 3), "4 of 3 shares: more are needed than there are"),
    ((2, 17), "17 shares: there are at most 16"),
  ],
)
def test_impossible_numbers_of_shares(run, shares, numbers, sentence):
  k, n = numbers
  argv = ("split", "file:root.key", "--threshold", k, "--shares", n)
  answer = run(*argv, "--out", "x")
  assert answer.code == 2 and sentence in answer.err


def test_files_that_are_not_shares(run, owner, folder):
  run("keygen", "x25519", "a.key", "--plain")
  answer = run(
    "split", "file:a.key", "--threshold", 2, "--shares", 2, "--out", "x"
  )
  assert answer.code == 2 and "another kind" in answer.err
  out = ("--out", "again", "--plain")
  assert run("combine", "absent", *out).code == 4
  assert run("combine", "model/_CHECKPOINT_METADATA", *out).code == 4
  pathlib.Path("other").write_bytes(bytes([200] * 9))
  pathlib.Path("other").chmod(0o600)
  assert run("combine", "other", *out).code == 1


def test_shares_stay_out_of_checkpoints(run, shares, owner):
  split = ("split", "file:root.key", "--threshold", 2, "--shares", 3)
  answer = run(*split, "--out", "model/shares")
  assert answer.code == 2
  assert not pathlib.Path("model/shares").exists()
