"""Files that Windows wrote, and the version."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import keyjax
from keyjax import cli


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_keys_and_metadata(run, folder, encoding):
  save_file({"w": np.ones(2)}, folder / "m.safetensors")
  run("keygen", "x25519", "a.key", "--pub", "--plain")
  for name in ("a.key", "a.key.pub"):
    text = (folder / name).read_text()
    (folder / name).write_bytes(text.encode(encoding))
  (folder / "m.json").write_bytes('{"by": "me"}'.encode(encoding))
  to = ("--to", "@a.key.pub", "--metadata", "m.json")
  answer = run("encrypt", "m.safetensors", "c", *to)
  assert answer.code == 0, answer.err
  answer = run("decrypt", "c", "o.safetensors", "-i", "file:a.key")
  assert answer.code == 0, answer.err
  key = keyjax.keyring.as_identity(keyjax.keyring.read_key("file:a.key"))
  assert keyjax.checkpoint.read_metadata("c", key) == {"by": "me"}
  opened = (folder / "o.safetensors").read_bytes()
  assert opened == (folder / "m.safetensors").read_bytes()


def test_version(capsys):
  with pytest.raises(SystemExit) as caught:
    cli.main(["--version"])
  assert caught.value.code == 0
  assert capsys.readouterr().out.startswith("keyjax ")
