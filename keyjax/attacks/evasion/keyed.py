"""Attacks on models with keys: who computes them, and who judges them.

An attacker runs an attack on the model that they have, made `transferable`;
what it finds is `judged` on the true one, that of the right key.

    model = keyed_model(scheme, apply_fn, locked)
    right key       model(key)
    wrong key       model(near_keys.random_key(key, rng))
    leaked key      model(near_keys.near_key(key, distance, rng))
    no key          stolen_model(apply_fn, locked, like)
    any key         expected_logits(model, stacked(random keys))
    queries alone   black_box(model(key))

Each is a `logits_fn` and a pytree: under `jax.jit`, pass it as an argument, and
one compilation serves every key, of which none becomes a constant.

References:
  Anish Athalye, Logan Engstrom, Andrew Ilyas and Kevin Kwok, "Synthesizing
  robust adversarial examples", ICML 2018 (expectation). Anish Athalye, Nicholas
  Carlini and David Wagner, "Obfuscated gradients give a false sense of
  security", ICML 2018 (gradients that only seem to be missing).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from keyjax import arguments, tree
from keyjax.attacks import game
from keyjax.attacks.evasion import losses, problem
from keyjax.attacks.evasion.problem import Evasion, LogitsFn, as_float
from keyjax.scheme import (
  ApplyFn,
  Key,
  PyTree,
  Scheme,
  binds,
  require_scheme,
)

KeyedFn = Callable[[Key], LogitsFn]
Attack = Callable[..., Evasion]
Mean = Literal["probabilities", "logits"]


def keyed_model(scheme: Scheme, apply_fn: ApplyFn, locked: PyTree) -> KeyedFn:
  """Return the model of a locked file as a function of a key.

  Decryption happens once for each key, not at each pass.

  Args:
    scheme: Any scheme or chain.
    apply_fn: Plain forward pass, `apply_fn(params, inputs)`.
    locked: Locked params.

  Returns:
    Function from a key to a `logits_fn`; both are pytrees.

  Raises:
    TypeError: If an argument is no scheme, or no function.

  Example:
    >>> from keyjax import Secret, deep_lock
    >>> lock, params = deep_lock("counter"), {"w": jnp.eye(2)}
    >>> key = lock.keygen(Secret.generate(), params, None)
    >>> model = keyed_model(lock, lambda p, x: x @ p["w"], lock.encrypt(
    ...   key, params))
    >>> model(key)(jnp.asarray([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
  """
  require_scheme(scheme, "keyed_model")
  arguments.require_apply(apply_fn, "keyed_model: apply_fn")
  return Partial(_opener(scheme, apply_fn), locked)


@functools.lru_cache(maxsize=64)  # One function, or each would compile again.
def _opener(
  scheme: Scheme, apply_fn: ApplyFn
) -> Callable[[PyTree, Key], LogitsFn]:
  def opened(locked: PyTree, key: Key) -> LogitsFn:
    params = scheme.decrypt(key, locked)
    if not binds(scheme):
      return Partial(apply_fn, params)
    return Partial(game.keyed(scheme, apply_fn), (key, params))

  return opened


def stolen_model(apply_fn: ApplyFn, locked: PyTree, like: PyTree) -> LogitsFn:
  """Return a locked file as it runs without a key: the plain pass.

  Ciphertext is read as floats, and may be NaN: attacks refuse that model, but
  under `jax.jit`, as in `in_batches`, they count it in `finite`.

  Args:
    apply_fn: Plain forward pass, `apply_fn(params, inputs)`.
    locked: Locked params.
    like: Plain params, or their shapes and dtypes.

  Example:
    >>> model = stolen_model(lambda p, x: x @ p, jnp.eye(2), jnp.eye(2))
    >>> model(jnp.asarray([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
  """
  return Partial(apply_fn, tree.as_floats(locked, like))


def stacked(keys: Sequence[Key]) -> Key:
  """Return keys of one structure as one pytree, to be mapped by `jax.vmap`.

  Args:
    keys: Keys, models, or other pytrees, at least one.

  Raises:
    ValueError: If there are none, or their structures or shapes differ.

  Example:
    >>> stacked([{"bits": jnp.zeros(8)}, {"bits": jnp.ones(8)}])["bits"].shape
    (2, 8)
  """
  if not keys:
    raise ValueError("keys are empty: pass at least one")
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *keys)


def expected_logits(
  model: KeyedFn, keys: Key, *, mean: Mean = "probabilities"
) -> LogitsFn:
  """Return the model in expectation over keys: EOT over random keys.

  For an attacker who knows the scheme and has no key. `jax.vmap` runs all keys
  at once. Judge the result with the right key, which is not among them.

  Args:
    model: Function from a key to a `logits_fn`, as of `keyed_model`.
    keys: Keys, as of `stacked`.
    mean: "probabilities": logs of the mean probabilities, whose cross-entropy
      is the loss of the ensemble; or "logits": the mean logits, which do not
      saturate where one key is sure.

  Returns:
    A `logits_fn` and pytree.

  Raises:
    ValueError: If the mean is unknown.

  Example:
    >>> flip = lambda key: lambda x: x * key
    >>> found = expected_logits(flip, jnp.asarray([1.0, -1.0]), mean="logits")
    >>> found(jnp.asarray([[3.0, 4.0]])).tolist()
    [[0.0, 0.0]]
  """
  if mean not in _MEANS:
    raise ValueError(f"mean is {mean!r}: choose from {', '.join(_MEANS)}")
  return Partial(_MEANS[mean], as_pytree(model), keys)


def _logits(model: KeyedFn, keys: Key, inputs: jax.Array) -> jax.Array:
  """Return the logits under each key, float[keys, n, classes]."""
  return jax.vmap(lambda key: as_float(model(key)(inputs)))(keys)


def _mean_logits(model: KeyedFn, keys: Key, inputs: jax.Array) -> jax.Array:
  return _logits(model, keys, inputs).mean(0)


def _mean_probabilities(
  model: KeyedFn, keys: Key, inputs: jax.Array
) -> jax.Array:
  logs = jax.nn.log_softmax(_logits(model, keys, inputs))
  return jax.nn.logsumexp(logs, 0) - jnp.log(jnp.asarray(len(logs), logs.dtype))


_MEANS: dict[str, Callable[..., jax.Array]] = {
  "probabilities": _mean_probabilities,
  "logits": _mean_logits,
}


def black_box(logits_fn: LogitsFn) -> LogitsFn:
  """Return a model that answers queries, and whose gradient is an error.

  A gradient of zero would look like robustness.

  Args:
    logits_fn: Function from inputs to logits.

  Raises:
    ValueError: When it is differentiated.

  Example:
    >>> answers = black_box(lambda x: 2 * x)
    >>> answers(jnp.ones((1, 2))).tolist()
    [[2.0, 2.0]]
  """
  return Partial(_answer, as_pytree(logits_fn))


@jax.custom_jvp
def _answer(logits_fn: LogitsFn, inputs: jax.Array) -> jax.Array:
  return logits_fn(inputs)


@_answer.defjvp
def _refuse(primals: Any, tangents: Any) -> Any:
  del primals, tangents
  raise ValueError(
    "black_box answers queries and has no gradient: use an attack without one, "
    "such as square or hop_skip_jump"
  )


def transferable(attack: Attack, *, lead: float = 1.0) -> Attack:
  """Return an attack that also changes what its model has wrong already.

  Attacks leave such inputs alone, and under a wrong key they are nearly all.
  Here a constant is added to the logit of each such label, or taken from that
  of the target, so that the unchanged input is right. Examples run as batches
  of one under `jax.vmap`. Success says little: see `judged`.

  Args:
    attack: Attack on examples that do not depend on each other.
    lead: Lead of the label, or of the best other class, in logits.

  Returns:
    `attack(logits_fn, inputs, labels, *, targets, rng, **options)`.

  Example:
    >>> from keyjax.attacks.evasion import fgsm
    >>> x, y = jnp.full((1, 2), 0.5), jnp.asarray([0])
    >>> wrong = lambda x: x * 4 + jnp.asarray([[0.0, 3.0]])
    >>> found = fgsm(wrong, x, y, epsilon=0.25)
    >>> more = transferable(fgsm)(wrong, x, y, epsilon=0.25)
    >>> found.inputs.tolist(), more.inputs.tolist()
    ([[0.5, 0.5]], [[0.25, 0.75]])
  """

  def run(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    labels: jax.Array,
    *,
    targets: jax.Array | None = None,
    rng: jax.Array | None = None,
    **options: Any,
  ) -> Evasion:
    rows = {"inputs": inputs, "labels": labels}
    if targets is not None:
      rows["targets"] = targets
    if rng is not None:
      rows["rng"] = problem.example_rngs(rng, len(inputs), inputs)

    def one(row: dict[str, jax.Array]) -> Evasion:
      batch = {name: value[None] for name, value in row.items()}
      shift = _lead(logits_fn, batch, lead)
      found = attack(
        lambda x: as_float(logits_fn(x)) + shift, **batch, **options
      )
      found = found._replace(queries=found.queries + 1)
      return jax.tree.map(lambda value: value[0], found)

    return jax.vmap(one)(jax.tree.map(jnp.asarray, rows))

  return run


def _lead(
  logits_fn: LogitsFn, batch: dict[str, jax.Array], lead: float
) -> jax.Array:
  """Return what to add to logits, so that no input is a success yet."""
  labels, targets = batch["labels"], batch.get("targets")
  logits = as_float(logits_fn(batch["inputs"]))
  already = problem.misclassified(logits, labels, targets)
  ahead = losses.margin(logits, labels, targets) + lead
  ahead = jnp.where(already, ahead, 0)
  if targets is None:
    return jnp.where(losses.one_hot(logits, labels), ahead[:, None], 0)
  return jnp.where(losses.one_hot(logits, targets), -ahead[:, None], 0)


def as_pytree(function: Callable[..., Any]) -> Callable[..., Any]:
  """Return a function as a pytree: without leaves, if it is none yet."""
  return function if isinstance(function, Partial) else Partial(function)
