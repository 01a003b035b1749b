"""A server that is killed under load: nothing lost, nothing released twice.

Real processes over real sockets. Callers try again until they have an answer.
"""

import contextlib
import itertools
import signal
import threading
import time

import pytest

from examples import verify_release_log
from keyjax import cli, keyring
from keyjax.keyring import open_envelope
from tests.ports import free_port
from tests.release.world import DATA_KEY, process

CALLERS = 4


def use_up(world, port, name, number, opened):
  """Open envelopes until the server refuses; count those that opened."""
  identity = world.identity(
    f"https://127.0.0.1:{port}",
    name,
    patience=100.0,
    receipts=world.folder / f"receipts-{number}.jsonl",
  )
  with contextlib.suppress(keyring.ReleaseRefused):
    while open_envelope(world.envelope(), [identity]).data_key == DATA_KEY:
      opened.append(number)
  identity.close()


@pytest.mark.faults
@pytest.mark.multiprocess
@pytest.mark.parametrize(
  ("uses", "kills"), [(30, 1), pytest.param(200, 5, marks=pytest.mark.slow)]
)
def test_a_server_killed_under_load_loses_nothing(
  world, monkeypatch, capsys, uses, kills
):
  monkeypatch.chdir(world.folder)
  world.write_policy(uses=uses)
  keyring.write_key("server.key", world.key, plain=True)
  keyring.write_key("log.key", world.log_key, plain=True)
  public = keyring.format_verify_key(world.log_key.public)
  port, opened = free_port(), []
  names = itertools.cycle(["trainer", "other"])
  threads = [
    threading.Thread(target=use_up, args=(world, port, name, i, opened))
    for i, name in zip(range(CALLERS), names, strict=False)
  ]
  for thread in threads:
    thread.start()
  for kill in range(1, kills + 1):
    with process(world, port) as server:
      while len(opened) < uses * kill // (kills + 1):
        assert all(thread.is_alive() for thread in threads)
        time.sleep(0.002)
      server.send_signal(signal.SIGKILL)
  assert len(opened) < uses
  with process(world, port) as server:
    for thread in threads:
      thread.join()
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
  assert len(opened) == uses
  assert cli.main(["release-log", "export", "state", "log"]) == 0
  # On a busy machine a caller may have come too late for any.
  receipts = sorted(x.name for x in world.folder.glob("receipts-*.jsonl"))
  verify = ["release-log", "verify", "log", "--verify-key", public]
  assert cli.main([*verify, "--receipts", *receipts]) == 0
  assert f"{uses} releases, {uses} receipts" in capsys.readouterr().out
  key = verify_release_log.public_key(public)
  found = verify_release_log.verify(world.folder / "log", key)
  assert found == {"model/1": uses}
