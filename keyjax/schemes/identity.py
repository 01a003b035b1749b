"""The scheme that protects nothing."""

from keyjax.scheme import Scheme
from keyjax.schemes import registry

NAME = "identity"


def identity() -> Scheme:
  """Return the scheme that protects nothing: the plain condition.

  `laws.check` takes it with `locks_nothing=True`.
  """
  return Scheme(keygen=lambda secret, params, batch: ())


registry.register(
  NAME,
  identity,
  security_class=registry.NONE,
  known_break="there is no lock",
  key_source=registry.KeySource.NOTHING,
)
