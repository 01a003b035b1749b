"""Capability tokens: what they permit, and every way they are refused."""

import base64
import datetime
import hashlib
import hmac
import json
import sys

import jax
import jwt
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyjax import capability
from keyjax.errors import CapabilityError, KeyringError
from keyjax.keyring import SigningKey

OWNER, OTHER = SigningKey.generate(), SigningKey.generate()
ACTIONS = ("brake", "steer", "speed_up")
HOUR = datetime.timedelta(hours=1)


def token(**options):
  fields = {"agent": "car", "actions": ACTIONS[:2], "seconds": 3600}
  return capability.grant(OWNER.private, **fields | options)


def now():
  return datetime.datetime.now(datetime.UTC)


def claims(**changed):
  made = {
    "aud": "car",
    "exp": now() + HOUR,
    "iat": now(),
    "jti": "1",
    "nbf": now(),
    "scope": "brake",
  } | changed
  return {k: v for k, v in made.items() if v is not None}


def signed(payload, key=OWNER.private, kind="keyjax-capability+jwt"):
  return jwt.encode(payload, key, "EdDSA", headers={"typ": kind})


def altered():
  head, body, signature = token().split(".")
  data = json.loads(base64.urlsafe_b64decode(body + "=="))
  data["scope"] += " speed_up"
  body = base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=")
  return ".".join([head, body.decode(), signature])


def hmac_of_the_public_key():
  """A token whose HMAC key is the public key, as a confused reader has it."""
  pem = OWNER.public.public_bytes(
    Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
  )
  moments = {"exp": now() + HOUR, "iat": now(), "nbf": now()}
  seconds = {k: int(v.timestamp()) for k, v in moments.items()}
  head = {"alg": "HS256", "typ": "keyjax-capability+jwt"}
  parts = head, claims(**seconds)
  text = b".".join(
    base64.urlsafe_b64encode(json.dumps(x).encode()).rstrip(b"=") for x in parts
  )
  tag = hmac.digest(pem, text, hashlib.sha256)
  return (text + b"." + base64.urlsafe_b64encode(tag).rstrip(b"=")).decode()


def permitted(made, **options):
  fields = {"agent": "car", "actions": ACTIONS} | options
  return capability.permitted(made, OWNER.public, **fields).tolist()


def test_a_token_permits_the_actions_that_it_names():
  made = token()
  assert permitted(made) == [True, True, False]
  found = capability.read(made, OWNER.public, agent="car")
  assert found.agent == "car" and found.actions == {"brake", "steer"}
  payload = jwt.decode(made, options={"verify_signature": False})
  assert found.expires.timestamp() == payload["exp"] == payload["iat"] + 3600
  assert found.id != capability.read(token(), OWNER.public, agent="car").id


REFUSED = {
  "none": (lambda: None, "not a text"),
  "empty": (lambda: "", "no valid token"),
  "not a token": (lambda: "a.b.c", "no valid token"),
  "too long": (lambda: token() + "a" * 9000, "too long"),
  "altered": (altered, "ignature"),
  "another key": (lambda: signed(claims(), OTHER.private), "ignature"),
  "another agent": (lambda: token(agent="bus"), "udience"),
  "several agents": (lambda: signed(claims(aud=["car"])), "strict"),
  "expired": (lambda: signed(claims(exp=now() - HOUR)), "expired"),
  "not begun": (lambda: signed(claims(nbf=now() + HOUR)), "not yet valid"),
  "no end": (lambda: signed(claims(exp=None)), "exp"),
  "no scope": (lambda: signed(claims(scope=None)), "scope"),
  "a list as scope": (lambda: signed(claims(scope=["brake"])), "capability"),
  "another type": (lambda: signed(claims(), kind="JWT"), "capability"),
  "unsigned": (lambda: jwt.encode(claims(), None, "none"), "alg value"),
  "hmac": (hmac_of_the_public_key, "alg value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_permits_nothing(name):
  made, reason = REFUSED[name]
  assert permitted(made()) == [False] * 3
  with pytest.raises(CapabilityError, match=reason) as error:
    capability.read(made(), OWNER.public, agent="car")
  text = str(error.value)
  assert "\n" not in text and (not made() or made() not in text)


def test_the_refused_differ_from_a_token_in_one_thing():
  assert permitted(signed(claims())) == [True, False, False]


def test_a_gated_policy_asks_for_what_is_not_permitted():
  traced = []

  @jax.jit
  def act(allowed, x):
    traced.append(True)
    return capability.gated(lambda x: x, allowed)(x)

  x = np.asarray([0, 1, 2, 3, -1, -3], np.int32)
  some = capability.permitted(
    token(), OWNER.public, agent="car", actions=ACTIONS
  )
  assert act(some, x).tolist() == [0, 1, -1, -1, -1, -1]
  assert act(np.zeros(3, bool), x).tolist() == [capability.ASK] * 6
  assert act(np.ones(3, bool), x).tolist() == [0, 1, 2, -1, -1, -1]
  assert len(traced) == 1
  many = jax.vmap(act, (0, None))(np.stack([some, ~some]), x)
  assert many[1].tolist() == [-1, -1, 2, -1, -1, -1]


class Later(datetime.datetime):
  """The clock, two hours later."""

  @classmethod
  def now(cls, tz=None):
    return super().now(tz) + 2 * HOUR


def test_an_array_that_is_kept_outlives_its_token(monkeypatch):
  """A known break: the clock is looked at once."""
  made = token()
  kept = capability.permitted(made, OWNER.public, agent="car", actions=ACTIONS)
  gate = capability.gated(lambda: np.int32(0), kept)
  monkeypatch.setattr(jwt.api_jwt, "datetime", Later)
  assert permitted(made) == [False] * 3 and gate() == 0


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"agent": ""}, "'' is no name"),
    ({"agent": "my car"}, "'my car' is no name"),
    ({"actions": ["go", 3]}, "3 is no name"),
    ({"seconds": 0}, "seconds=0: a whole number, at least 1"),
    ({"seconds": 1.5}, "seconds=1.5: a whole number, at least 1"),
  ],
)
def test_what_cannot_be_granted_is_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    token(**fields)


def test_keys_of_another_kind_are_refused():
  modern = SigningKey.generate("ml-dsa-65")
  with pytest.raises(TypeError, match="signer is .*Ed25519PrivateKey"):
    capability.grant(modern.private, agent="a", actions=["b"], seconds=1)
  with pytest.raises(TypeError, match="verify_key is .*Ed25519PublicKey"):
    capability.read(token(), OWNER.private, agent="car")
  with pytest.raises(TypeError, match="not a function"):
    capability.gated(3, np.ones(1, bool))


def test_without_its_library_nothing_is_granted_or_read(monkeypatch):
  made = token()
  monkeypatch.setitem(sys.modules, "jwt", None)
  for call in (token, lambda: permitted(made), lambda: permitted(None)):
    with pytest.raises(KeyringError, match=r"install 'keyjax\[capability\]'"):
      call()
