"""Attestation evidence: a recorded token, and what does not fit.

confidential_space.json holds a token with the claims that Google documents,
signed once with a key that was made for it, and that key's JWKS.
"""

import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from keyjax import keyring
from keyjax.errors import KeyringError
from keyjax.keyring import open_envelope
from keyjax.release import JwtEvidence, evidence
from tests.conftest import ROOT

RECORDED = json.loads(
  (ROOT / "tests/release/confidential_space.json").read_text()
)
ISSUER = "https://confidentialcomputing.googleapis.com"
AUDIENCE = "keys.example/team"
CLAIMS = {
  "swname": ["CONFIDENTIAL_SPACE"],
  "dbgstat": ["disabled-since-boot"],
  "secboot": [True],
  "submods.confidential_space.support_attributes": ["STABLE"],
  "submods.container.image_digest": [
    RECORDED["claims"]["submods"]["container"]["image_digest"]
  ],
}
TABLE = f"""
[evidence.pods]
kind = "jwt"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
jwks = "jwks.json"
[evidence.pods.claims]
"submods.container.image_digest" = {CLAIMS["submods.container.image_digest"]}
"""


@pytest.fixture
def signer(tmp_path):
  """A key of the issuer, next to the recorded one in a JWKS."""
  key = ec.generate_private_key(ec.SECP256R1())
  public = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "mine"}
  keys = [*RECORDED["jwks"]["keys"], public]
  (tmp_path / "jwks.json").write_text(json.dumps({"keys": keys}))
  return key


@pytest.fixture
def verifier(tmp_path, signer):
  return JwtEvidence(
    issuer=ISSUER,
    audience=AUDIENCE,
    jwks=tmp_path / "jwks.json",
    claims=CLAIMS,
  )


def token(signer, *, kid="mine", algorithm="ES256", **changed):
  """Return a token as the recorded one, with other claims."""
  now = int(time.time())
  fresh = {"iat": now, "nbf": now, "exp": now + 60}
  made = {
    k: v
    for k, v in (RECORDED["claims"] | fresh | changed).items()
    if v is not None
  }
  return jwt.encode(made, signer, algorithm=algorithm, headers={"kid": kid})


def verify(verifier, text, nonce=RECORDED["nonce"]):
  verifier.verify(text.encode(), nonce=nonce, caller="0" * 64)


def test_a_recorded_token_is_accepted(verifier):
  verify(verifier, RECORDED["token"])


def test_a_recorded_token_is_refused_for_another_nonce(verifier):
  with pytest.raises(KeyringError, match="for another request"):
    verify(verifier, RECORDED["token"], nonce="0" * 64)


def test_a_changed_token_is_refused(verifier):
  head, body, mark = RECORDED["token"].split(".")
  for text in (
    f"{head}.{body[:-4]}AAAA.{mark}",
    f"{head}.{body}.{mark[:-4]}AAAA",
    f"{head}.{body}.",
    RECORDED["token"][1:],
    "",
    "\x00",
  ):
    with pytest.raises(KeyringError):
      verify(verifier, text)


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"eat_nonce": "0" * 64}, "for another request"),
    ({"eat_nonce": None}, "for another request"),
    ({"aud": "https://sts.googleapis.com"}, "meant for someone else"),
    ({"iss": "https://example.com"}, "its issuer is another"),
    ({"exp": 1}, "it has expired"),
    ({"exp": None}, "a claim is missing"),
    ({"nbf": 4102444800}, "not valid yet"),
    ({"dbgstat": "enabled"}, "no accepted value of dbgstat"),
    ({"secboot": 1}, "no accepted value of secboot"),
    ({"swname": None}, "no accepted value of swname"),
    ({"submods": None}, "support_attributes"),
    (
      {
        "submods": RECORDED["claims"]["submods"]
        | {"container": {"image_digest": "sha256:" + "0" * 64}}
      },
      "no accepted value of submods.container.image_digest",
    ),
  ],
)
def test_a_token_that_does_not_fit_is_refused(
  verifier, signer, changed, message
):
  verify(verifier, token(signer))
  with pytest.raises(KeyringError, match=message) as found:
    verify(verifier, token(signer, **changed))
  assert "\n" not in str(found.value)


def test_a_token_of_another_key_is_refused(verifier, signer, tmp_path):
  other = ec.generate_private_key(ec.SECP256R1())
  with pytest.raises(KeyringError, match="signature is wrong"):
    verify(verifier, token(other))
  with pytest.raises(KeyringError, match="no key of the JWKS"):
    verify(verifier, token(signer, kid="other"))
  with pytest.raises(KeyringError, match="algorithm is not accepted"):
    verify(verifier, token(b"x" * 32, algorithm="HS256"))
  (tmp_path / "jwks.json").write_text('{"keys": []}')  # At once.
  with pytest.raises(KeyringError, match="no key of the JWKS"):
    verify(verifier, token(signer))
  (tmp_path / "jwks.json").unlink()
  with pytest.raises(KeyringError, match="cannot be read"):
    verify(verifier, token(signer))


AZURE = {
  "iss": "https://shared.eus.attest.azure.net",
  "aud": None,
  "eat_nonce": None,
  "nonce": RECORDED["nonce"],
  "submods": None,
  "x-ms-isolation-tee": {"x-ms-compliance-status": "azure-compliant-cvm"},
}


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({}, ""),
    ({"nonce": "0" * 64}, "for another request"),
    ({"nonce": None, "eat_nonce": RECORDED["nonce"]}, "for another request"),
    ({"nonce": {"nonce": RECORDED["nonce"]}}, "for another request"),
    ({"aud": AUDIENCE}, "meant for someone else"),
    ({"iss": ISSUER}, "its issuer is another"),
    ({"exp": 1}, "it has expired"),
    ({"x-ms-isolation-tee": None}, "no accepted value of x-ms-isolation-tee"),
  ],
)
def test_tokens_without_an_audience(tmp_path, signer, changed, message):
  """As Azure Attestation makes them: another claim of the nonce, no `aud`."""
  table = {
    "kind": "jwt",
    "issuer": AZURE["iss"],
    "jwks": "jwks.json",
    "nonce": "nonce",
    "claims": {
      "x-ms-isolation-tee.x-ms-compliance-status": ["azure-compliant-cvm"]
    },
  }
  verifier = evidence.read_evidence(table, tmp_path)
  made = token(signer, **AZURE | changed)
  if not message:
    verify(verifier, made)
    return
  with pytest.raises(KeyringError, match=message):
    verify(verifier, made)


def test_a_policy_with_an_audience_wants_one(verifier, signer):
  with pytest.raises(KeyringError, match="a claim is missing"):
    verify(verifier, token(signer, aud=None))


@pytest.mark.parametrize("algorithm", ["PS384", "RS256"])
def test_tokens_signed_with_rsa(verifier, tmp_path, algorithm):
  key = rsa.generate_private_key(65537, 2048)
  public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
  keys = [public | {"kid": "rsa", "alg": algorithm}]
  (tmp_path / "jwks.json").write_text(json.dumps({"keys": keys}))
  made = token(key, kid="rsa", algorithm=algorithm)
  verify(verifier, made)
  with pytest.raises(KeyringError, match="another request"):
    verify(verifier, made, nonce="0" * 64)
  other = "PS256" if algorithm == "PS384" else "PS384"
  with pytest.raises(KeyringError, match="refused"):
    verify(verifier, token(key, kid="rsa", algorithm=other))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("claims", {}),
    ("claims", {"swname": []}),
    ("claims", {"swname": "x"}),
    ("claims", []),
    ("issuer", 1),
    ("issuer", ""),
    ("audience", ""),
    ("nonce", ["eat_nonce"]),
    ("more", 1),
    ("kind", "other"),
  ],
)
def test_a_wrong_table_is_refused(tmp_path, name, value):
  right = {
    "kind": "jwt",
    "issuer": ISSUER,
    "audience": AUDIENCE,
    "jwks": "jwks.json",
    "claims": {"swname": ["a"]},
  }
  assert evidence.read_evidence(right, tmp_path)
  with pytest.raises(KeyringError):
    evidence.read_evidence(right | {name: value}, tmp_path)


def test_another_kind_is_one_function():
  made = []
  evidence.register("toy", lambda table, folder: made.append(table) or "toy")
  try:
    assert evidence.read_evidence({"kind": "toy"}, ROOT) == "toy"
    with pytest.raises(ValueError, match="'toy' already"):
      evidence.register("toy", lambda table, folder: None)
  finally:
    del evidence._MAKERS["toy"]


def test_a_release_needs_evidence_made_for_it(world, signer):
  world.write_policy(extra=TABLE, evidence="pods")
  asked = []

  def attest(nonce):
    asked.append(nonce)
    return token(signer, eat_nonce=nonce).encode()

  old = token(signer, eat_nonce="0" * 64).encode()
  with world.served() as url:
    with pytest.raises(keyring.ApprovalNeeded, match="needs evidence"):
      open_envelope(world.envelope(), [world.identity(url)])
    replayed = world.identity(url, evidence=lambda nonce: old)
    with pytest.raises(keyring.ReleaseRefused, match="for another request"):
      open_envelope(world.envelope(), [replayed])
    attested = world.identity(url, evidence=attest)
    assert open_envelope(world.envelope(), [attested])
  [entry] = [json.loads(x) for x in world.entries() if b'"release"' in x]
  claims = jwt.decode(entry["evidence"], options={"verify_signature": False})
  assert claims["eat_nonce"] == asked[-1] and len(asked[-1]) == 64
