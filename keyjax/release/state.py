"""What a release server remembers: a SQLite file, changed in transactions.

Everything that one batch of requests changes - the log, its note, the uses, the
rates, the requests - is on the disk together, or not at all, before an answer
is sent. After a kill at any moment, the next start finds the state of the last
complete batch.

**Known breaks.** An older copy of the file is accepted: uses that it does not
know can be repeated. The notes that callers received reveal it.
"""

import collections
import contextlib
import json
import os
import pathlib
import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from keyjax import private_files
from keyjax.errors import ContentError, KeyringError
from keyjax.keyring import SigningKey
from keyjax.keyring.encoding import dump
from keyjax.release.log import Tree, check_entries, open_note, sign_note

_FILE = "release.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE log (number INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE note (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL);
CREATE TABLE uses (checkpoint TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE rates (caller TEXT PRIMARY KEY, free REAL NOT NULL);
CREATE TABLE requests (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, nonce TEXT NOT NULL,
  number INTEGER, released REAL);
"""
_MINUTE = 60.0


class Known(NamedTuple):
  """A request that was answered before.

  Attributes:
    digest: Digest of what was asked.
    nonce: The server's nonce.
    number: Number of the log's entry about its release; None if there is none.
    released: Time of it, in seconds since 1970.
  """

  digest: str
  nonce: str
  number: int | None
  released: float | None


class Change:
  """One transaction; see `State.change`."""

  def __init__(self, db: sqlite3.Connection, tree: Tree, policy: str):
    """Begin to change; `State.change` does it."""
    self._db = db
    self.tree = tree
    self.policy = policy
    self.note = ""

  def append(self, event: str, now: float, fields: dict[str, Any]) -> int:
    """Append an entry to the log, and return its number, from 0."""
    number = self.tree.size
    entry = dump(fields | {"event": event, "time": round(now, 3)})
    self._db.execute("INSERT INTO log VALUES (?, ?)", (number, entry))
    self.tree.append(entry)
    return number

  def take(self, caller: str, per_minute: int, now: float) -> bool:
    """Return whether a caller may ask now, and count that they do.

    A token bucket, stored as the time at which it is full again.
    """
    row = self._row("SELECT free FROM rates WHERE caller = ?", caller)
    free = max(now, row[0] if row else now) + _MINUTE / per_minute
    if free > now + _MINUTE + 1e-6:
      return False
    self._db.execute("REPLACE INTO rates VALUES (?, ?)", (caller, free))
    return True

  def uses(self, checkpoint: str) -> int:
    """Return how often the key of a checkpoint was released."""
    row = self._row("SELECT count FROM uses WHERE checkpoint = ?", checkpoint)
    return row[0] if row else 0

  def known(self, request: str) -> Known | None:
    """Return a request that was answered before."""
    row = self._row(
      "SELECT digest, nonce, number, released FROM requests WHERE id = ?",
      request,
    )
    return Known(*row) if row else None

  def remember(self, request: str, known: Known) -> None:
    """Remember a request."""
    self._db.execute(
      "REPLACE INTO requests VALUES (?, ?, ?, ?, ?)", (request, *known)
    )

  def count(self, checkpoint: str) -> int:
    """Count one release of a checkpoint's key; return how many there are."""
    count = self.uses(checkpoint) + 1
    self._db.execute("REPLACE INTO uses VALUES (?, ?)", (checkpoint, count))
    return count

  def _row(self, query: str, name: str) -> Any:
    return self._db.execute(query, (name,)).fetchone()


class State:
  """The state of a server, which holds its lock until it is closed."""

  def __init__(self, db: sqlite3.Connection, name: str, signer: SigningKey):
    """Use an open file; users call `open_state`."""
    self._db = db
    self._name = name
    self._signer = signer
    self._tree = Tree()
    self._policy = ""

  def load(self) -> None:
    """Verify the log, its note, and the uses that it records.

    Raises:
      ContentError: If one of them does not fit the others or the key.
    """
    head = open_note(_note(self._db), self._signer.public)
    if head.origin != self._name:
      raise ContentError(
        f"this is the state of {head.origin}, not {self._name}"
      )
    uses: collections.Counter[str] = collections.Counter()

    def observed() -> Iterator[bytes]:
      for entry in _entries(self._db):
        yield entry
        fields = json.loads(entry)
        if fields["event"] == "release":
          uses[fields["checkpoint"]] += 1
        elif fields["event"] == "policy":
          self._policy = fields["text"]

    try:
      self._tree = check_entries(observed(), [head])
    except (ValueError, TypeError, KeyError):
      raise ContentError("the log holds something else than entries") from None
    if self._tree.size != head.size:
      raise ContentError("the log has entries that were not signed")
    if dict(self._db.execute("SELECT checkpoint, count FROM uses")) != uses:
      raise ContentError("the uses are not those that the log records")

  @contextlib.contextmanager
  def change(self) -> Iterator[Change]:
    """Yield a transaction, which is on the disk when the block ends.

    Its `note` is then that of the log. After an exception nothing has changed.
    """
    self._db.execute("BEGIN IMMEDIATE")
    try:
      change = Change(self._db, self._tree.copy(), self._policy)
      yield change
      change.note = sign_note(self._name, change.tree, self._signer)
      self._db.execute("REPLACE INTO note VALUES (1, ?)", (change.note,))
      self._db.execute("COMMIT")
    except BaseException:
      if self._db.in_transaction:  # SQLite may have undone it, on a full disk.
        self._db.execute("ROLLBACK")
      raise
    self._tree = change.tree
    self._policy = change.policy


@contextlib.contextmanager
def open_state(
  folder: str | os.PathLike[str], name: str, signer: SigningKey
) -> Iterator[State]:
  """Open the state in a folder, or begin one; only one process can.

  Args:
    folder: Folder, which is created with mode 700.
    name: Name of the server.
    signer: Ed25519 key that signs the log.

  Raises:
    KeyringError: If another process has it, or it is of another version.
    ContentError: If the log was changed, or belongs to another server or key.
  """
  path = pathlib.Path(folder) / _FILE
  private_files.refuse_checkpoint_folder(path)
  path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
  with private_files.lock(path), _database(path) as db:
    state = State(db, name, signer)
    if not _note(db):
      with state.change():
        pass
    state.load()
    yield state


@contextlib.contextmanager
def read_state(
  folder: str | os.PathLike[str],
) -> Iterator[tuple[str, Iterator[bytes]]]:
  """Yield the note and the entries of a state, which a server may be using.

  Raises:
    KeyringError: If there is none, or it is of another version.
  """
  path = pathlib.Path(folder) / _FILE
  if not path.exists():
    raise KeyringError(f"{folder} holds no state of a release server")
  with _database(path) as db:
    db.execute("BEGIN")  # Both are of one moment.
    yield _note(db), _entries(db)


def _note(db: sqlite3.Connection) -> str:
  row = db.execute("SELECT text FROM note").fetchone()
  return str(row[0]) if row else ""


def _entries(db: sqlite3.Connection) -> Iterator[bytes]:
  # A cast: SQLite would return text where someone has stored text.
  query = "SELECT CAST(entry AS BLOB) FROM log ORDER BY number"
  for (entry,) in db.execute(query):
    yield entry


@contextlib.contextmanager
def _database(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
  if not path.exists():
    private_files.create(path, b"", "state")
  # One thread at a time uses it, but not always the same.
  db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
  try:
    # FULL: a commit returns when it is on the disk.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    [version] = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
      db.executescript(
        f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;"
      )
    elif version != _VERSION:
      raise KeyringError(
        f"the state is of version {version}, and this release of KeyJAX reads "
        f"version {_VERSION}"
      )
    yield db
  except sqlite3.DatabaseError as error:
    raise KeyringError(f"the state cannot be used: {error}") from None
  finally:
    db.close()
