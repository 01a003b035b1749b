"""An agent that may act with a capability token only, and what it presents.

Action 1 of agent 1 of `one_state` needs a token. Without a valid one it becomes
"stop and ask", and the person who is asked plays action 0: an interruption.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import capability
from keyjax.keyring import SigningKey

_AGENT = "agent-1"
_ACTIONS = ("stop", "go")
_GO = 1


class Requests(NamedTuple):
  """Requests to play action 1.

  Attributes:
    valid: bool[n], whether the token is a valid one, for this action.
    passed: bool[n], whether the gated policy played it, and did not ask.
  """

  valid: np.ndarray
  passed: np.ndarray


def requests(theta: float, count: int, rng: np.random.Generator) -> Requests:
  """Return what becomes of requests.

  Args:
    theta: Probability that a request has no valid token: none, one of another
      key, of another agent, or for another action, in turn.
    count: Number of requests, each checked with the public key.
    rng: NumPy generator of which requests these are; it makes no key.

  Example:
    >>> found = requests(0.5, 20, np.random.default_rng(0))
    >>> bool((found.valid == found.passed).all())
    True
  """
  owner, other = SigningKey.generate(), SigningKey.generate()

  def token(key: SigningKey, agent: str, action: str) -> str:
    return capability.grant(
      key.private, agent=agent, actions=[action], seconds=3600
    )

  right = token(owner, _AGENT, "go")
  wrong = (
    None,
    token(other, _AGENT, "go"),
    token(owner, "agent-2", "go"),
    token(owner, _AGENT, "stop"),
  )
  valid = rng.uniform(size=count) >= theta
  allowed = [
    capability.permitted(
      right if ok else wrong[i % len(wrong)],
      owner.public,
      agent=_AGENT,
      actions=_ACTIONS,
    )
    for i, ok in enumerate(valid)
  ]
  return Requests(valid, np.asarray(_play(np.stack(allowed))) == _GO)


@jax.jit
@jax.vmap
def _play(allowed: jax.Array) -> jax.Array:
  """Return the action of a policy that wants action 1."""
  return capability.gated(lambda: jnp.int32(_GO), allowed)()
