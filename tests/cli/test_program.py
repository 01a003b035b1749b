"""The program as a process: help, completion, terminals, refusals."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import shtab
from shamir_mnemonic.wordlist import WORDLIST

from keyjax import Secret, checkpoint, cli, errors, keyring
from keyjax.aes import library
from keyjax.cli import exit_codes, kinds
from keyjax.cli.output import Result, show
from keyjax.cli.parsers import SHELLS
from keyjax.cli.program import parse
from tests.cli.conftest import Answer, assert_silent, process, raw_key
from tests.conftest import ROOT

COMMANDS = (
  "keygen",
  "public",
  "encrypt",
  "inspect",
  "verify",
  "decrypt",
  "rewrap",
  "revoke",
  "rotate",
  "split",
  "combine",
  "card",
  "keyring",
)


# Runs commands one after the other, and prints what they imported.
WITHOUT_JAX = """
import json, sys
import keyjax.cli
from keyjax.cli import kinds
before = len(sys.modules)
for argv in json.load(sys.stdin):
  try:
    keyjax.cli.main(argv)
  except SystemExit:
    pass
heavy = {"jax", "numpy", "flax", "orbax", "cryptography", "rich"}
heavy &= set(sys.modules)
path, key, out = sys.argv[1:]
keyjax.cli.main(["inspect", path])
public = {"jax", "numpy", "orbax", "tensorstore"} & set(sys.modules)
for argv in (["inspect", path], ["verify", path], ["decrypt", path, out]):
  keyjax.cli.main([*argv, "-i", "file:" + key])
print(json.dumps({
  "heavy": sorted(heavy),
  "inspect": sorted(public),
  "with a key": sorted({"jax", "orbax"} & set(sys.modules)),
  "modules": before,
  "keygen": kinds.keygen_kinds(),
  "recipient": kinds.argument_forms("recipient"),
  "identity": kinds.argument_forms("identity"),
}))
"""


@pytest.fixture(scope="module")
def without_jax(tmp_path_factory):
  """Run help, completion, wrong commands and readers in one new process."""
  folder = tmp_path_factory.mktemp("sealed")
  path, file, out = (folder / x for x in ("model", "key", "out.safetensors"))
  secret = Secret.generate()
  keyring.write_key(file, secret, plain=True)
  owner = keyring.SymmetricKey(secret)
  checkpoint.save(path, {"w": np.zeros(3, np.float32)}, owner)
  commands = [
    ["--help"],
    *([name, "--help"] for name in COMMANDS),
    ["--print-completion", "bash"],
    ["keygen", "dsa", "a.key"],
    ["encrypt", "model"],
    ["inspect", "model", "KEYJAX-SECRET-SECRET:AAAA"],
  ]
  done = subprocess.run(
    [sys.executable, "-c", WITHOUT_JAX, str(path), str(file), str(out)],
    input=json.dumps(commands),
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
  assert done.stdout.count("exit codes:") == 1 + len(COMMANDS)
  assert done.stderr.count("keyjax: ") == 3
  return json.loads(done.stdout.splitlines()[-1])


def test_help_completion_and_wrong_arguments_import_no_jax(without_jax):
  assert without_jax["heavy"] == []
  assert without_jax["modules"] < 150


@pytest.mark.parametrize("native", ("", "0"))
def test_the_version_names_the_cipher(native, monkeypatch, capsys):
  monkeypatch.setenv("KEYJAX_NATIVE", native)
  library.find.cache_clear()
  try:
    with pytest.raises(SystemExit) as ended:
      cli.main(["--version", "-v"])
    found = library.find()
  finally:
    library.find.cache_clear()
  assert ended.value.code == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith("keyjax ") and lines[2].startswith("jax ")
  kind = "not compiled" if found is None else "compiled"
  assert lines[1].startswith(f"cipher {kind}: ")
  assert cli.main(["--version", "rotate"]) == exit_codes.USAGE


def test_reading_a_checkpoint_needs_no_jax(without_jax):
  assert without_jax["inspect"] == []  # Without a key, not even NumPy.
  assert without_jax["with a key"] == []


def test_kinds_are_known_before_the_keyring_is_imported(without_jax):
  assert without_jax["keygen"] == kinds.keygen_kinds()
  assert {"x25519", "rsa", "secret", "ed25519"} <= set(kinds.keygen_kinds())
  for role in ("recipient", "identity"):
    assert without_jax[role] == kinds.argument_forms(role)
    assert "kms:FOLDER#KEY" in without_jax[role]
  assert set(kinds.keygen_kinds()) == {
    kind.name for kind in keyring.kinds().values() if kind.generate
  }


def test_choices_are_those_of_the_libraries():
  assert list(SHELLS) == shtab.SUPPORTED_SHELLS
  parsed = [
    parse(["decrypt", "a", "b", "--format", name]).format
    for name in checkpoint.WEIGHT_FORMATS
  ]
  assert parsed == list(checkpoint.WEIGHT_FORMATS)


@pytest.mark.parametrize(
  "error, code",
  [
    (errors.ArgumentError("x"), 2),
    (errors.StorageError("x"), 4),
    (errors.CheckpointStorageError("could not write"), 4),
    (errors.ContentError("x"), 1),
    (errors.CheckpointContentError("could not write"), 1),
    (errors.SealError(), 1),
    (errors.KeyringError("x"), 3),
    (errors.CannotOpen(), 3),
    (errors.WrongPassphrase(), 3),
    (FileNotFoundError("x"), 4),
    (ValueError("x"), 1),
  ],
)
def test_the_type_of_an_error_gives_the_exit_code(error, code):
  assert exit_codes.classify(error).code == code


def test_a_bug_is_not_an_exit_code():
  assert exit_codes.classify(TypeError("x")) is None


def test_help_lists_every_command(capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(["--help"])
  assert end.value.code == 0
  text = capsys.readouterr().out
  assert all(f"    {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_80_columns(command, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "80")
  with pytest.raises(SystemExit):
    cli.main([command, "--help"])
  text = capsys.readouterr().out
  assert "examples:\n  " in text and "exit codes:\n  0  success" in text
  assert max(map(len, text.split("\n"))) <= 80


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell, capsys):
  with pytest.raises(SystemExit) as end:
    cli.main(["--print-completion", shell])
  assert end.value.code == 0
  script = capsys.readouterr().out
  assert all(name in script for name in COMMANDS)
  assert "--threshold" in script
  if shell == "bash":
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_bash_completes_a_command(capsys):
  with pytest.raises(SystemExit):
    cli.main(["--print-completion", "bash"])
  script = capsys.readouterr().out + (
    "COMP_WORDS=(keyjax rew); COMP_CWORD=1; _shtab_keyjax\n"
    'printf "%s\\n" "${COMPREPLY[@]}"'
  )
  found = subprocess.run(
    ["bash"], input=script, text=True, capture_output=True, check=True
  )
  assert found.stdout.split() == ["rewrap"]


def test_a_key_on_the_command_line_is_refused_and_not_repeated(run):
  run("keygen", "x25519", "a.key", "--plain")
  run("keygen", "secret", "root.key", "--plain")
  secret = keyring.read_key("file:root.key")
  for path in ("a.key", "root.key"):
    with open(path) as file:
      text = file.read().strip()
    for argv in (["inspect", "model", "-i", text], ["split", text], [text]):
      answer = run(*argv)
      assert answer.code == 2 and "looks like a private key" in answer.err
      assert_silent(answer, path)
  share = keyring.split_secret(secret, 2, 2)[0]
  protected = keyring.protect_key(
    secret, "passphrase", keyring.Cost(19456, 1, 1)
  )
  for text in (
    share,
    protected,
    raw_key(secret).hex(),
    f"env:{raw_key(secret).hex()}",
  ):
    answer = run("combine", text, "--out", "x")
    assert answer.code == 2 and text not in answer.err
    assert f"argument {2}" in answer.err
  answer = run("combine", *share.split(), "--out", "x")
  assert answer.code == 2 and "looks like a private key" in answer.err
  # No word of the message could be one of a share, whatever the shares.
  assert not set(re.findall("[a-z]+", answer.err.lower())) & set(WORDLIST)


def test_assert_silent_finds_a_printed_key(run):
  run("keygen", "secret", "root.key", "--plain")
  secret = keyring.read_key("file:root.key")
  with open("root.key") as file:
    text = file.read().strip().partition(":")[2]
  for leak in (text, raw_key(secret).hex(), f"<{raw_key(secret)!r}>"):
    with pytest.raises(AssertionError):
      assert_silent(Answer(0, "", leak), "root.key")


def test_superfluous_arguments_are_not_repeated(run):
  answer = run("inspect", "model", "hunter2")
  assert answer.code == 2 and "hunter2" not in answer.err
  answer = run("inspect", "model", "--passwort=hunter2")
  assert answer.err == (
    "keyjax: unknown option --passwort; see keyjax inspect --help\n"
  )
  answer = run("card", "show", "card.json", "--all")
  assert answer.err.endswith("--all; see keyjax card show --help\n")
  run("keygen", "secret", "owner.key", "--plain")
  # Even if the command does not need it.
  for option, what in ("--passphrase", "passphrase"), ("--root", "key"):
    answer = run("rotate", "x", "--root", "file:owner.key", option, "hunter2")
    assert answer.code == 2 and "hunter2" not in answer.err
    assert answer.err.startswith(f"keyjax: a {what} comes from file:")
  assert run().code == 2
  assert run("insp", "model").code == 2
  assert run("inspect", "model", "--js").code == 2


def test_a_process_without_a_terminal_gives_a_code_and_one_line(folder):
  answer = process("keygen", "secret", "root.key")
  assert (answer.code, answer.out) == (2, "")
  assert answer.err == (
    "keyjax: a passphrase is needed and there is no terminal to ask on: give "
    "--passphrase SOURCE\n"
  )
  assert not (folder / "root.key").exists()


def typed(code, answers):
  """Run code on a terminal and type; return what the terminal showed."""
  return subprocess.run(
    [sys.executable, "-m", "tests.cli.typist", code],
    input=json.dumps(answers),
    capture_output=True,
    text=True,
    timeout=120,
    env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
  ).stdout


def test_a_passphrase_is_asked_for_twice_and_not_echoed(folder):
  code = (
    "from keyjax.cli import main\n"
    "for name in 'abcd':\n"
    "  print(name, main(['keygen', 'secret', name + '.key']))\n"
    "print('open', main(['split', 'file:a.key', '--threshold', '2',"
    " '--shares', '2', '--out', 'shares']))"
  )
  new, again = "New passphrase: ", "Again: "
  answers = [
    (new, "six random words"),
    (again, "six random words"),
    (new, "six random words"),
    (again, "six random worlds"),
    (new, "short"),
    (new, "\x03"),
    ("Passphrase of file:a.key: ", "six random words"),
  ]
  shown = typed(code, answers)
  assert "random" not in shown.replace("six random words are good", "")
  assert "a 0" in shown
  assert "the two passphrases differ" in shown and "b 2" in shown
  assert "at least 8 characters" in shown and "c 2" in shown
  assert "keyjax: interrupted" in shown and "d 130" in shown
  assert "open 0" in shown
  key = keyring.read_key("file:a.key", "six random words")
  assert isinstance(key, Secret)
  assert not (folder / "b.key").exists() and not (folder / "c.key").exists()


def test_a_terminal_shows_a_bar_and_json_none(owner):
  code = (
    "from keyjax.cli import main\n"
    "for more in [], ['--json']:\n"
    "  code = main(['verify', 'model', '-i', 'file:owner.key', *more])\n"
    "  print('<', code, '>')"
  )
  shown = typed(code, [])
  plain, machine, _ = shown.split("< 0 >")
  assert "opening every chunk" in plain and "every chunk opens" in plain
  assert machine.strip().startswith("{") and "\x1b" not in machine


def test_a_closed_pipe_is_not_an_error(owner, monkeypatch):
  read, write = os.pipe()
  os.close(read)
  with os.fdopen(write, "w") as pipe:
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main(["inspect", "model"]) == 4


def test_characters_that_a_terminal_lacks_are_escaped(monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
  monkeypatch.setattr(sys, "stdout", out)
  show(Result({}, ["poids d'entr\xe9e \x1b[2J"]), as_json=False)
  assert out.buffer.getvalue() == b"poids d'entr\\xe9e \\x1b[2J\n"


def test_the_script_is_this_program():
  text = (ROOT / "pyproject.toml").read_text()
  scripts = tomllib.loads(text)["project"]["scripts"]
  module, _, name = scripts["keyjax"].partition(":")
  assert getattr(importlib.import_module(module), name) is cli.main
