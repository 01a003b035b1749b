"""The one abstraction: a scheme is four pure functions.

    keygen:  (secret, params, batch) -> key
    encrypt: (key, params) -> params      owner, once, after training
    decrypt: (key, params) -> params      its exact inverse
    bind:    (key, apply_fn) -> apply_fn  what every authorised pass does

Hyper-parameters live in closures, secrets only in `key`, which is a pytree of
arrays. `encrypt`, `decrypt` and bound functions are pure and may be jitted,
vmapped over keys, and sharded; `keygen` runs on the host.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from keyjax import tree
from keyjax.keys import Secret

PyTree = Any
Key = Any
ApplyFn = Callable[..., Any]


class KeygenFn(Protocol):
  """Makes a scheme's key from a secret."""

  def __call__(self, secret: Secret, params: PyTree, batch: Any) -> Key:
    """Returns a key, a pytree of arrays.

    Args:
      secret: where every random choice comes from.
      params: the tree that will be locked; its values matter to AdvParams
        alone, shapes to all.
      batch: a batch of training data, for schemes that look at data.
    """


class TreeFn(Protocol):
  """Encrypts or decrypts a tree."""

  def __call__(self, key: Key, params: PyTree) -> PyTree:
    """Returns a tree of the same structure, shapes and sharding."""


class BindFn(Protocol):
  """Binds a key to a model's forward pass."""

  def __call__(self, key: Key, apply_fn: ApplyFn) -> ApplyFn:
    """Returns `apply_fn(params, inputs, ...)` as an authorised pass."""


def _keep_params(key: Key, params: PyTree) -> PyTree:
  del key  # Nothing is encrypted.
  return params


def _keep_apply(key: Key, apply_fn: ApplyFn) -> ApplyFn:
  del key  # The forward pass is the plain one.
  return apply_fn


class Scheme(NamedTuple):
  """A protection scheme: four pure functions, identities by default.

  Laws (tests/laws): `decrypt(key, encrypt(key, p))` is `p` bit for bit;
  structure, shapes and sharding are kept, and dtypes too, except that a cipher
  returns the unsigned integer of the same width; eager, jit, vmap, pmap and
  sharded results agree; one compilation serves every key; a wrong key never
  gives back a locked leaf; no two leaves, positions or nonces share a
  keystream.

  Attributes:
    keygen: makes a key; runs on the host.
    encrypt: locks a tree.
    decrypt: unlocks it exactly.
    bind: turns a forward pass into the authorised one.
  """

  keygen: KeygenFn
  encrypt: TreeFn = _keep_params
  decrypt: TreeFn = _keep_params
  bind: BindFn = _keep_apply


def from_batch(take: Callable[[Any], Any], batch: Any, scheme: str) -> Any:
  """Returns what a scheme looks at in a batch.

  Raises:
    ValueError: it is not there.
  """
  try:
    return take(batch)
  except (TypeError, KeyError, IndexError):
    raise ValueError(
      f"{scheme}: keygen looks at images: give a batch such as "
      '{"image": float32[b, h, w, c]}, or say with `image=` where they are'
    ) from None


def authorize(scheme: Scheme, key: Key, apply_fn: ApplyFn) -> ApplyFn:
  """Returns the forward pass of someone who holds the key.

  It decrypts inside the call, so that under `jit` plaintext weights exist
  only within one compiled program.

  Args:
    scheme: any scheme or chain.
    key: its key. Under `jit`, pass it as an argument, as below: then one
      compilation serves every key, and no key becomes a constant of a compiled
      program, which JAX may write to its cache.
    apply_fn: `apply_fn(params, *args, **kwargs)`, the plain forward pass.

  Returns:
    The same function over locked params.

  Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from keyjax import Secret, deep_lock
    >>> scheme, params = deep_lock(), {"w": jnp.ones((4,))}
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> locked = scheme.encrypt(key, params)
    >>> @jax.jit
    ... def forward(key, p, x):
    ...   return authorize(scheme, key, lambda p, x: p["w"] * x)(p, x)
    >>> forward(key, locked, 2.0)
    Array([2., 2., 2., 2.], dtype=float32)
  """
  if not callable(apply_fn):
    raise TypeError(
      "authorize(scheme, key, apply_fn): the last argument is a "
      f"{type(apply_fn).__name__}, not a function"
    )
  bound = scheme.bind(key, apply_fn)

  def authorized(params: PyTree, *args: Any, **kwargs: Any) -> Any:
    return bound(scheme.decrypt(key, params), *args, **kwargs)

  return authorized


def chain(*schemes: Scheme) -> Scheme:
  """Returns the schemes applied one after the other.

  `encrypt` goes from the first to the last, `decrypt` back, and an input
  meets the first scheme's `bind` first. Each position has a sub-key of its
  own, derived from the secret, and each `keygen` sees the params as the
  schemes before it left them.

  Args:
    *schemes: at least one. A cipher comes last: it leaves words, in which
      the schemes after it find nothing to lock.

  Returns:
    A scheme whose key is the tuple of its parts' keys.

  Raises:
    ValueError: no scheme was given.
  """
  if not schemes:
    raise ValueError("chain needs at least one scheme; identity() does nothing")

  def keygen(secret: Secret, params: PyTree, batch: Any) -> Key:
    keys: list[Key] = []
    for i, scheme in enumerate(schemes):
      if i > 0:
        params = _encrypt(schemes[i - 1], keys[-1], params)
      keys.append(scheme.keygen(secret.child(f"chain/{i}"), params, batch))
    return tuple(keys)

  def encrypt(key: Key, params: PyTree) -> PyTree:
    for scheme, k in _pairs(schemes, key):
      params = scheme.encrypt(k, params)
    return params

  def decrypt(key: Key, params: PyTree) -> PyTree:
    for scheme, k in reversed(_pairs(schemes, key)):
      params = scheme.decrypt(k, params)
    return params

  def bind(key: Key, apply_fn: ApplyFn) -> ApplyFn:
    for scheme, k in reversed(_pairs(schemes, key)):
      apply_fn = scheme.bind(k, apply_fn)
    return apply_fn

  return Scheme(keygen, encrypt, decrypt, bind)


def _encrypt(scheme: Scheme, key: Key, params: PyTree) -> PyTree:
  """Encrypts a tree, or its shapes alone."""
  leaves = jax.tree.leaves(params)
  if any(isinstance(x, jax.ShapeDtypeStruct) for x in leaves):
    return jax.eval_shape(lambda p: scheme.encrypt(key, p), params)
  return scheme.encrypt(key, params)


def _pairs(schemes: tuple[Scheme, ...], key: Key) -> list[tuple[Scheme, Key]]:
  if not isinstance(key, tuple | list) or len(key) != len(schemes):
    got = len(key) if isinstance(key, tuple | list) else type(key).__name__
    raise TypeError(
      f"this chain needs {len(schemes)} keys in a tuple, got {got}"
    )
  return list(zip(schemes, key, strict=True))


def masked(scheme: Scheme, pattern: str | Callable[[str], bool]) -> Scheme:
  """Returns the scheme restricted to the leaves whose path matches.

  The other leaves are wrapped in `tree.Hidden` while the scheme runs; a
  scheme that calls a model or a loss in `keygen` sees them through
  `tree.reveal`.

  Args:
    scheme: what to restrict.
    pattern: a regular expression that matches a leaf's whole path
      (`params/conv_0/kernel`), or a function of the path.

  Example:
    >>> import jax.numpy as jnp
    >>> from keyjax import Secret, deep_lock
    >>> params = {"a": jnp.ones(4), "b": jnp.ones(4)}
    >>> scheme = masked(deep_lock(), "a")
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> {k: str(v.dtype) for k, v in scheme.encrypt(key, params).items()}
    {'a': 'uint32', 'b': 'float32'}
  """
  select = tree.matcher(pattern)

  def keygen(secret: Secret, params: PyTree, batch: Any) -> Key:
    _check_match(params, select, pattern)
    return scheme.keygen(secret, tree.hide(params, select), batch)

  def encrypt(key: Key, params: PyTree) -> PyTree:
    return tree.unhide(scheme.encrypt(key, tree.hide(params, select)))

  def decrypt(key: Key, params: PyTree) -> PyTree:
    return tree.unhide(scheme.decrypt(key, tree.hide(params, select)))

  return Scheme(keygen, encrypt, decrypt, scheme.bind)


def _check_match(
  params: PyTree,
  select: Callable[[str], bool],
  pattern: str | Callable[[str], bool],
) -> None:
  """Raises a ValueError for a regular expression that no leaf matches."""
  paths = tree.flatten(params)[0]
  if isinstance(pattern, str) and paths and not any(map(select, paths)):
    raise ValueError(f"masked: {tree.unmatched(pattern, paths)}")


def partition(schemes: Mapping[str, Scheme]) -> Scheme:
  """Returns a scheme that treats groups of leaves differently.

  Args:
    schemes: for each pattern of leaf paths its scheme. A leaf belongs to the
      first pattern that matches it; **a leaf that none matches stays plain**:
      end with ".*" to leave none out.

  Returns:
    The chain of the masked schemes, in the order of the mapping.

  Raises:
    ValueError: the mapping is empty.

  Example:
    >>> from keyjax import deep_lock, identity
    >>> scheme = partition({".*/bias": identity(), ".*": deep_lock()})
  """
  if not schemes:
    raise ValueError("partition needs at least one pattern")
  tests = [tree.matcher(pattern) for pattern in schemes]

  def first(i: int) -> Callable[[str], bool]:
    return lambda path: (
      tests[i](path) and not any(test(path) for test in tests[:i])
    )

  return chain(*(masked(s, first(i)) for i, s in enumerate(schemes.values())))
