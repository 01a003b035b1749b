"""Envelopes: who can open them, and what an attacker can do with one."""

import itertools
import json
import os

import pytest

from keyjax import Secret, keyring, seal
from keyjax.keyring import encoding
from keyjax.keyring.envelope import _private_key
from tests.keyring.conftest import CHEAP, KINDS

ID = "model-a/1000"
FLAT = "^cannot open: no key given opens it, or the data is damaged$"


def sealed_for(*people, data_key=None, **more):
  return keyring.seal_envelope(
    data_key or os.urandom(32), people, checkpoint=ID, **more
  )


def edited(envelope, **changes):
  """Return an envelope edited by an attacker, in canonical form."""
  return encoding.dump(json.loads(envelope) | changes)


def recipient():
  return keyring.SymmetricKey(Secret.generate())


def test_each_kind_as_the_only_recipient(kind, make_pair):
  person, identity = make_pair(kind)
  data_key, extra = os.urandom(32), {"step": 7, "names": ["a", None], "x": 0.5}
  envelope = sealed_for(
    person,
    data_key=data_key,
    metadata=extra,
    created="2026-05-01T10:00:00+02:00",
  )
  opened = keyring.open_envelope(envelope, [identity], checkpoint=ID)
  assert opened.data_key == data_key and opened.metadata == extra
  assert opened.checkpoint == ID and opened.id == person.id
  assert opened.created == "2026-05-01T10:00:00+02:00"
  with pytest.raises(keyring.CannotOpen, match=FLAT):
    keyring.open_envelope(envelope, [recipient()])


def test_each_kind_among_others(make_pair):
  kinds = [k for k in KINDS if k != "passphrase"]
  pairs = [make_pair(kind) for kind in kinds * 2]
  data_key = os.urandom(32)
  envelope = sealed_for(*(p for p, _ in pairs), data_key=data_key)
  for person, identity in pairs:
    opened = keyring.open_envelope(envelope, [recipient(), identity])
    assert opened.data_key == data_key and opened.id == person.id
  public = keyring.inspect_envelope(envelope)
  assert public == {
    "version": 1,
    "checkpoint": ID,
    "recipients": [person.id for person, _ in pairs],
    "revoked": [],
  }


def test_without_a_key_only_ids_are_visible():
  person = keyring.Expiring(recipient(), "2030-01-01T00:00:00Z")
  envelope = sealed_for(
    person, metadata={"owner": "alice"}, created="2026-05-01T10:00:00Z"
  )
  for word in (b"alice", b"owner", b"2030", b"2026"):
    assert word not in envelope
  assert json.loads(envelope).keys() == {
    *("checkpoint", "mac", "recipients", "revoked", "sealed", "version")
  }
  assert envelope == encoding.dump(json.loads(envelope))


def test_rewrap_keeps_the_data_key():
  old, new, gone = recipient(), recipient(), recipient()
  data_key = os.urandom(32)
  envelope = sealed_for(old, gone, data_key=data_key, metadata={"step": 7})
  again = keyring.rewrap_envelope(
    envelope, [old], [old, new], revoked=[gone.id]
  )
  for key in (old, new):
    opened = keyring.open_envelope(again, [key])
    assert opened.data_key == data_key and opened.metadata == {"step": 7}
  with pytest.raises(keyring.KeyringError, match=f"{gone.id} was revoked"):
    keyring.open_envelope(again, [gone])
  # They are told; the old envelope still opens, as documented.
  assert keyring.open_envelope(envelope, [gone]).data_key == data_key
  with pytest.raises(keyring.CannotOpen):
    keyring.rewrap_envelope(envelope, [new], [new])


def test_a_revoked_recipient_needs_explicit_reinstatement():
  old, gone = recipient(), recipient()
  envelope = sealed_for(old, revoked=[gone.id, "aes:other"])
  both = [*keyring.existing_recipients(envelope, [old]), gone]
  with pytest.raises(keyring.KeyringError, match="was revoked; only `reinst"):
    keyring.rewrap_envelope(envelope, [old], both)
  back = keyring.rewrap_envelope(envelope, [old], both, reinstate=True)
  assert keyring.inspect_envelope(back)["revoked"] == ["aes:other"]
  assert keyring.open_envelope(back, [gone]).id == gone.id


def test_a_recipient_cannot_be_revoked_at_once():
  old, gone = recipient(), recipient()
  with pytest.raises(keyring.KeyringError, match="a recipient and revoked"):
    sealed_for(old, gone, revoked=[gone.id])
  envelope = sealed_for(old)
  with pytest.raises(keyring.KeyringError, match="a recipient and revoked"):
    keyring.rewrap_envelope(
      envelope, [old], [old], revoked=[old.id], reinstate=True
    )


def test_expiry():
  key = recipient()
  past = keyring.Expiring(key, "2020-01-01T00:00:00Z")
  future = keyring.Expiring(key, "2999-01-01T00:00:00Z")
  assert keyring.open_envelope(sealed_for(future), [key]).checkpoint == ID
  with pytest.raises(keyring.KeyringError, match="expired at 2020-01-01T00:"):
    keyring.open_envelope(sealed_for(past), [key])
  other = recipient()  # One expired recipient does not affect another.
  both = sealed_for(past, other)
  assert keyring.open_envelope(both, [other]).id == other.id
  for keys in ([key, other], [other, key]):
    assert keyring.open_envelope(both, keys).id == other.id
  for wrong in ("tomorrow", "2020-01-01", "2020-01-01T00:00:00", "", None):
    with pytest.raises(keyring.KeyringError, match="a time looks like"):
      keyring.Expiring(key, wrong)
  with pytest.raises(keyring.KeyringError, match="a time looks like"):
    sealed_for(key, created="yesterday")


def test_the_keyring_reports_the_status_of_a_key(ring):
  first = ring.entries[0].id
  envelope = sealed_for(ring.recipient())
  ring.rotate()
  assert keyring.open_envelope(envelope, ring.identities()).checkpoint == ID
  ring.disable(first)
  with pytest.raises(keyring.KeyringError, match="^key team-a/1 is disabled$"):
    keyring.open_envelope(envelope, [recipient(), *ring.identities()])
  both = sealed_for(keyring.SymmetricKey(ring.entries[0].secret), recipient())
  with pytest.raises(keyring.KeyringError, match="team-a/1 is disabled"):
    keyring.open_envelope(both, ring.identities())
  ring.destroy(first)
  with pytest.raises(keyring.KeyringError, match="^key team-a/1 is destroyed$"):
    keyring.open_envelope(envelope, ring.identities())
  # A usable key is preferred to an unusable one.
  spare = recipient()
  both = keyring.seal_envelope(bytes(32), [spare], checkpoint=ID)
  opened = keyring.open_envelope(both, [*ring.identities(), spare])
  assert opened.id == spare.id


def test_an_envelope_of_another_checkpoint_is_refused():
  key = recipient()
  with pytest.raises(keyring.KeyringError, match=f"belongs to checkpoint {ID}"):
    keyring.open_envelope(sealed_for(key), [key], checkpoint="model-b")


@pytest.mark.parametrize("version", [0, 2, 2**40])
def test_unknown_versions_are_refused(version):
  key = recipient()
  with pytest.raises(keyring.KeyringError, match=f"version {version}: this re"):
    keyring.open_envelope(edited(sealed_for(key), version=version), [key])


def test_every_edit_is_detected():
  key, other = recipient(), recipient()
  envelope = sealed_for(key, other, revoked=["aes:gone"], metadata={"a": 1})
  document = json.loads(envelope)
  stranger = json.loads(sealed_for(recipient()))
  first, second = document["recipients"]
  swapped = [
    first | {"wrapped": second["wrapped"]},
    second | {"wrapped": first["wrapped"]},
  ]
  edits = [
    {"checkpoint": "model-b"},
    {"mac": stranger["mac"]},
    {"sealed": stranger["sealed"]},
    {"revoked": []},
    {"revoked": ["aes:gone", "aes:more"]},
    {"recipients": [first]},
    {"recipients": [second, first]},
    {"recipients": [first, second, *stranger["recipients"]]},
    {"recipients": swapped},
    {"recipients": [first | {"more": 1}, second]},
  ]
  for edit in edits:
    with pytest.raises(keyring.CannotOpen, match=FLAT):
      keyring.open_envelope(edited(envelope, **edit), [key])
  assert keyring.open_envelope(edited(envelope), [key]).metadata == {"a": 1}


def test_stanzas_do_not_move_between_checkpoints(kind, make_pair):
  """Even if one data key is used for two checkpoints by mistake."""
  person, identity = make_pair(kind)
  data_key = bytes(32)
  a = keyring.seal_envelope(data_key, [person], checkpoint="a")
  b = keyring.seal_envelope(data_key, [person], checkpoint="b")
  moved = edited(b, recipients=json.loads(a)["recipients"])
  with pytest.raises(keyring.CannotOpen, match=FLAT):
    keyring.open_envelope(moved, [identity])


def test_every_changed_byte_is_detected():
  key = recipient()
  envelope = sealed_for(key)
  for at, bit in itertools.product(range(len(envelope)), (0, 5)):
    broken = bytearray(envelope)
    broken[at] ^= 1 << bit
    with pytest.raises(keyring.KeyringError):
      keyring.open_envelope(bytes(broken), [key])
  for size in range(len(envelope)):
    with pytest.raises(keyring.KeyringError):
      keyring.open_envelope(envelope[:size], [key])


def test_other_data_is_not_an_envelope():
  good = sealed_for(recipient())
  document = json.loads(good)
  (stanza,) = document["recipients"]
  wrong = {
    "is not JSON": [b"", b"\0", b"{", b"[" * 900, b'{"a":NaN}', b"\xff"],
    "canonical form": [
      *(b"[]", b"1", b'""', b"null", b'{"a": 1}', good + b"\n"),
      good.replace(b'{"checkpoint"', b'{"checkpoint":"x","checkpoint"', 1),
      good.replace(b'"model', b'"\\u006dodel', 1),
      b'{"b":1,"a":1}',
    ],
    "'version' is missing": [b"{}", edited(good, version="1")],
    "missing or unknown fields": [edited(good, more=1)],
    "checkpoint: a name has": [
      edited(good, checkpoint=x) for x in ("", "a b", "\x1b[31m", "a" * 129)
    ],
    "recipient: a name has": [
      edited(good, recipients=[stanza | {"id": "two words"}])
    ],
    "revoked: a name has": [edited(good, revoked=[1])],
    "'recipients' is missing": [edited(good, recipients={})],
    "at least one recipient": [edited(good, recipients=[])],
    "listed twice": [edited(good, recipients=[stanza, stanza])],
    "not a small object": [
      *(edited(good, recipients=[x]) for x in (1, [], {}, "x")),
      edited(good, recipients=[{str(i): 1 for i in range(13)}]),
    ],
    "a field of another type": [
      edited(good, recipients=[stanza | {"x": x}])
      for x in (None, True, 1.5, [], {})
    ],
    "'mac' is missing": [edited(good, mac=None)],
    "'mac' has 0 bytes": [edited(good, mac="")],
    "is not base64": [edited(good, mac="?"), edited(good, sealed="\u00e9")],
    "canonical form$": [edited(good, sealed="AB==")],
  }
  for message, cases in wrong.items():
    for case in cases:
      with pytest.raises(keyring.KeyringError, match=message):
        keyring.inspect_envelope(case)


def test_huge_documents_are_refused_before_they_are_parsed(monkeypatch):
  def never(*args, **kwargs):
    raise AssertionError("it was parsed")

  many = b",".join([b"[]"] * 100_000)
  monkeypatch.setattr("keyjax.keyring.encoding.json.loads", never)
  for data, words in (
    (b'{"a":"' + b"a" * 2**24 + b'"}', "at most 16777216 are read"),
    (b"[" + many + b"]", "too many parts"),
    (b"[" * 2**20, "too many parts"),
    (b'{"a":' * 20_000, "too many parts"),
  ):
    with pytest.raises(keyring.KeyringError, match=words):
      keyring.inspect_envelope(data)


def test_huge_numbers_are_refused():
  for number in (b"9" * 5000, b"1" + b"0" * 400, b"1e999"):
    with pytest.raises(keyring.KeyringError):
      keyring.inspect_envelope(b'{"version":' + number + b"}")


def test_a_passphrase_is_the_only_recipient():
  """One file could otherwise test many passphrases, or claim an author."""
  word = keyring.Passphrase("six random words", CHEAP)
  envelope = sealed_for(word)
  (stanza,) = json.loads(envelope)["recipients"]
  other = json.loads(sealed_for(recipient()))["recipients"]
  for recipients in ([stanza, *other], [stanza, stanza]):
    with pytest.raises(keyring.KeyringError, match="only recip|listed twice"):
      keyring.open_envelope(edited(envelope, recipients=recipients), [word])
  with pytest.raises(keyring.KeyringError, match="only recipient"):
    sealed_for(word, recipient())


def test_one_stanza_opens_with_one_passphrase_only():
  """No stanza can fit two passphrases: the MAC commits to the key."""
  a = keyring.Passphrase("six random words", CHEAP)
  b = keyring.Passphrase("other words here", CHEAP)
  envelope = sealed_for(a)
  with pytest.raises(keyring.CannotOpen, match=FLAT):
    keyring.open_envelope(envelope, [b])
  cost = {"memory": 2**30, "passes": 3}
  (stanza,) = json.loads(envelope)["recipients"]
  greedy = edited(envelope, recipients=[stanza | cost])
  with pytest.raises(keyring.KeyringError, match="too expensive"):
    keyring.open_envelope(greedy, [a])


def test_an_insider_cannot_crash_a_reader(monkeypatch):
  """Anyone who knows the data key can write envelopes with a valid MAC."""
  key = recipient()
  for private in (
    {},
    {"created": 1, "expires": {}, "extra": {}},
    {"created": "", "expires": [], "extra": {}},
    {"created": "", "expires": {}, "extra": 1},
    {"created": "", "expires": {key.id: 5}, "extra": {}},
    {"created": "", "expires": {key.id: "soon"}, "extra": {}},
  ):
    with monkeypatch.context() as patch:
      patch.setattr(
        "keyjax.keyring.envelope._seal_private",
        lambda data_key, context, *_, private=private: encoding.encode(
          seal.seal(_private_key(data_key), encoding.dump(private), context)
        ),
      )
      envelope = sealed_for(key)
    with pytest.raises(keyring.KeyringError, match="another type|looks like"):
      keyring.open_envelope(envelope, [key])


def test_unusable_arguments_are_refused():
  key = recipient()
  for people, message in (
    ([], "at least one recipient"),
    ([key, key], "listed twice"),
    ([recipient() for _ in range(1025)], "1025 recipients: .* at most 1024"),
  ):
    with pytest.raises(keyring.KeyringError, match=message):
      sealed_for(*people)
  for extra, message in (
    ({"a": object()}, "does not fit into JSON"),
    ({"a": float("nan")}, "does not fit into JSON"),
    ({"a": "x" * 2**18}, "at most 262144"),
  ):
    with pytest.raises(keyring.KeyringError, match=message):
      sealed_for(key, metadata=extra)
  with pytest.raises(keyring.KeyringError, match="checkpoint: a name has"):
    keyring.seal_envelope(bytes(32), [key], checkpoint="a b")
  with pytest.raises(ValueError, match="32 bytes"):
    keyring.seal_envelope(bytes(16), [key], checkpoint=ID)


def test_the_largest_envelope_is_written_and_read():
  people = [recipient() for _ in range(1024)]
  envelope = sealed_for(*people, metadata={"a": "[,{" * 80_000})
  assert keyring.open_envelope(envelope, people[-1:]).id == people[-1].id
