"""Deep-Lock: every parameter through an S-box, under its own key.

    w' = Sbox(w XOR k_i)          w = InvSbox(w') XOR k_i

byte by byte on the bit pattern of each parameter; k_i is the parameter's part
of a keystream derived from one master key.

Source: Alam, Saha, Mukhopadhyay, Kundu, "Deep-Lock: Secure Authorization for
Deep Neural Networks", arXiv 2008.05966, 2020. The paper fixes neither the
number format nor the schedule; here both are axes:

- formats: float32, bfloat16, float16, float8 and int8 leaves, locked as
  unsigned words of the same width (`keyjax.quantize` makes int8 trees, which
  stay finite under a wrong key);
- schedules: `chain`, the AES key schedule (FIPS-197, 5.2) continued past its
  last round, with round constants continuing in GF(2^8), as published; and
  `counter`, AES in counter mode under a fresh nonce.

In the chain, leaves take consecutive keystream words in the tree's order, each
starting at a new 32-bit word; in a word, the first parameter has the high
bits. In counter mode each leaf starts at a new block and takes the keystream
in the order of its bytes in memory.
"""

import functools
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import aes, arguments, keys, meshes, tree
from keyjax.aes.lowering import handler_on_cpu
from keyjax.aes.substitution import SBOX, sub_bytes
from keyjax.scheme import Scheme
from keyjax.schemes import counter, registry
from keyjax.secrets import Secret

NAME = "deep_lock"
# 8 steps of the chain per iteration: 3.5 times the rate of one (x86-64 CPU) and
# seconds more to compile, which does not pay for short chains.
_UNROLL = 8
_LONG = 256


@keys.key_dataclass
class ChainKey(keys.Key):
  """Key of the published schedule.

  Attributes:
    master: uint32[4] or uint32[8], AES key as big-endian words.
    spec: leaves that it encrypts.
  """

  distance_unit = "bits"
  master: jax.Array
  spec: tree.Spec = keys.static()

  def near(self, distance: int, rng: np.random.Generator) -> Self:
    """Flip bits of the master key."""
    octets = np.asarray(self.master).astype(">u4").view(np.uint8)
    words = keys.flip_bits(octets, distance, rng).view(">u4").astype(np.uint32)
    return self.replace(master=jnp.asarray(words))

  def max_distance(self) -> int:
    """Return the number of bits of the master key."""
    return self.master.size * 32

  def rebind(self, new: Self, params: Any) -> Any:
    """Return the params: the pass is the plain one."""
    del new
    return params


@keys.key_dataclass
class CounterKey(counter.CounterModeKey, keys.OneTimeKey):
  """Key of the hardened schedule, for one encryption.

  Attributes:
    round_keys: uint32[rounds + 1, 4], AES round keys.
    nonce: uint32[4], first counter block; public, unique under a secret.
    spec: leaves that it encrypts.
    opens_only: see `keys.OneTimeKey`.
  """

  round_keys: jax.Array
  nonce: jax.Array
  spec: tree.Spec = keys.static()
  opens_only: bool = keys.static(default=False)


def deep_lock(
  schedule: str = "chain",
  key_bits: int = 128,
  nonce: bytes | None = None,
  shardings: Any = None,
) -> Scheme:
  """Return the Deep-Lock scheme.

  Class: `chain` is *obfuscation*, `counter` is *cryptographic* for
  confidentiality alone.

  Guarantees:
    - The right key restores the params bit for bit, for every dtype.
    - `counter`: without the key, ciphertext is AES-CTR under a public
      bijection: as confidential as AES-CTR if no nonce is used twice. So one
      key is for one encryption: other weights under it, such as the next
      state of a training run, are a two-time pad. Seal those instead
      (`keyjax.checkpoint`).
    - `counter`: a key that was read from a file encrypts one tree, which the
      file remembers, or none (`keys.OneTimeKey`).

  Known breaks:
    - `chain`: an AES key schedule can be run backwards. One known round key
      (four float32 weights, for example zero biases) gives the master key, and
      with it every weight.
    - `chain`: no nonce. Two models under one secret are a two-time pad:
      the XOR of the ciphertexts, S-box removed, is that of the weights.
    - `chain`: the same weights under two secrets give both keys without any
      known weight: the XOR is then that of two key schedules
      (`attacks.deep_lock.schedule_difference`).
    - Both: the S-box is public and adds nothing; there is no integrity, so a
      flipped ciphertext byte changes one parameter without being noticed. Seal
      weights where that matters.
    - float32 under a wrong key contains NaN and infinities: an accuracy of
      chance is then the argmax of NaN. Judge the lock on int8.

  Args:
    schedule: `chain` (published) or `counter` (hardened).
    key_bits: 128 or 256.
    nonce: 12 bytes for `counter`; by default a fresh nonce for each `keygen`.
      Pass the stored one to recreate the key of an existing ciphertext, never
      to encrypt a second time.
    shardings: For `counter` and params that are split over Auto axes: a tree
      of `NamedSharding` like the params. Each device then computes only the
      keystream of its own shards, as it always does over Explicit axes. The
      ciphertext is the same.

  Returns:
    A scheme with `keygen`, `encrypt` and `decrypt`. Encrypted leaves have the
    unsigned integer dtype of their width.

  Raises:
    ValueError: If an argument is out of range.

  Example:
    >>> import jax.numpy as jnp
    >>> from keyjax import Secret
    >>> scheme, params = deep_lock("counter"), {"w": jnp.float32([1, 2])}
    >>> key = scheme.keygen(Secret.generate(), params, None)
    >>> locked = scheme.encrypt(key, params)
    >>> locked["w"].dtype, scheme.decrypt(key, locked)["w"].tolist()
    (dtype('uint32'), [1.0, 2.0])
  """
  arguments.require_choice(schedule, "schedule", ("chain", "counter"))
  if key_bits not in (128, 256):
    raise ValueError(f"key_bits={arguments.show(key_bits)}: choose 128 or 256")
  counter.check_nonce(nonce, NAME)
  for name, value in (("nonce", nonce), ("shardings", shardings)):
    if value is not None and schedule == "chain":
      raise ValueError(f"{NAME}: {name} is only for schedule='counter'")

  # A key of the other schedule is refused; the key must not choose the mode.
  kind = ChainKey if schedule == "chain" else CounterKey
  name = f"{NAME}({schedule!r})"

  def keygen(secret: Secret, params: Any, batch: Any) -> keys.Key:
    del batch  # The key does not depend on data.
    keys.require_secret(secret, NAME)
    master = secret.derive(f"{NAME}/{schedule}/{key_bits}", key_bits // 8)
    if schedule == "chain":
      return chain_key(master, params)
    return counter_key(master, nonce, params)

  def encrypt(key: keys.Key, params: Any) -> Any:
    keys.require(key, kind, name)
    if isinstance(key, CounterKey):
      keys.require_unspent(key, name)
    return _transform(key, params, shardings, inverse=False)

  def decrypt(key: keys.Key, params: Any) -> Any:
    keys.require(key, kind, name)
    return _transform(key, params, shardings, inverse=True)

  return Scheme(keygen, encrypt, decrypt)


def chain_key(master: bytes, params: Any) -> ChainKey:
  """Return the published schedule's key for a master key of 16 or 32 bytes.

  Raises:
    ValueError: If `master` has another length, or nothing can be encrypted.
  """
  if len(master) not in (16, 32):
    raise ValueError(f"a master key has 16 or 32 bytes, got {len(master)}")
  words = np.frombuffer(master, ">u4").astype(np.uint32)
  spec = tree.make_spec(params, NAME)
  keys.require_native(spec, NAME)
  return ChainKey(master=jnp.asarray(words), spec=spec)


def counter_key(master: bytes, nonce: bytes | None, params: Any) -> CounterKey:
  """Return the hardened schedule's key.

  Args:
    master: AES key, 16 or 32 bytes.
    nonce: 12 bytes, or None for a fresh one.
    params: Tree that it encrypts.

  Raises:
    ValueError: If a length is wrong, nothing can be encrypted, or the tree is
      larger than the 64 GiB that one nonce may encrypt.
  """
  counter.check_nonce(nonce, NAME)
  spec = tree.make_spec(params, NAME)
  keys.require_native(spec, NAME)
  counter.check_room(spec, NAME)
  return CounterKey(
    round_keys=jnp.asarray(aes.expand_key(master)),
    nonce=counter.first_block(nonce),
    spec=spec,
  )


def _words(leaf: tree.LeafSpec) -> int:
  """Return the number of 32-bit keystream words for a leaf."""
  if not leaf.locked:
    return 0
  size = int(np.prod(leaf.shape, dtype=np.int64))
  return -(-size * tree.word_dtype(leaf.dtype).itemsize // 4)


def _transform(key: Any, params: Any, shardings: Any, inverse: bool) -> Any:
  leaves, treedef = tree.check_spec(key.spec, params, NAME, words=inverse)
  if isinstance(key, ChainKey):
    keys.require_shape(key.master, ((4,), (8,)), NAME)
  else:
    counter.check(key, NAME)
  locked = [x for x, s in zip(leaves, key.spec, strict=True) if s.locked]
  explicit = any(meshes.explicit_sharding(x) for x in locked)
  if shardings is None and not explicit and aes.native.available():
    made = _in_one_call(key, locked, inverse)
  else:
    made = _leaf_by_leaf(key, locked, shardings, inverse)
  found = iter(made)
  out = [
    next(found) if s.locked else x
    for x, s in zip(leaves, key.spec, strict=True)
  ]
  return jax.tree.unflatten(treedef, out)


@functools.partial(jax.jit, static_argnames="inverse")
def _in_one_call(
  key: Any, locked: list[jax.Array], inverse: bool
) -> list[jax.Array]:
  """Lock leaves in one custom call, where XLA does not divide the program."""
  arrays, treedef = jax.tree.flatten(key)
  shapes = [x.shape for x in arrays]
  arrays[0] = jnp.atleast_2d(arrays[0])  # As the handlers take it.

  def otherwise(*args: jax.Array) -> list[jax.Array]:
    given = [x.reshape(s) for x, s in zip(args, shapes, strict=False)]
    same = jax.tree.unflatten(treedef, given)
    return _leaf_by_leaf(same, list(args[len(shapes) :]), None, inverse)

  specs = [s for s in key.spec if s.locked]
  dtypes = [
    jnp.dtype(s.dtype) if inverse else tree.word_dtype(s.dtype) for s in specs
  ]
  results = [
    aes.native.varying(jax.ShapeDtypeStruct(x.shape, dtype), *arrays, x)
    for x, dtype in zip(locked, dtypes, strict=True)
  ]
  kind = "chain" if isinstance(key, ChainKey) else "counter"
  name = f"keyjax_{kind}_{'unlock' if inverse else 'lock'}"
  return handler_on_cpu(name, otherwise, results, *arrays, *locked)


def _leaf_by_leaf(
  key: Any, locked: list[jax.Array], shardings: Any, inverse: bool
) -> list[jax.Array]:
  """Lock leaves by operations of XLA, sharded like the leaves."""
  if isinstance(key, ChainKey):
    pads = meshes.replicated(_chain_pads(key), locked)
  else:
    given = iter(locked)
    leaves = [next(given) if s.locked else None for s in key.spec]
    found = counter.pads(key, leaves, shardings, NAME)
    pads = [pad for pad in found if pad is not None]
  unit = _unlock_leaf if inverse else _lock_leaf
  specs = [s for s in key.spec if s.locked]
  return [
    unit(x, pad, dtype=s.dtype)
    for x, s, pad in zip(locked, specs, pads, strict=True)
  ]


@jax.jit
def _chain_pads(key: ChainKey) -> list[jax.Array]:
  """Return the keystream of each locked leaf."""
  ends = np.cumsum([0, *map(_words, key.spec)]).tolist()
  # A barrier: the keystream is computed once and not fused into each use.
  stream = jax.lax.optimization_barrier(keystream(key, ends[-1]))
  return [
    _share(stream[a:b], s)
    for s, a, b in zip(key.spec, ends, ends[1:], strict=False)
    if s.locked
  ]


@functools.partial(jax.jit, static_argnames="dtype")
def _lock_leaf(x: jax.Array, pad: jax.Array, dtype: Any) -> jax.Array:
  del dtype
  return tree.alike(sub_bytes(tree.as_words(x) ^ pad, inverse=False), x)


@functools.partial(jax.jit, static_argnames="dtype")
def _unlock_leaf(x: jax.Array, pad: jax.Array, dtype: Any) -> jax.Array:
  return tree.alike(tree.from_words(sub_bytes(x, inverse=True) ^ pad, dtype), x)


def _share(stream: jax.Array, leaf: tree.LeafSpec) -> jax.Array:
  """Cut 32-bit keystream words to a leaf's width and shape."""
  dtype = tree.word_dtype(leaf.dtype)
  size = int(np.prod(leaf.shape))
  width = dtype.itemsize * 8
  shifts = np.arange(32 - width, -1, -width, dtype=np.uint32)
  # [words, 1] >> [1, per word] -> [words, per word] -> [words * per word]
  parts = (stream[:, None] >> shifts[None, :]).astype(dtype).reshape(-1)
  return parts[:size].reshape(leaf.shape)


@functools.partial(jax.jit, static_argnames="num_words")
def keystream(key: ChainKey, num_words: int) -> jax.Array:
  """Return the words that are XORed with the parameters, uint32[num_words].

  They are the expanded words that follow the master key.
  """
  size = key.master.shape[0]
  groups = key_schedule(key.master, -(-num_words // size))
  return groups.reshape(-1)[:num_words]  # [groups, Nk] -> [words]


def key_schedule(master: jax.Array, num_steps: int) -> jax.Array:
  """Run the AES key schedule for any number of steps.

  Args:
    master: Words w[0..Nk-1] of the key, uint32[Nk]; Nk is 4 or 8.
    num_steps: Number of groups of Nk words.

  Returns:
    The words w[Nk], w[Nk+1], ... of FIPS-197, 5.2, uint32[num_steps, Nk].

  Example:
    >>> key = jnp.asarray(
    ...   [0x2B7E1516, 0x28AED2A6, 0xABF71588, 0x09CF4F3C], jnp.uint32
    ... )  # FIPS-197, A.1
    >>> [hex(w) for w in key_schedule(key, 10)[9].tolist()]
    ['0xd014f9a8', '0xc9ee2589', '0xe13f0cc8', '0xb6630ca6']
  """
  step = functools.partial(_schedule_step, master.shape[0])
  first = (tuple(master), jnp.uint32(1))
  unroll = _UNROLL if num_steps >= _LONG else 1
  return jax.lax.scan(step, first, None, length=num_steps, unroll=unroll)[1]


def _schedule_step(size: int, carry: Any, _: None) -> tuple[Any, jax.Array]:
  """Compute Nk words from the Nk words before them."""
  words, rcon = carry
  rotated = (words[-1] << np.uint32(8)) | (words[-1] >> np.uint32(24))
  last = sub_word(rotated) ^ (rcon << np.uint32(24))
  out = []
  for i in range(size):
    if size == 8 and i == 4:  # AES-256 has one more SubWord.
      last = sub_word(last)
    last = words[i] ^ last
    out.append(last)
  # The round constant doubles in GF(2^8).
  rcon = (rcon << np.uint32(1)) ^ ((rcon >> np.uint32(7)) * np.uint32(0x11B))
  return (tuple(out), rcon), jnp.stack(out)


def sub_word(word: jax.Array) -> jax.Array:
  """Apply the S-box to every byte of a word, as the schedule does."""
  table = jnp.asarray(SBOX.astype(np.uint32))
  out = jnp.uint32(0)
  for shift in (24, 16, 8, 0):
    octet = (word >> np.uint32(shift)) & np.uint32(255)
    value = table.at[octet].get(mode="promise_in_bounds")
    out = out | (value << np.uint32(shift))
  return out


def _security_class(options: Mapping[str, Any]) -> str:
  schedule = options.get("schedule", registry.get(NAME).defaults()["schedule"])
  classes = {
    "chain": registry.OBFUSCATION,
    "counter": registry.CRYPTOGRAPHIC,
  }
  return classes.get(str(schedule), registry.UNCLASSIFIED)


def _known_break(options: Mapping[str, Any]) -> str | None:
  return {
    registry.OBFUSCATION: (
      "four known float32 weights, such as zero biases, give the master key"
    ),
    registry.CRYPTOGRAPHIC: "",
  }.get(_security_class(options))


registry.register(
  NAME,
  deep_lock,
  security_class=_security_class,
  known_break=_known_break,
  locks_int8=True,
)
