"""`ask`: a forward pass that says for each input whether it asks a person."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax import arguments
from keyjax.scheme import ApplyFn

Confidence = Callable[[jax.Array], jax.Array]
Rule = Callable[[jax.Array], jax.Array]

_RULE = "a rule such as unless(max_softmax, above=0.9)"


class Asked(NamedTuple):
  """What a model that may ask returns.

  Attributes:
    logits: float[..., classes], also where it asks.
    ask: bool[...], whether a person decides instead.
  """

  logits: jax.Array
  ask: jax.Array


def unless(confidence: Confidence, *, above: Any) -> Rule:
  """Return a rule: ask, unless the confidence is above a threshold.

  Args:
    confidence: Function from logits to float[...], such as `max_softmax`.
    above: Threshold, a number; under `jit` it may be an argument.

  Example:
    >>> from keyjax.fallback import max_softmax
    >>> rule = unless(max_softmax, above=0.9)
    >>> rule(jnp.asarray([[0.0, 4.0], [0.0, 1.0], [0.0, jnp.nan]])).tolist()
    [False, True, True]
  """
  arguments.require_function(
    confidence, "unless: confidence", "a function of logits, as max_softmax is"
  )
  return lambda logits: ~(confidence(logits) > above)  # NaN asks.


def ask(
  apply_fn: ApplyFn, rule: Rule, *, authentic: Any = True
) -> Callable[..., Asked]:
  """Return a forward pass that also says where it asks a person.

  A pure function, which works under `jit` and `vmap`, and over what
  `keyjax.authorize` returns.

  Args:
    apply_fn: Forward pass, `apply_fn(params, *args, **kwargs)`, that returns
      logits, float[..., classes].
    rule: Function from logits to bool[...], whether to ask.
    authentic: bool[], whether the authentication tag of the params is valid, as
      `keyjax.seal.unseal_array` returns it. It decides first: without it every
      input asks.

  Returns:
    The same function, which returns an `Asked`. Logits that are not finite
    ask, whatever the rule.

  Raises:
    TypeError: If an argument is no function; on a call, if `apply_fn` does not
      return logits, or the rule no bool for each input.

  Example:
    >>> import keyjax
    >>> from keyjax.fallback import max_softmax
    >>> scheme, params = keyjax.deep_lock(), {"w": jnp.float32([[0.0, 4.0]])}
    >>> key = scheme.keygen(keyjax.Secret.generate(), params, None)
    >>> model = keyjax.authorize(scheme, key, lambda p, x: x @ p["w"])
    >>> asking = ask(model, unless(max_softmax, above=0.9))
    >>> x = jnp.float32([[1.0], [0.1]])
    >>> asking(scheme.encrypt(key, params), x).ask.tolist()
    [False, True]
  """
  arguments.require_apply(apply_fn, "ask(apply_fn, rule): the first argument")
  arguments.require_function(rule, "ask(apply_fn, rule): the rule", _RULE)

  def asking(params: Any, *args: Any, **kwargs: Any) -> Asked:
    logits = apply_fn(params, *args, **kwargs)
    if not arguments.is_array(logits):
      raise TypeError(
        f"ask: apply_fn returned {arguments.describe(logits)}, not logits"
      )
    found = rule(logits)
    fits = jnp.issubdtype(jnp.result_type(found), jnp.bool_)
    if not fits or jnp.shape(found) != logits.shape[:-1]:
      raise TypeError(
        f"ask: the rule returned {arguments.describe(found)} for logits "
        f"{arguments.describe(logits)}: pass {_RULE}"
      )
    finite = jnp.isfinite(logits).all(-1)
    return Asked(logits, found | ~finite | ~jnp.asarray(authentic, bool))

  return asking
