"""Decisions about requests: release, wait for approvals, or refuse.

Requests are decided in batches, one transaction each. A decision is taken
before the private key is used, and an answer is sent after the transaction is
on the disk: what was released is always counted and logged.

A caller who did not receive an answer asks again under the same id, and gets
the same release, sealed to the same key, without another use.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from keyjax.errors import CannotOpen, KeyringError
from keyjax.keyring import Identity, KmsKey
from keyjax.keyring.envelope import envelope_context
from keyjax.keyring.recipients.release import answer_context
from keyjax.release.asks import Answer, Ask
from keyjax.release.deciding import (
  BusyError,
  Granted,
  RefusalError,
  decide,
  unavailable,
)
from keyjax.release.policy import Policy, PolicyFile
from keyjax.release.state import State

_THREADS = 8
_LOG = logging.getLogger("keyjax.release")


class _AgainError(Exception):
  """A key did not open a stanza: decide again, knowing that."""


class Releaser:
  """What a release server does, without the network."""

  def __init__(
    self,
    policy: PolicyFile,
    identities: Sequence[Identity],
    state: State,
    *,
    clock: Callable[[], float] = time.time,
  ):
    """Make a releaser.

    Args:
      policy: Who may open what.
      identities: Keys that unwrap.
      state: What is remembered.
      clock: Time in seconds since 1970.
    """
    self._policy = policy
    self._identities = list(identities)
    self._state = state
    self._clock = clock
    # Services answer many at once; a device must not be asked so.
    self._parallel = all(isinstance(x, KmsKey) for x in self._identities)
    self._threads = futures.ThreadPoolExecutor(_THREADS, "unwrap")

  def close(self) -> None:
    """End the threads that unwrap."""
    self._threads.shutdown()

  def answer(self, asks: Sequence[Ask]) -> list[Answer]:
    """Answer requests, after everything that they change is on the disk."""
    try:
      policy = self._policy.current()
    except (KeyringError, OSError) as error:
      _LOG.error("nothing is released: %s", error)
      return [unavailable("the policy cannot be read")] * len(asks)
    try:
      while True:
        try:
          return self._decide(asks, policy)
        except _AgainError:
          continue
    except sqlite3.Error as error:
      _LOG.error("nothing is released: the state cannot be written: %s", error)
      return [unavailable("the state cannot be written")] * len(asks)

  def _decide(self, asks: Sequence[Ask], policy: Policy) -> list[Answer]:
    now = self._clock()
    with self._state.change() as change:
      if policy.text != change.policy:
        change.append("policy", now, {"text": policy.text})
        change.policy = policy.text
      made = [decide(ask, policy, change, now) for ask in asks]
      granted = [x for x in made if isinstance(x, Granted)]
      fresh = [x for x in granted if x.ask.sealed is None]
      run = self._threads.map if self._parallel and len(fresh) > 1 else map
      list(run(self._unwrap, fresh))
      if any(x.ask.failure is not None for x in fresh):
        raise _AgainError  # Nothing of this batch has happened.
    return [
      x.answer(change.note) if isinstance(x, Granted) else x for x in made
    ]

  def _unwrap(self, granted: Granted) -> None:
    """Unwrap a data key, and seal it to the caller."""
    ask = granted.ask
    context = envelope_context(ask.checkpoint)
    try:
      found = (x.unwrap(ask.stanza, context) for x in self._identities)
      data_key = next((x for x in found if x is not None), None)
      if data_key is None:
        raise CannotOpen
      ask.sealed = granted.caller.recipient.wrap(
        data_key, answer_context(ask.id)
      )
    except KeyringError as error:  # Its message is not for callers.
      _LOG.warning("request %s: %s", ask.id, error)
      ask.failure = RefusalError("no key of this server opens it")
    except Exception as error:  # Of a key management service, say.
      _LOG.error("a key cannot be used: %s", type(error).__name__)
      ask.failure = BusyError("the key cannot be used now")
