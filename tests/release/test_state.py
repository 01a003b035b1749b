"""What a server remembers, and changes of it that are refused."""

import sqlite3

import pytest

from keyjax import keyring, release
from keyjax.errors import ContentError, KeyringError
from keyjax.release.asks import parse_ask
from tests.release.world import NAME, ask_body


def answers(world, *bodies, certificate=None):
  """Return the answers to one batch."""
  who = certificate or world.certificates["trainer"]
  with world.releaser() as made:
    return made.answer([parse_ask(body, who) for body in bodies])


def bodies_of(world, *ids, **fields):
  stanza = world.key.wrap(bytes(32), b"keyjax/envelope/1/model/1")
  stanza["id"] = world.key.id
  return [ask_body(id=x * 32, stanza=stanza, **fields) for x in ids]


def test_one_batch_releases_no_more_than_is_left(world):
  world.write_policy(uses=2)
  found = answers(world, *bodies_of(world, *"0123"))
  assert [x.status for x in found] == [200, 200, 403, 403]
  assert [x.document.get("entry") for x in found] == [1, 2, None, None]
  assert [x.status for x in answers(world, *bodies_of(world, "4"))] == [403]


def test_one_id_twice_in_a_batch_is_one_use(world):
  world.write_policy(uses=1)
  found = answers(world, *bodies_of(world, *"00"))
  assert [x.status for x in found] == [200, 200]
  assert {x.document["entry"] for x in found} == {1}


def test_an_id_is_that_of_one_request(world):
  world.write_policy(approvals=1)
  [first] = bodies_of(world, "0")
  [other] = bodies_of(world, "0", checkpoint="model/2")
  assert [x.status for x in answers(world, first, other, first)] == [
    202,
    409,
    202,
  ]
  other_caller = answers(world, first, certificate=world.certificates["other"])
  assert other_caller[0].status == 409


def test_a_batch_with_a_stanza_that_does_not_open_releases_the_others(world):
  good = bodies_of(world, *"02")
  bad = ask_body(id="1" * 32, stanza={"id": world.key.id, "wrapped": "AAAA"})
  found = answers(world, good[0], bad, good[1])
  assert [x.status for x in found] == [200, 403, 200]
  assert len(world.entries()) == 4  # The policy, and one about each.


def test_a_full_disk_releases_nothing(world):
  with world.releaser() as made:
    made._state._db.execute("PRAGMA max_page_count = 1")  # SQLITE_FULL
    bodies = bodies_of(world, *"0123456789", evidence="x" * 6000)
    who = world.certificates["trainer"]
    found = made.answer([parse_ask(body, who) for body in bodies])
    assert {x.status for x in found} == {503}
    made._state._db.execute("PRAGMA max_page_count = 100000")
    found = made.answer([parse_ask(body, who) for body in bodies])
    assert {x.status for x in found} == {200}


def test_two_servers_cannot_share_a_state(world, monkeypatch):
  monkeypatch.setattr("keyjax.private_files._LOCK_TIMEOUT", 0.0)
  with world.releaser():
    with pytest.raises(KeyringError, match="another process"):
      with world.releaser():
        pass


def change(world, statement):
  db = sqlite3.connect(world.state / "release.sqlite")
  db.execute(statement)
  db.commit()
  db.close()


@pytest.mark.parametrize(
  "statement",
  [
    "UPDATE uses SET count = 0",
    "DELETE FROM uses",
    "DELETE FROM log WHERE number = 1",
    "UPDATE log SET entry = replace(entry, 'trainer', 'another')",
    "UPDATE log SET entry = 'text' WHERE number = 0",
    "INSERT INTO log SELECT 9, entry FROM log WHERE number = 1",
    "UPDATE note SET text = replace(text, 'keys', 'keyz')",
  ],
)
def test_a_changed_state_does_not_start(world, statement):
  assert answers(world, *bodies_of(world, "0"))[0].status == 200
  change(world, statement)
  with pytest.raises(ContentError):
    answers(world, *bodies_of(world, "1"))


def test_a_state_of_another_server_or_key_does_not_start(world):
  answers(world, *bodies_of(world, "0"))
  with pytest.raises(ContentError, match="is the state of"):
    with release.open_state(world.state, "other", world.log_key):
      pass
  with pytest.raises(ContentError, match="not signed with this key"):
    other = keyring.SigningKey.generate()
    with release.open_state(world.state, NAME, other):
      pass


def test_a_state_of_another_version_does_not_start(world):
  answers(world, *bodies_of(world, "0"))
  change(world, "PRAGMA user_version = 7")
  with pytest.raises(KeyringError, match="of version 7"):
    answers(world, *bodies_of(world, "1"))


def test_the_files_are_private(world):
  answers(world, *bodies_of(world, "0"))
  modes = {x.name: x.stat().st_mode & 0o777 for x in world.state.iterdir()}
  assert modes["release.sqlite"] == 0o600
  assert world.state.stat().st_mode & 0o777 == 0o700


def test_a_folder_without_a_state_is_refused(tmp_path):
  with pytest.raises(KeyringError, match="holds no state"):
    with release.read_state(tmp_path):
      pass
  (tmp_path / "release.sqlite").write_bytes(b"something else" * 100)
  with pytest.raises(KeyringError, match="cannot be used"):
    with release.read_state(tmp_path):
      pass


def test_no_key_is_in_the_state_or_a_repr(world):
  answers(world, *bodies_of(world, "0"))
  stored = b"".join(x.read_bytes() for x in world.state.iterdir())
  assert world.key.reveal() not in stored
  assert world.log_key.reveal() not in stored
  ask = parse_ask(bodies_of(world, "1")[0], "0" * 64)
  assert repr(ask) == f"<Ask {'1' * 32}>"
  with pytest.raises(TypeError):
    ask.__reduce_ex__(2)
