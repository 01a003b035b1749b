"""A server whose key is in a TPM, on a token or in a service.

Each test seals a checkpoint for that key alone and opens it as a caller does,
`keyjax decrypt -i release:FILE` over mutual TLS. The TPM (swtpm) and the token
(SoftHSM2) belong to a real `keyjax serve-keys`; Cloud KMS is a server of its
two methods.
"""

import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from keyjax import checkpoint, cli, keyring
from tests import cloud_kms, devices
from tests.ports import free_port
from tests.release.world import process, write_settings

HANDLE = 0x81010001


@pytest.fixture
def model(world, monkeypatch):
  """Return a function that opens a checkpoint of the server, or tries to."""
  monkeypatch.chdir(world.folder)
  keyring.write_key("trainer.key", world.callers["trainer"], plain=True)
  keyring.write_key("log.key", world.log_key, plain=True)
  (world.folder / "pin").touch(mode=0o600)
  (world.folder / "pin").write_text("1234\n")

  def opens(url):
    write_settings(world, url)
    argv = ["decrypt", "model", "out.safetensors", "-i", "release:release.toml"]
    code = cli.main(argv)
    if code == 0:
      found = checkpoint.read_weights("out.safetensors")["w"]
      np.testing.assert_array_equal(found, np.arange(4))
    return code

  return opens


def seal(world, recipient):
  """Save a checkpoint for the key of the server alone."""
  world.key = recipient
  checkpoint.save("model", {"w": jnp.arange(4)}, recipient)
  [listed] = checkpoint.inspect("model")["envelope"]["recipients"]
  assert listed == recipient.id


def released(world):
  return sum(json.loads(x)["event"] == "release" for x in world.entries())


def serve_and_open(world, opens, identity, environment):
  """Serve with a key of a device; open the checkpoint, then end the server."""
  port = free_port()
  with process(world, port, identity, environment) as server:
    code = opens(f"https://127.0.0.1:{port}")
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
  return code


@pytest.mark.slow
@devices.needs_tpm
def test_a_key_in_a_tpm(world, model):
  with devices.emulator() as tpm:
    keyring.limit_tries(3, lockout="owner", tcti=tpm.tcti)
    key = keyring.TpmKey.create(HANDLE, "1234", tcti=tpm.tcti)
    seal(world, key.public)
    environment = {"TPM2TOOLS_TCTI": tpm.tcti}
    name = f"{key.name}#file:pin"
    assert serve_and_open(world, model, name, environment) == 0
    assert released(world) == 1
    # A wrong PIN is one try, however often callers ask.
    (world.folder / "pin").write_text("4321\n")
    (world.folder / "out.safetensors").unlink()
    port = free_port()
    with process(world, port, name, environment):
      assert [model(f"https://127.0.0.1:{port}") for _ in range(3)] == [3] * 3
    assert key.status()["left"] == 2 and released(world) == 1
    (world.folder / "pin").write_text("1234\n")
    key.forget()
    with pytest.raises(KeyError, match="url"):  # It does not listen.
      serve_and_open(world, model, name, environment)


@pytest.mark.slow
@devices.needs_token
def test_a_key_on_a_token(world, model, monkeypatch):
  import pkcs11

  devices.make_token(world.folder)
  environment = {
    "SOFTHSM2_CONF": str(world.folder / "conf"),
    "PKCS11_MODULE_PATH": str(devices.SOFTHSM),
  }
  for variable, value in environment.items():
    monkeypatch.setenv(variable, value)
  pkcs11.lib(str(devices.SOFTHSM)).reinitialize()
  key = keyring.Pkcs11Key.create("alice", "model", "1234")
  seal(world, key.public)
  name = f"{key.name}?pin-source=file:pin"
  assert serve_and_open(world, model, name, environment) == 0
  assert released(world) == 1
  (world.folder / "pin").unlink()  # It is read before the server listens.
  with pytest.raises(KeyError, match="url"):
    serve_and_open(world, model, name, environment)


@pytest.mark.slow
def test_a_key_of_cloud_kms(world, model, tmp_path):
  with cloud_kms.service(tmp_path / "kms") as (client, service):
    service.create("k")
    key = keyring.KmsKey(client, cloud_kms.GOOGLE_KEY)
    seal(world, key)
    with world.served(identities=[key]) as url:
      assert model(url) == 0
      assert released(world) == 1


@pytest.mark.slow
def test_a_service_that_refuses_releases_nothing(world, model, tmp_path):
  with cloud_kms.service(tmp_path / "kms") as (client, service):
    service.create("k")
    key = keyring.KmsKey(client, cloud_kms.GOOGLE_KEY)
    seal(world, key)
    (tmp_path / "kms/k.key").unlink()
    with world.served(identities=[key]) as url:
      assert model(url) == 3
  assert released(world) == 0


def test_a_pin_is_asked_for_once(world):
  asked = []
  key = devices.SoftwareKey(lambda: asked.append(1) or "1234")
  key.ask_pin()
  world.key = key
  with world.served() as url:
    opened = keyring.open_envelope(world.envelope(), [world.identity(url)])
  assert len(opened.data_key) == 32
  assert asked == [1] and key.asked == ["1234"]
