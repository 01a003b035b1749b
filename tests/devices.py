"""Devices without hardware: a TPM (swtpm), tokens, a key in this process."""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
  Encoding,
  PublicFormat,
)

from keyjax import keyring

SOFTHSM = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")
TPM_MODULE = pathlib.Path("/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1")
TRIED = 10  # Seconds.


def _missing(program: str, package: str) -> str:
  """Return why tests with a device are skipped; empty if they are not."""
  if shutil.which(program) is None:
    return f"{program} is not installed"
  if importlib.util.find_spec(package) is None:
    return f"the Python package {package} is not installed"
  return ""


NO_TPM = _missing("swtpm", "tpm2_pytss")
NO_TOKEN = _missing("softhsm2-util", "pkcs11") or (
  "" if SOFTHSM.exists() else f"there is no {SOFTHSM}"
)
NO_LOCKING_TOKEN = (
  NO_TPM
  or _missing("pkcs11-tool", "pkcs11")
  or ("" if TPM_MODULE.exists() else f"there is no {TPM_MODULE}")
)
needs_tpm = pytest.mark.skipif(bool(NO_TPM), reason=NO_TPM)
needs_token = pytest.mark.skipif(bool(NO_TOKEN), reason=NO_TOKEN)
needs_locking_token = pytest.mark.skipif(
  bool(NO_LOCKING_TOKEN), reason=NO_LOCKING_TOKEN
)


class SoftwareKey(keyring.HardwareKey):
  """A key in the memory of this process, which remembers what it was asked."""

  __slots__ = ("asked", "private")

  def __init__(self, pin="1234"):
    self.private = ec.generate_private_key(ec.SECP256R1())
    self.asked = []
    form = Encoding.X962, PublicFormat.UncompressedPoint
    point = self.private.public_key().public_bytes(*form)
    super().__init__("software:1", point, pin)

  def _multiply(self, point, pin):
    self.asked.append(pin)
    if pin != "1234":
      raise keyring.KeyringError("the PIN is wrong")
    peer = ec.EllipticCurvePublicKey.from_encoded_point(
      ec.SECP256R1(), bytes(point)
    )
    return self.private.exchange(ec.ECDH(), peer)

  def status(self):
    return {}

  def forget(self):
    del self.private


class Emulator:
  """A TPM whose state is a folder.

  Attributes:
    state: The folder.
    tcti: How to reach it.
    log: File with every byte that crosses the bus, in hexadecimal.
  """

  def __init__(self, folder: pathlib.Path):
    self.state, self.log = folder / "state", folder / "log"
    self._socket = folder / "socket"
    self.tcti = f"swtpm:path={self._socket}"
    self._process: subprocess.Popen[bytes] | None = None

  def start(self) -> None:
    """Give it power."""
    self.state.mkdir(exist_ok=True)
    control = self._socket.with_suffix(".ctrl")
    for path in (self._socket, control):
      path.unlink(missing_ok=True)
    self._process = subprocess.Popen(
      [
        *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}"),
        *("--server", f"type=unixio,path={self._socket}"),
        *("--ctrl", f"type=unixio,path={control}"),
        *("--flags", "not-need-init,startup-clear"),
        *("--log", f"file={self.log},level=20"),
      ]
    )
    end = time.monotonic() + TRIED
    while not self._listens():
      assert self._process.poll() is None and time.monotonic() < end
      time.sleep(0.002)

  def _listens(self) -> bool:
    """Return whether both sockets accept; to connect would disturb the TPM."""
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()
    accepting = {x.split()[-1] for x in lines if " 00010000 " in x}
    control = self._socket.with_suffix(".ctrl")
    return {str(self._socket), str(control)} <= accepting

  def stop(self, *, orderly: bool = True) -> None:
    """Take its power, after a warning or without."""
    assert self._process is not None
    if orderly:
      self._process.terminate()
    else:
      self._process.kill()
    self._process.wait()

  def restart(self, *, orderly: bool = True) -> None:
    self.stop(orderly=orderly)
    self.start()


@contextlib.contextmanager
def emulator(state: pathlib.Path | None = None) -> Iterator[Emulator]:
  """Yield a running TPM, with a copy of a state or a fresh one."""
  # Not pytest's folder: the path of a socket has at most 107 bytes.
  with tempfile.TemporaryDirectory(prefix="tpm") as folder:
    tpm = Emulator(pathlib.Path(folder))
    if state is not None:
      shutil.copytree(state, tpm.state)
    tpm.start()
    try:
      yield tpm
    finally:
      tpm.stop()


def make_token(folder: pathlib.Path, label: str = "alice") -> None:
  """Make a token of SoftHSM2 in a folder, with the PIN 1234.

  The module reads SOFTHSM2_CONF, which must name `folder / "conf"`.
  """
  (folder / "tokens").mkdir(exist_ok=True)
  (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\n")
  command = ["softhsm2-util", "--init-token", "--free", "--label", label]
  subprocess.run(
    [*command, "--pin", "1234", "--so-pin", "5678"],
    check=True,
    capture_output=True,
    env=os.environ | {"SOFTHSM2_CONF": str(folder / "conf")},
  )


def make_locking_token(folder: pathlib.Path, tpm: Emulator) -> None:
  """Make a token of tpm2-pkcs11, with a key `model` and the PIN 1234.

  Wrong PINs are counted by the TPM. The module reads the variables of
  `locking_token`.
  """
  command = ["pkcs11-tool", "--module", str(TPM_MODULE), "--label"]
  for arguments in (
    ("alice", "--init-token", "--so-pin", "5678"),
    ("alice", "--init-pin", "--pin", "1234", "--so-pin", "5678"),
    ("model", "--keypairgen", "--key-type", "EC:prime256v1", "--pin", "1234"),
  ):
    login = ["--login", "--login-type", "so"] * ("--init-pin" in arguments)
    subprocess.run(
      [*command, *arguments, *login],
      check=True,
      capture_output=True,
      env=os.environ | locking_token(folder, tpm),
    )


def locking_token(folder: pathlib.Path, tpm: Emulator) -> dict[str, str]:
  """Return the environment of tpm2-pkcs11."""
  return {
    "TPM2_PKCS11_LOG_LEVEL": "0",
    "TPM2_PKCS11_STORE": str(folder),
    "TPM2_PKCS11_TCTI": tpm.tcti,
    "TSS2_LOG": "all+none",
  }
