"""The core abstraction: a scheme is four pure functions.

    keygen:  (secret, params, batch) -> key
    encrypt: (key, params) -> params      by the owner, once, after training
    decrypt: (key, params) -> params      exact inverse of encrypt
    bind:    (key, apply_fn) -> apply_fn  authorised forward pass

Hyper-parameters are held in closures, secrets only in `key`, a pytree of
arrays. `encrypt`, `decrypt` and bound functions are pure and may be jitted,
vmapped over keys, and sharded; `keygen` runs on the host.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from keyjax import arguments, keys, tree
from keyjax.secrets import Secret

PyTree = Any
Key = Any
ApplyFn = Callable[..., Any]


class KeygenFn(Protocol):
  """Protocol of functions that make a scheme's key from a secret."""

  def __call__(self, secret: Secret, params: PyTree, batch: Any) -> Key:
    """Return a key, a pytree of arrays.

    Args:
      secret: Source of every random choice.
      params: Tree that will be encrypted. All schemes use its shapes, only
        AdvParams its values.
      batch: Batch of training data, for schemes that look at data.
    """


class TreeFn(Protocol):
  """Protocol of functions that encrypt or decrypt a tree."""

  def __call__(self, key: Key, params: PyTree) -> PyTree:
    """Return a tree of the same structure, shapes and sharding."""


class BindFn(Protocol):
  """Protocol of functions that bind a key to a model's forward pass."""

  def __call__(self, key: Key, apply_fn: ApplyFn) -> ApplyFn:
    """Return the authorised pass `apply_fn(params, inputs, ...)`."""


def _keep_params(key: Key, params: PyTree) -> PyTree:
  del key  # Nothing is encrypted.
  if isinstance(params, keys.Key):
    raise TypeError(
      "encrypt(key, params) and decrypt(key, params) take the params last, got "
      f"{arguments.describe(params)}"
    )
  return params


def _keep_apply(key: Key, apply_fn: ApplyFn) -> ApplyFn:
  del key  # The forward pass is the plain one.
  return apply_fn


class Scheme(NamedTuple):
  """A protection scheme: four pure functions, identities by default.

  Laws (`keyjax.laws`): `decrypt(key, encrypt(key, p))` is `p` bit for bit;
  structure, shapes and sharding are kept, and dtypes too, except that a cipher
  returns the unsigned integer of the same width; eager, jit, vmap, pmap and
  sharded results agree; one compilation serves every key; a wrong key never
  restores an encrypted leaf; no two leaves, positions or nonces share a
  keystream.

  Attributes:
    keygen: Makes a key; runs on the host.
    encrypt: Encrypts a tree.
    decrypt: Decrypts it exactly.
    bind: Turns a forward pass into the authorised one.
  """

  keygen: KeygenFn
  encrypt: TreeFn = _keep_params
  decrypt: TreeFn = _keep_params
  bind: BindFn = _keep_apply


def binds(scheme: Scheme) -> bool:
  """Return whether the authorised pass may be another than the plain one.

  Example:
    >>> from keyjax import deep_lock, pixel_shuffle
    >>> binds(deep_lock()), binds(pixel_shuffle("shf"))
    (False, True)
  """
  return scheme.bind is not _keep_apply


def require_scheme(value: Any, where: str) -> None:
  """Raise a TypeError unless a value is a scheme.

  Args:
    value: The argument.
    where: The function that got it.
  """
  if all(callable(getattr(value, name, None)) for name in Scheme._fields):
    return
  hint = "deep_lock() makes one"
  if isinstance(value, list | tuple) and value:
    hint = f"give schemes one by one: {where}(a, b), or {where}(*schemes)"
  elif callable(value) and getattr(value, "__name__", "").isidentifier():
    hint = f"call it, {value.__name__}(...), to make one"
  raise TypeError(
    f"{where}: {arguments.describe(value)} is not a scheme: {hint}"
  )


def authorize(scheme: Scheme, key: Key, apply_fn: ApplyFn) -> ApplyFn:
  """Return the forward pass of a key holder.

  It decrypts inside the call, so that under `jit` plaintext weights exist
  only within one compiled program.

  Args:
    scheme: Any scheme or chain.
    key: Key of the scheme. Under `jit`, pass it as an argument, as below: then
      one compilation serves every key, and no key becomes a constant of a
      compiled program, which JAX may write to its cache.
    apply_fn: Plain forward pass, `apply_fn(params, *args, **kwargs)`.

  Returns:
    The same function over encrypted params.

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
  require_scheme(scheme, "authorize")
  arguments.require_apply(
    apply_fn, "authorize(scheme, key, apply_fn): the last argument"
  )
  bound = scheme.bind(key, apply_fn)

  def authorized(params: PyTree, *args: Any, **kwargs: Any) -> Any:
    return bound(scheme.decrypt(key, params), *args, **kwargs)

  return authorized


def chain(*schemes: Scheme) -> Scheme:
  """Return a scheme that applies schemes one after the other.

  `encrypt` runs from the first to the last, `decrypt` from the last to the
  first, and inputs pass through the first scheme's `bind` first. Each position
  has its own sub-key, derived from the secret, and each `keygen` sees the
  params as encrypted by the schemes before it.

  Args:
    *schemes: At least one scheme. A cipher must be last: it returns words, in
      which later schemes find nothing to encrypt.

  Returns:
    A scheme whose key is the tuple of its parts' keys.

  Raises:
    ValueError: If no scheme is given.
    TypeError: If something else is given.
  """
  if not schemes:
    raise ValueError("chain needs at least one scheme; identity() does nothing")
  for scheme in schemes:
    require_scheme(scheme, "chain")

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
  """Encrypt a tree, or its shapes."""
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
  """Return a scheme restricted to the leaves whose path matches.

  The other leaves are wrapped in `tree.Hidden` while the scheme runs, and
  returned as they were, whatever it does to them; a scheme that calls a model
  or a loss in `keygen` sees them through `tree.reveal`.

  Args:
    scheme: Scheme to restrict.
    pattern: Regular expression that matches a leaf's whole path
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
  require_scheme(scheme, "masked")
  select = tree.matcher(pattern)

  def keygen(secret: Secret, params: PyTree, batch: Any) -> Key:
    _check_match(params, select, pattern)
    return scheme.keygen(secret, tree.hide(params, select), batch)

  def encrypt(key: Key, params: PyTree) -> PyTree:
    locked = scheme.encrypt(key, tree.hide(params, select))
    return tree.merge(locked, params, select)

  def decrypt(key: Key, params: PyTree) -> PyTree:
    opened = scheme.decrypt(key, tree.hide(params, select))
    return tree.merge(opened, params, select)

  return Scheme(keygen, encrypt, decrypt, scheme.bind)


def _check_match(
  params: PyTree,
  select: Callable[[str], bool],
  pattern: str | Callable[[str], bool],
) -> None:
  """Raise a ValueError for a regular expression that no leaf matches."""
  paths = tree.flatten(params)[0]
  if isinstance(pattern, str) and paths and not any(map(select, paths)):
    raise ValueError(f"masked: {tree.unmatched(pattern, paths)}")


def partition(schemes: Mapping[str, Scheme]) -> Scheme:
  """Return a scheme that treats groups of leaves differently.

  Args:
    schemes: Scheme for each pattern of leaf paths. A leaf belongs to the first
      pattern that matches it; **a leaf that no pattern matches stays plain**:
      end with ".*" to include all leaves.

  Returns:
    The chain of the masked schemes, in the order of the mapping.

  Raises:
    ValueError: If the mapping is empty.

  Example:
    >>> from keyjax import deep_lock, identity
    >>> scheme = partition({".*/bias": identity(), ".*": deep_lock()})
  """
  if not isinstance(schemes, Mapping):
    raise TypeError(
      "partition takes a dict of a scheme for each pattern, got "
      f"{arguments.describe(schemes)}"
    )
  if not schemes:
    raise ValueError("partition needs at least one pattern")
  for scheme in schemes.values():
    require_scheme(scheme, "partition")
  tests = [tree.matcher(pattern) for pattern in schemes]

  def first(i: int) -> Callable[[str], bool]:
    return lambda path: (
      tests[i](path) and not any(test(path) for test in tests[:i])
    )

  return chain(*(masked(s, first(i)) for i, s in enumerate(schemes.values())))
