"""Releases over real sockets: approvals, revocation, counts, what is sealed."""

import json

import jax.numpy as jnp
import pytest

from keyjax import checkpoint, keyring, release
from keyjax.keyring import open_envelope
from keyjax.keyring.encoding import encode
from tests.release.world import DATA_KEY, NAME, running


def reason(envelope, identity):
  """Return why a release is refused."""
  with pytest.raises(keyring.ReleaseRefused) as found:
    open_envelope(envelope, [identity])
  assert "\n" not in str(found.value)
  return str(found.value)


def events(world):
  return [json.loads(x)["event"] for x in world.entries()]


def test_a_checkpoint_is_restored_by_way_of_the_server(world):
  saved = {"w": jnp.arange(3, dtype=jnp.float32)}
  checkpoint.save(world.folder / "model", saved, world.key.public)
  with world.served() as url:
    found = checkpoint.restore(world.folder / "model", world.identity(url))
  assert found["w"].tolist() == [0, 1, 2]
  assert events(world) == ["policy", "release"]


def test_two_of_three_approvals_open_and_one_does_not(world):
  world.write_policy(approvals=2)
  envelope = world.envelope()
  with world.served() as url:
    identity = world.identity(url)
    for name in ("alice", "carol"):
      with pytest.raises(keyring.ApprovalNeeded, match="of 2 approvals"):
        open_envelope(envelope, [identity])
      world.approve(name)
    assert open_envelope(envelope, [identity]).data_key == DATA_KEY
    # They were for one release: the next one needs its own.
    with pytest.raises(keyring.ApprovalNeeded, match="has 0 of 2"):
      open_envelope(envelope, [identity])
  assert events(world) == ["policy", "request", "release", "request"]


def test_one_approver_twice_is_one(world):
  world.write_policy(approvals=2)
  envelope = world.envelope()
  with world.served() as url:
    identity = world.identity(url)
    reason(envelope, identity)
    world.approve("alice")
    [path] = (world.folder / "requests").glob("*.json")
    again = path.with_suffix(".again.jwt")
    again.write_text(path.with_suffix(".alice.jwt").read_text())
    assert "has 1 of 2" in reason(envelope, identity)


def test_a_revoked_approver_does_not_open_what_they_approved_before(world):
  world.write_policy(approvals=2)
  envelope = world.envelope()
  with world.served() as url:
    identity = world.identity(url)
    reason(envelope, identity)
    world.approve("alice", "bob")
    world.write_policy(approvals=2, revoked=["bob"])
    assert "has 1 of 2" in reason(envelope, identity)
    world.approve("carol")
    assert open_envelope(envelope, [identity]).data_key == DATA_KEY


def test_a_revoked_caller_opens_nothing_from_the_next_request_on(world):
  with world.served() as url:
    identity = world.identity(url)
    assert open_envelope(world.envelope(), [identity])
    world.write_policy(revoked=["trainer"])
    assert "was revoked" in reason(world.envelope(), identity)
    other = world.identity(url, "other")
    assert open_envelope(world.envelope(), [other])
  assert events(world)[-2:] == ["refusal", "release"]


def test_a_key_is_released_as_often_as_the_rule_says(world):
  world.write_policy(uses=2)
  with world.served() as url:
    both = [world.identity(url, name) for name in ("trainer", "other")]
    for identity in both:
      assert open_envelope(world.envelope(), [identity])
    for identity in both:
      assert "released 2 times" in reason(world.envelope(), identity)
    assert open_envelope(world.envelope("model/2"), both[:1])
  with world.served() as url:  # After a restart too.
    assert "2 times" in reason(world.envelope(), world.identity(url))


def test_an_expired_rule_releases_nothing(world):
  world.write_policy(expires="2020-01-01T00:00:00Z")
  with world.served() as url:
    assert "expired at 2020" in reason(world.envelope(), world.identity(url))


def test_the_rate_counts_at_once_and_survives_a_restart(world):
  now = [1e9]
  world.write_policy(per_minute=2)
  with world.served(clock=lambda: now[0]) as url:
    identity = world.identity(url)
    for _ in range(2):
      assert open_envelope(world.envelope(), [identity])
    assert "more than 2 a minute" in reason(world.envelope(), identity)
    assert open_envelope(world.envelope(), [world.identity(url, "other")])
  with world.served(clock=lambda: now[0]) as url:
    identity = world.identity(url)
    assert "more than 2 a minute" in reason(world.envelope(), identity)
    now[0] += 31
    assert open_envelope(world.envelope(), [identity])
    assert "more than 2 a minute" in reason(world.envelope(), identity)
    world.write_policy(per_minute=60)
    assert open_envelope(world.envelope(), [identity])


def test_no_rule_no_release(world):
  world.write_policy(checkpoints=["model-a/*"], callers=["trainer"])
  with world.served() as url:
    trainer, other = (world.identity(url, x) for x in ("trainer", "other"))
    assert open_envelope(world.envelope("model-a/1"), [trainer])
    for who, checkpoint_id in ((trainer, "model-b/1"), (other, "model-a/1")):
      assert "no rule" in reason(world.envelope(checkpoint_id), who)


def test_a_stolen_certificate_alone_opens_nothing(world):
  thief = keyring.HpkePrivateKey.generate("x25519")
  with world.served() as url:
    identity = world.identity(url, identity=thief)
    with pytest.raises(keyring.CannotOpen):
      open_envelope(world.envelope(), [identity])


def test_a_stanza_of_another_checkpoint_is_refused_and_not_counted(world):
  envelope = json.loads(world.envelope())
  [stanza] = envelope["recipients"]
  with world.served() as url:
    identity = world.identity(url)
    for wrong in ({"wrapped": "AAAA"}, {"wrapped": 1}, {}, stanza):
      with pytest.raises(keyring.ReleaseRefused):
        identity.unwrap(
          wrong | {"id": world.key.id}, b"keyjax/envelope/1/model/2"
        )
  assert events(world) == ["policy"] + ["refusal"] * 4


def test_an_identity_ignores_what_is_for_others(world):
  identity = world.identity("https://127.0.0.1:1")
  assert identity.unwrap({"id": "x25519:other"}, b"") is None


def test_a_lost_answer_is_sent_again_without_another_use(world, monkeypatch):
  world.write_policy(uses=1)
  with world.served() as url:
    identity = world.identity(url, patience=10.0)
    posts = []
    once = type(identity)._post_once

    def lose_the_first(self, body):
      posts.append(once(self, body))
      if len(posts) == 1:
        raise ConnectionResetError
      return posts[-1]

    monkeypatch.setattr(type(identity), "_post_once", lose_the_first)
    assert open_envelope(world.envelope(), [identity]).data_key == DATA_KEY
    assert "1 times" in reason(world.envelope(), identity)
  assert encode(DATA_KEY) not in str(posts)  # Sealed inside TLS too.
  assert events(world) == ["policy", "release", "repeat", "refusal"]


def test_a_released_request_is_not_answered_much_later(world):
  now = [1e9]
  world.write_policy(approvals=1)
  envelope = world.envelope()
  with world.served(clock=lambda: now[0]) as url:
    identity = world.identity(url)
    reason(envelope, identity)
    world.approve("alice", seconds=10**6)
    [path] = (world.folder / "requests").glob("*.json")
    kept = {x: x.read_bytes() for x in path.parent.iterdir()}
    assert open_envelope(envelope, [identity])
    assert not [*path.parent.iterdir()]
    now[0] += 61
    for file, data in kept.items():
      file.write_bytes(data)
    assert "was answered before" in reason(envelope, identity)
    assert "has 0 of 1 approvals" in reason(envelope, identity)


def test_a_key_service_that_fails_is_unavailable_and_not_counted(world):
  class Broken:
    id = world.key.id

    def unwrap(self, stanza, context):
      raise RuntimeError("secret detail")

  with release.open_state(world.state, NAME, world.log_key) as state:
    made = release.Releaser(release.PolicyFile(world.policy), [Broken()], state)
    with running(made, world.server_tls()) as url:
      with pytest.raises(keyring.ReleaseUnavailable, match="now$"):
        open_envelope(world.envelope(), [world.identity(url)])
    made.close()
  assert events(world) == ["policy"]


def test_a_policy_that_cannot_be_read_releases_nothing(world):
  with world.served() as url:
    identity = world.identity(url)
    for text in ("name = ", None):
      text = world.policy.unlink() if text is None else text
      if text is not None:
        world.policy.write_text(text)
      with pytest.raises(keyring.ReleaseUnavailable, match="policy"):
        open_envelope(world.envelope(), [identity])
    world.write_policy()
    assert open_envelope(world.envelope(), [identity])
