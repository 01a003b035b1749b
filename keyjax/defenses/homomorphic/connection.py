"""A server and its clients in two processes: a question and its answer.

Messages have a length before them, as `multiprocessing.connection` sends bytes;
nothing is unpickled. The first byte says what a message is. A client without
the `authkey` is turned away. Ciphertexts need no encryption on the way; but who
can change them on the way changes the outputs, unnoticed.
"""

import contextlib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client as connect
from multiprocessing.connection import Connection, Listener
from typing import Any

from keyjax.arguments import describe, show, whole_number
from keyjax.defenses.homomorphic.ckks import Server, Session
from keyjax.defenses.homomorphic.facts import Facts, facts_from
from keyjax.errors import (
  ArgumentError,
  ContentError,
  KeyjaxError,
  StorageError,
)

MOST_BYTES = 1 << 28  # Of a message; keys of the largest ring need less.
_FACTS, _KEYS, _QUESTION, _COST, _ERROR = (bytes([b]) for b in b"FKQCE")


class Conversation:
  """A server's side of a connection: a reply to each message."""

  def __init__(self, server: Server):
    """Start without a client's keys.

    Args:
      server: Network.
    """
    self._server = server
    self._session: Session | None = None
    self._answers, self._seconds = 0, 0.0

  def reply(self, message: bytes) -> bytes:
    """Return the reply; an error is one line."""
    try:
      return message[:1] + self._reply(message[:1], message[1:])
    except KeyjaxError as error:
      return _ERROR + " ".join(str(error).split()).encode()

  def _reply(self, kind: bytes, data: bytes) -> bytes:
    if kind == _FACTS:
      return json.dumps(self._server.facts._asdict()).encode()
    if kind == _KEYS:
      self._session = self._server.open(data)
      return b""
    if kind == _QUESTION:
      if self._session is None:
        raise ContentError("a question before the client's keys")
      start = time.process_time()
      found = self._session.answer(data)
      self._seconds += time.process_time() - start
      self._answers += 1
      return found
    if kind == _COST:
      cost = {"answers": self._answers, "seconds": self._seconds}
      return json.dumps(cost).encode()
    raise ContentError("not a message of a client")


class Remote:
  """A client's side of a connection."""

  def __init__(self, ask: Callable[[bytes], bytes]):
    """Use a connection.

    Args:
      ask: Returns the reply to a message.
    """
    self._ask = ask

  def facts(self) -> Facts:
    """Return what the server says of its network."""
    return facts_from(_as_json(self._checked(_FACTS)))

  def open(self, public: bytes) -> None:
    """Give the server the client's evaluation keys.

    Args:
      public: From `Client.public`.
    """
    self._checked(_KEYS, public)

  def answer(self, question: bytes) -> bytes:
    """Return the encrypted outputs for an encrypted input.

    Args:
      question: From `Client.encrypt`.
    """
    return self._checked(_QUESTION, question)

  def cost(self) -> dict[str, float]:
    """Return how many answers the server gave, and its processor seconds."""
    found = _as_json(self._checked(_COST))
    try:
      return {k: float(found[k]) for k in ("answers", "seconds")}
    except (KeyError, TypeError, ValueError):
      raise ContentError("not a reply of a server") from None

  def _checked(self, kind: bytes, data: bytes = b"") -> bytes:
    """Return the server's reply.

    Raises:
      ContentError: If the server refuses, or its reply is none.
      StorageError: If it is gone.
    """
    reply = self._ask(kind + data)
    if reply[:1] == _ERROR:
      text = reply[1:].decode(errors="replace")
      raise ContentError(f"the server refuses: {text}")
    if reply[:1] != kind:
      raise ContentError("not a reply of a server")
    return reply[1:]


def serve(server: Server, listener: Listener, clients: int = 1) -> None:
  """Answer clients, one after another.

  Args:
    server: Network.
    listener: With an `authkey`.
    clients: Connections to answer; those without the authkey do not count.

  Raises:
    ValueError: If clients is not a whole number.
  """
  for _ in range(whole_number(clients, "clients")):
    with _accepted(listener) as connection:
      talk = Conversation(server)
      # The client has left, or sent more than a message may have.
      with contextlib.suppress(EOFError, OSError):
        while True:
          connection.send_bytes(talk.reply(connection.recv_bytes(MOST_BYTES)))


def _accepted(listener: Listener) -> Connection:
  while True:
    with contextlib.suppress(multiprocessing.AuthenticationError, EOFError):
      return listener.accept()


@contextlib.contextmanager
def remote(address: Any, authkey: bytes) -> Iterator[Remote]:
  """Connect to a server.

  Args:
    address: Of its listener.
    authkey: The same bytes as the listener's.

  Yields:
    The server, as the client sees it.

  Raises:
    TypeError: If the authkey is not bytes.
    ArgumentError: If the address is none.
    StorageError: If nothing listens there, or the server is gone.
    ContentError: If the authkey is another one.
  """
  if not isinstance(authkey, bytes):  # Without one, nobody is turned away.
    raise TypeError(
      f"authkey is {describe(authkey)}: pass the listener's bytes"
    )
  try:
    connection = connect(address, authkey=authkey)
  except multiprocessing.AuthenticationError:
    raise ContentError(f"the server at {address} has another authkey") from None
  except (OSError, EOFError) as error:
    raise StorageError(f"no server at {address}: {error}") from None
  except (TypeError, ValueError, OverflowError):
    raise ArgumentError(
      f"address={show(address)}: pass that of the listener, a path or a host "
      "and its port"
    ) from None

  def ask(message: bytes) -> bytes:
    try:
      connection.send_bytes(message)
      return connection.recv_bytes(MOST_BYTES)
    except (OSError, EOFError):
      raise StorageError("the server is gone") from None

  with connection:
    yield Remote(ask)


def _as_json(data: bytes) -> Any:
  try:
    return json.loads(data)
  except ValueError:
    raise ContentError("not a reply of a server") from None
