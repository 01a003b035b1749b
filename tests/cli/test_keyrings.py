"""Statuses of keys, licensees, traced copies, and devices of a tree."""

import pathlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from keyjax import checkpoint, keyring
from tests.cli.conftest import assert_silent

ROOT = ("--root", "file:root.key")


@pytest.fixture
def team(run):
  """Create a keyring, and weights to encrypt."""
  run("keygen", "secret", "root.key", "--plain")
  argv = ("keygen", "keyring", "team.keyring", "--name", "team", *ROOT)
  assert run(*argv).code == 0
  save_file({"w": np.ones(3, np.float32)}, "w.safetensors")


def test_statuses_of_keys(run, team):
  def ring(command, *key):
    return run("keyring", command, "team.keyring", *key, *ROOT)

  to = ("--to", "keyring:team.keyring", *ROOT)
  assert run("encrypt", "w.safetensors", "c", *to).code == 0
  verify = ("verify", "c", "-i", "keyring:team.keyring", *ROOT)
  refused = ring("disable", "team/1")
  assert refused.code == 2 and "promote another key first" in refused.err
  assert run("rotate", "team.keyring", *ROOT).code == 0
  assert "team/1 disabled aes:" in ring("disable", "team/1").out
  refused = run(*verify)
  assert refused.code == 3 and "key team/1 is disabled" in refused.err
  assert ring("enable", "team/1").code == 0 and run(*verify).code == 0
  refused = ring("destroy", "team/1")
  assert refused.code == 2 and "disable it first" in refused.err
  ring("disable", "team/1")
  assert ring("destroy", "team/1").code == 0
  shown = run("keyring", "show", "team.keyring", *ROOT, "--json")
  assert [k["status"] for k in shown.json["keys"]] == ["destroyed", "enabled"]
  assert run(*verify).code == 3
  assert ring("enable", "team/1").code == ring("enable", "x").code == 2
  assert_silent(shown, "root.key")


def test_copies_of_licensees_are_traced(run, team):
  issue = ("keyring", "issue", "team.keyring", "lab")
  answer = run(*issue, "lab.key", "--plain", *ROOT)
  assert answer.code == 0, answer.err
  assert_silent(answer, "lab.key", "root.key")
  assert run(*issue, "lab.key", "--plain", *ROOT).code == 4
  run(*issue, "again.key", "--plain", *ROOT)
  assert pathlib.Path("again.key").read_text() == (
    pathlib.Path("lab.key").read_text()
  )
  encrypt = ("encrypt", "w.safetensors")
  to = ("--to", "keyring:team.keyring", *ROOT)
  assert run(*encrypt, "plain", *to).code == 0
  marked = ("--licensee", "team.keyring#lab")
  assert run(*encrypt, "copy", *to, *marked).code == 0
  assert run("verify", "copy", "-i", "file:lab.key").code == 0
  # Whoever leaks it can replace the envelope.
  run("keygen", "x25519", "thief.key", "--plain", "--pub")
  steal = ("rewrap", "copy", "-i", "file:lab.key", "--to", "@thief.key.pub")
  assert run(*steal).code == 0
  trace = ("team.keyring", *ROOT, "--json")
  assert run("keyring", "trace", "copy", *trace).json["licensee"] == "lab"
  assert run("keyring", "trace", "plain", *trace).json["licensee"] is None
  mine = ("-i", "keyring:team.keyring", *to, *marked)
  old = checkpoint.inspect("plain")["envelope"]["recipients"][0]
  run("rotate", "team.keyring", *ROOT)
  again = run("revoke", "plain", "copy-2", *mine, "--recipient", old)
  assert again.code == 0, again.err
  assert run("keyring", "trace", "copy-2", *trace).json["licensee"] == "lab"
  assert run("keyring", "withdraw", "team.keyring", "lab", *ROOT).code == 0
  for refused in (
    run(*encrypt, "other", *to, *marked),
    run(*issue, "new.key", "--plain", *ROOT),
    run(*encrypt, "other", *to, "--licensee", "lab"),
    run(*encrypt, "other", *to, "--licensee", "team.keyring#none"),
  ):
    assert refused.code == 2 and refused.err.count("\n") == 1, refused.err
  assert not pathlib.Path("other").exists()
  assert run("keyring", "trace", "copy", *trace).json["licensee"] == "lab"


def test_licensees_of_a_tree_are_revoked(run, team):
  run("keygen", "secret", "tree.key", "--plain")
  for n in ("3", "5"):
    device = ("keyring", "device", "file:tree.key#3", n, f"{n}.key", "--plain")
    answer = run(*device)
    assert answer.code == 0 and f"licensee {n} of broadcast:" in answer.out
    assert_silent(answer, f"{n}.key", "tree.key")
  assert run(*device[:3], "8", "8.key", "--plain").code == 2
  owner = ("--to", "file:root.key")
  to = ("--to", "broadcast:file:tree.key#3")
  assert run("encrypt", "w.safetensors", "a", *to, *owner).code == 0

  def opens(path):
    return [run("verify", path, "-i", f"file:{n}.key").code for n in "35"]

  assert opens("a") == [0, 0]
  revoke = ("revoke", "a", "b", "-i", "file:root.key", *owner)
  refused = run(*revoke, *to)
  assert refused.code == 2 and "who loses access?" in refused.err
  answer = run(*revoke, "--to", "broadcast:file:tree.key#3-5")
  assert answer.code == 0 and "licensee 5 of broadcast:" in answer.out
  assert opens("b") == [0, 3]
  # To forget the number in the next command does not readmit them.
  again = ("rewrap", "b", "-i", "file:root.key", *owner)
  refused = run(*again, *to)
  assert refused.code == 2 and "licensee 5 of broadcast:" in refused.err
  assert "only `reinstate`" in refused.err and opens("b") == [0, 3]
  assert run(*again, *to, "--reinstate").code == 0
  assert opens("b") == [0, 0]
  assert isinstance(keyring.read_key("file:3.key"), keyring.DeviceKeys)
