"""`keyjax hardware`, and keys in devices as recipients and identities."""

import argparse
import os
import re
import shlex
import subprocess

import numpy as np
import pytest

from keyjax import checkpoint
from keyjax.cli import key_reader
from keyjax.cli.exit_codes import Failure
from tests import devices
from tests.cli.conftest import write_private_file
from tests.conftest import ROOT

TPM = "tpm:0x81010001"


@pytest.fixture
def tpm(monkeypatch):
  with devices.emulator() as running:
    monkeypatch.setenv("TPM2TOOLS_TCTI", running.tcti)
    yield running


@pytest.fixture
def token(folder, monkeypatch):
  """The URI of a key on a token, which has a PIN in `token.pin`."""
  import pkcs11

  devices.make_token(folder)
  monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
  pkcs11.lib(str(devices.SOFTHSM)).reinitialize()
  write_private_file("token.pin", "1234\n")
  module = f"module-path={devices.SOFTHSM}"
  return f"pkcs11:token=alice;object=model?{module}&pin-source=file:token.pin"


def typed(monkeypatch, *answers):
  """Answer prompts; return those that were shown."""
  rest, shown = list(answers), []

  def ask(prompt="", instead=""):
    shown.append(prompt)
    return rest.pop(0)

  monkeypatch.setattr(key_reader, "ask_passphrase", ask)
  return shown


@devices.needs_tpm
def test_a_key_in_a_tpm_from_creation_to_forgetting(
  run, tpm, folder, monkeypatch
):
  checkpoint.write_weights("m.safetensors", {"w": np.ones(3, np.float32)})
  write_private_file("lockout", "the owner's\n")
  run("keygen", "secret", "backup.key", "--plain")
  refused = run("hardware", "create", f"{TPM}#file:lockout")
  assert refused.code == 3 and "keyjax hardware limit" in refused.err
  answer = run("hardware", "limit", "--lockout", "file:lockout", "--json")
  assert answer.json == {"tries": 3}
  shown = typed(monkeypatch, "1234", "1234", "1234", "4321", "1234", "1235")
  made = run("hardware", "create", TPM, "--pub", "tpm.pub", "--json")
  assert shown == [f"New PIN of {TPM}: ", "Again: "] and made.json["id"]
  both = ("--to", "@tpm.pub", "--to", "file:backup.key")
  assert run("encrypt", "m.safetensors", "m", *both).code == 0
  assert run("decrypt", "m", "1.safetensors", "-i", TPM).code == 0
  assert shown[2:] == [f"PIN of {TPM}: "]
  wrong = run("decrypt", "m", "2.safetensors", "-i", TPM)
  assert (wrong.code, wrong.out) == (3, "")
  assert wrong.err == f"keyjax: {TPM}: the PIN is wrong; tries left: 2\n"
  assert not (folder / "2.safetensors").exists()
  found = run("hardware", "show", TPM, "--json").json
  assert found["left"] == 2 and found["id"] == made.json["id"]
  assert "left: 2\n" in run("hardware", "show", TPM).out
  assert run("hardware", "create", "tpm:0x81010002").code == 2  # They differ.
  assert run("hardware", "forget", TPM).out.startswith(f"{TPM} is erased: p256")
  assert run("decrypt", "m", "2.safetensors", "-i", TPM).code == 3
  backup = ("-i", "file:backup.key")
  assert run("decrypt", "m", "2.safetensors", *backup).code == 0


@devices.needs_token
def test_a_key_on_a_token_from_creation_to_forgetting(run, token):
  checkpoint.write_weights("m.safetensors", {"w": np.ones(3, np.float32)})
  made = run("hardware", "create", token, "--json")
  assert made.code == 0, made.err
  run("keygen", "secret", "backup.key", "--plain")
  both = ("--to", token, "--to", "file:backup.key")
  assert run("encrypt", "m.safetensors", "m", *both).code == 0
  assert run("decrypt", "m", "1.safetensors", "-i", token).code == 0
  assert "locked: False" in run("hardware", "show", token).out
  assert made.json["id"] in run("hardware", "forget", token).out
  assert run("decrypt", "m", "2.safetensors", "-i", token).code == 3
  backup = ("-i", "file:backup.key")
  assert run("decrypt", "m", "2.safetensors", *backup).code == 0


@pytest.mark.parametrize(
  ("argv", "text"),
  [
    (("show", "file:a.key"), "is named pkcs11:URI or tpm:HANDLE[#SOURCE]"),
    (("create", "x25519:a"), "is named pkcs11:URI or tpm:HANDLE[#SOURCE]"),
    (("show", "tpm:7"), "named 0x81000000 to 0x817fffff"),
    (("show", "tpm:hunter2"), "named 0x81000000 to 0x817fffff"),
    (("forget", "pkcs11:token=a"), "named by its token= and object="),
    (("show", "pkcs11:token=a;object=b?pin-value=hunter2"), "pin-source=SOUR"),
    (("limit", "--tries", "0", "--irrevocable"), "--tries is at least 1"),
    (("limit",), "--lockout --irrevocable is required"),
    (("limit", "--lockout", "hunter2"), "passphrase comes from file:PATH"),
  ],
)
def test_what_names_no_key_in_a_device_is_refused(run, argv, text):
  answer = run("hardware", *argv)
  assert (answer.code, answer.out) == (2, "")
  assert text in answer.err and "hunter2" not in answer.err


def test_without_a_terminal_the_source_of_the_pin_is_needed(monkeypatch):
  def refuse(*args):
    raise OSError("no terminal")

  reader = key_reader.KeyReader(argparse.Namespace())
  with monkeypatch.context() as patch:
    patch.setattr(os, "open", refuse)
    with pytest.raises(Failure, match="give the SOURCE of the PIN$"):
      reader.pin("", TPM)


@devices.needs_tpm
@devices.needs_token
def test_the_commands_of_the_page_run(run, tpm, token, monkeypatch):
  monkeypatch.setenv("PKCS11_MODULE_PATH", str(devices.SOFTHSM))
  text = (ROOT / "docs/forget.md").read_text()
  blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
  assert len(blocks) == 2
  script = "".join(blocks).replace("\\\n", " ").strip()
  (uri,) = re.findall(r'^KEY="(.*)"$', script, re.M)
  for line in re.split(r"\n(?=keyjax |rm |KEY=|\()", script):
    # For `shlex`, unlike a shell, any # begins a comment.
    command = re.sub(r"\s#.*", "", line).replace("$KEY", uri)
    program, *argv = shlex.split(command)
    if program == "keyjax":
      answer = run(*argv)
      assert (answer.code != 0) == ("# refused" in line), (line, answer.err)
    elif program == "python":
      exec(argv[1], {})
    else:
      subprocess.run(line, shell=True, check=True)
  assert checkpoint.read_weights("opened.safetensors")["w"].tolist() == [1]
