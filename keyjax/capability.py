"""Capabilities: an agent acts only with a signed, scoped, expiring token.

    token = capability.grant(owner.private, agent="car-7",
                             actions=["brake", "steer"], seconds=60)
    allowed = capability.permitted(token, owner.public, agent="car-7",
                                   actions=["brake", "steer", "speed up"])
    policy = capability.gated(policy, allowed)   # other actions become ASK

A token is a JSON Web Token (RFC 7519), signed with Ed25519 (RFC 8037), of an
explicit type and one algorithm (RFC 8725). Who checks it needs the public key
alone, so that the actuator can, and not only the agent's own process. PyJWT
reads and writes tokens; `pip install 'keyjax[capability]'` brings it.

**Guarantees.**

- Without a valid token every action is `ASK`, and with one every action that
  it does not name.
- A token is valid if it was signed with the private key, for this agent, and
  has begun and not expired. An altered token, one of another key, of another
  agent, of another type, or of another algorithm, such as "none" or an HMAC
  whose key is the public key, is refused.
- A gated policy is a pure function, under `jit` and `vmap`; one compilation
  serves all tokens.

**Known breaks.**

- Whoever has a token can use it until it expires, as often as they like: it is
  not bound to a process, and cannot be revoked. Grant it for seconds.
- `permitted` looks at the clock once: an array that is kept outlives its token.
  Call it for each action.
- A gate in the agent's own process stops a policy, not code that runs there:
  check tokens where actions are carried out.
- It limits which actions are taken, not what they are used for.

References:
  M. Jones, J. Bradley and N. Sakimura, RFC 7519 (JSON Web Token), 2015.
  I. Liusvaara, RFC 8037 (Ed25519 in JOSE), 2017.
  Y. Sheffer, D. Hardt and M. Jones, RFC 8725 (best current practices), 2020.
"""

import datetime
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
  Ed25519PrivateKey,
  Ed25519PublicKey,
)

from keyjax import arguments
from keyjax.errors import CapabilityError
from keyjax.extras import library
from keyjax.keyring.signing import VerifyKey

ASK = -1  # The action "stop and ask a person".

_TYPE = "keyjax-capability+jwt"
_ALGORITHM = "EdDSA"
_CLAIMS = ["aud", "exp", "iat", "jti", "nbf", "scope"]
_LONGEST = 8192  # Characters.


class Capability(NamedTuple):
  """What a valid token permits.

  Attributes:
    agent: Whom it permits it.
    actions: Names of the actions.
    expires: When it ends, in UTC.
    id: Its number, for logs.
  """

  agent: str
  actions: frozenset[str]
  expires: datetime.datetime
  id: str


def grant(
  signer: Ed25519PrivateKey,
  *,
  agent: str,
  actions: Iterable[str],
  seconds: int,
) -> str:
  """Return a token that permits an agent some actions, from now on.

  Args:
    signer: Private key; `keyjax.keyring.SigningKey.generate().private`.
    agent: Name of the agent.
    actions: Names of actions, without spaces.
    seconds: How long it is valid, a whole number: tokens count whole seconds.

  Raises:
    KeyringError: If PyJWT is not installed.
    TypeError: If the signer is no Ed25519 key.
    ValueError: If a name is empty or has a space, or seconds are not a whole
      number of 1 or more.

  Example:
    >>> from keyjax.keyring import SigningKey
    >>> owner = SigningKey.generate()
    >>> token = grant(owner.private, agent="a", actions=["go"], seconds=60)
    >>> sorted(read(token, owner.public, agent="a").actions)
    ['go']
  """
  if not isinstance(signer, Ed25519PrivateKey):
    raise TypeError(
      f"grant: signer is {arguments.describe(signer)}: Ed25519PrivateKey"
    )
  names = list(actions)
  for name in (agent, *names):
    if not isinstance(name, str) or not name or name.split() != [name]:
      raise ValueError(
        f"grant: {arguments.show(name)} is no name: a text without spaces"
      )
  seconds = arguments.whole_number(seconds, "seconds")
  now = datetime.datetime.now(datetime.UTC)
  claims = {
    "aud": agent,
    "exp": now + datetime.timedelta(seconds=seconds),
    "iat": now,
    "jti": str(uuid.uuid4()),
    "nbf": now,
    "scope": " ".join(names),
  }
  encode = library("jwt", "capability").encode
  return encode(claims, signer, _ALGORITHM, headers={"typ": _TYPE})


def read(token: str, verify_key: VerifyKey, *, agent: str) -> Capability:
  """Return what a token permits an agent.

  Args:
    token: From `grant`.
    verify_key: Public Ed25519 key of the signer.
    agent: Name of the agent that wants to act.

  Raises:
    CapabilityError: If the token is not valid; the message says why.
    KeyringError: If PyJWT is not installed.
    TypeError: If the key is no public Ed25519 key.
  """
  if not isinstance(verify_key, Ed25519PublicKey):
    raise TypeError(
      f"read: verify_key is {arguments.describe(verify_key)}: Ed25519PublicKey"
    )
  jwt = library("jwt", "capability")
  if not isinstance(token, str) or len(token) > _LONGEST:
    raise CapabilityError("no token: not a text, or too long")
  try:
    found = jwt.decode_complete(
      token,
      verify_key,
      algorithms=[_ALGORITHM],
      audience=agent,
      options={"require": _CLAIMS, "strict_aud": True},
    )
  except jwt.PyJWTError as error:
    raise CapabilityError(f"no valid token: {error}") from None
  claims = found["payload"]
  if found["header"].get("typ") != _TYPE or not isinstance(
    claims["scope"], str
  ):
    raise CapabilityError("no valid token: not a capability")
  expires = datetime.datetime.fromtimestamp(claims["exp"], datetime.UTC)
  actions = frozenset(claims["scope"].split())
  return Capability(agent, actions, expires, claims["jti"])


def permitted(
  token: str | None,
  verify_key: VerifyKey,
  *,
  agent: str,
  actions: Sequence[str],
) -> np.ndarray:
  """Return which actions a token permits now, bool[actions].

  Nothing is permitted without a valid token; `read` says why it is not valid.

  Args:
    token: From `grant`, or None.
    verify_key: Public Ed25519 key of the signer.
    agent: Name of the agent that wants to act.
    actions: Names of the policy's actions, in their order.

  Raises:
    KeyringError: If PyJWT is not installed.
    TypeError: If the key is no public Ed25519 key.

  Example:
    >>> from keyjax.keyring import SigningKey
    >>> permitted(
    ...   None, SigningKey.generate().public, agent="a", actions=["go", "stop"]
    ... ).tolist()
    [False, False]
  """
  try:
    found = read(token or "", verify_key, agent=agent).actions
  except CapabilityError:
    found = frozenset()
  return np.asarray([name in found for name in actions], bool)


def gated(
  policy: Callable[..., jax.Array], allowed: Any
) -> Callable[..., jax.Array]:
  """Return a policy whose other actions are `ASK`.

  Args:
    policy: Function that returns actions, int[...].
    allowed: bool[actions], from `permitted`. Pass it as an argument under
      `jit`.

  Returns:
    The same function; an action that is not permitted, or that there is not,
    becomes `ASK`.

  Example:
    >>> gated(lambda x: x, np.asarray([True, False]))(jnp.arange(3)).tolist()
    [0, -1, -1]
  """
  arguments.require_function(
    policy, "gated: policy", "a function that returns actions"
  )

  def asking(*args: Any, **kwargs: Any) -> jax.Array:
    action = policy(*args, **kwargs)
    known = (action >= 0) & (action < len(allowed))
    index = jnp.where(known, action, 0)
    return jnp.where(known & jnp.asarray(allowed, bool)[index], action, ASK)

  return asking
