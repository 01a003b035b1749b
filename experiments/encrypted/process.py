"""A server in a process of its own, with weights that are sealed for it alone.

The server makes a key and tells its public half; whoever has the weights seals
them for it; the server opens them and answers. Its process is started afresh
(`spawn`): it inherits no memory, and gets no input, label or secret key.
"""

import contextlib
import multiprocessing
import pathlib
import secrets
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Listener
from typing import Any

import jax

from keyjax import checkpoint, keyring
from keyjax.defenses.homomorphic import ckks, connection

_SECONDS = 600  # That a server on a busy machine may take to start.


@contextlib.contextmanager
def serving(
  params: Any, folder: pathlib.Path, **options: Any
) -> Iterator[tuple[connection.Remote, int]]:
  """Start a server, and connect to it.

  Args:
    params: Weights; they reach the server only as a sealed checkpoint.
    folder: New folder of the checkpoint.
    **options: Of `ckks.Server`.

  Yields:
    The server as a client sees it, and the number of its process.

  Raises:
    RuntimeError: If the server ends before it answers.
  """
  context = multiprocessing.get_context("spawn")
  ours, theirs = context.Pipe()
  authkey = secrets.token_bytes(32)
  with tempfile.TemporaryDirectory() as private:  # Mode 700.
    address = f"{private}/socket"
    server = context.Process(
      target=_serve, args=(theirs, address, str(folder), options), daemon=True
    )
    server.start()
    theirs.close()
    try:
      recipient = keyring.parse_recipient(_received(ours))
      checkpoint.save(folder, params, recipient)
      ours.send(authkey)
      _received(ours)  # It listens.
      with connection.remote(address, authkey) as remote:
        yield remote, int(server.pid or 0)
    finally:
      server.join(10)
      if server.is_alive():
        server.terminate()


def _received(pipe: Any) -> Any:
  try:
    if pipe.poll(_SECONDS):
      return pipe.recv()
  except EOFError:
    pass
  raise RuntimeError("the server's process ended before it answered")


def _serve(pipe: Any, address: str, folder: str, options: Any) -> None:
  """Open the sealed weights and answer one client; the process's program."""
  jax.config.update("jax_platforms", "cpu")  # An accelerator is the client's.
  identity = keyring.HpkePrivateKey.generate()
  pipe.send(keyring.format_recipient(identity.public))
  authkey = pipe.recv()
  params = checkpoint.restore(folder, identity)
  server = ckks.Server(params, **options)
  with Listener(address, "AF_UNIX", authkey=authkey) as listener:
    pipe.send("listening")
    connection.serve(server, listener)
