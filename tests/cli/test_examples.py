"""All examples of the help texts, run in order in one folder."""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors import numpy as safetensors

from keyjax import cli, keyring, private_files
from keyjax.keyring.encoding import dump
from tests import devices
from tests.cards import write_rows
from tests.cli.conftest import assert_silent
from tests.conftest import ROOT
from tests.release.world import DATA_KEY, REQUEST, World
from tests.signatures.golden.make import new_key

KEYS = ("bob.key", "carol.key", "owner.key", "root.key", "service/team-a.key")
SERVER = "keyjax serve-keys "  # It runs until it is told to end.
WEIGHTS = {
  "dense.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
  "dense.bias": np.zeros(3, np.float16),
}


def help_of(capsys, *argv):
  with pytest.raises(SystemExit):
    cli.main([*argv, "--help"])
  return capsys.readouterr().out


def examples(capsys):
  """Return the lines of all examples, in the order of `keyjax --help`."""
  names = re.findall(r"^    ([a-z-]+) ", help_of(capsys), re.MULTILINE)
  assert len(names) > 16
  lines = []
  for name in names:
    text = help_of(capsys, name).split("examples:\n")[1].split("\n\n")[0]
    found = [x.strip() for x in text.replace("\\\n", "").split("\n")]
    assert any(line.startswith(f"keyjax {name} ") for line in found), name
    lines += found
  lines = [" ".join(line.split()) for line in lines]
  skipped = ("hardware", "tpm") if devices.NO_TPM else ()
  if importlib.util.find_spec("model_signing") is None:
    skipped += ("keyjax sign ", "--signature")
  return [x for x in lines if not any(word in x for word in skipped)]


@pytest.fixture
def tpm(monkeypatch):
  """Give the examples a TPM, if this machine can emulate one."""
  with contextlib.ExitStack() as stack:
    if not devices.NO_TPM:
      tcti = stack.enter_context(devices.emulator()).tcti
      monkeypatch.setenv("TPM2TOOLS_TCTI", tcti)
    yield


@pytest.fixture
def world(folder):
  """Write what examples need; return the callers of the release server."""
  safetensors.save_file(WEIGHTS, "model.safetensors")
  write_rows(folder)
  new_key("p256", folder, "signer")
  (folder / "request.json").write_bytes(dump(REQUEST))
  made = World(folder)
  made.write_policy()
  shutil.copy(made.authority.path, "clients.pem")
  for name, key in (("server", made.key), ("log", made.log_key)):
    private_files.create(f"{name}.key", keyring.format_key(key).encode(), "key")
  public = keyring.format_verify_key(made.log_key.public)
  (folder / "log.key.pub").write_text(public)
  return made


def serve(line, world):
  """Run the server of an example, on a free port, for one release."""
  *argv, address = shlex.split(line)
  assert argv[-1] == "--listen" and address == "127.0.0.1:8443"
  server = subprocess.Popen(
    [sys.executable, "-m", "keyjax.cli", *argv[1:], "127.0.0.1:0"],
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
  try:
    url = server.stdout.readline().split()[0]
    receipts = world.folder / "receipts.jsonl"
    caller = world.identity(url, receipts=receipts)
    opened = keyring.open_envelope(world.envelope(), [caller])
    assert opened.data_key == DATA_KEY
  finally:
    server.send_signal(signal.SIGTERM)
    out, _ = server.communicate(timeout=60)
  assert server.returncode == 0 and "no longer served" in out


def test_every_example_works_as_printed(run, folder, capsys, tpm, world):
  for line in examples(capsys):
    if line.startswith(SERVER):
      serve(line, world)
      continue
    if not line.startswith("keyjax "):
      subprocess.run(line, shell=True, check=True)
      continue
    answer = run(*shlex.split(line)[1:])
    assert answer.code == 0, (line, answer.err)
    assert answer.err == "" and answer.out.strip(), line
    assert_silent(answer, *(k for k in KEYS if (folder / k).exists()))
  opened = safetensors.load_file("opened.safetensors")
  assert set(opened) == set(WEIGHTS)
  for name, array in WEIGHTS.items():
    np.testing.assert_array_equal(opened[name], array)
  assert set(safetensors.load_file("kernels.safetensors")) == {"dense.kernel"}
  # What was rotated last opens for Alice, whose key has a passphrase.
  alice = ("-i", "file:alice.key", "--passphrase", "file:alice.pass")
  assert run("verify", "model-2", *alice).code == 0


@pytest.mark.slow
def test_every_example_works_in_a_shell(folder, capsys, tpm, world):
  lines = examples(capsys)
  [at] = [i for i, line in enumerate(lines) if line.startswith(SERVER)]
  in_a_shell(lines[:at])
  serve(lines[at], world)
  in_a_shell(lines[at + 1 :])


def in_a_shell(lines):
  script = f'keyjax() {{ {sys.executable} -m keyjax.cli "$@"; }}\nset -e\n'
  subprocess.run(
    ["bash", "-c", script + "\n".join(lines)],
    check=True,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
  )
