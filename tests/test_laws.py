"""The laws, for every scheme, combinator and dtype.

1. decrypt(encrypt(p)) is p, bit for bit.
2. Structure, shapes and sharding are kept; dtypes too, or a cipher's words.
3. A chain undoes itself in reverse.
4. eager = jit = vmap over keys = pmap = sharded over a mesh.
5. One compilation serves every key.
6. Something is locked; a wrong key never restores an encrypted leaf, nor runs
   the bound pass.
7. No two leaves, positions, nonces or encryptions share a keystream. It fails
   for Deep-Lock's published chain: two files under one secret share theirs.
8. Absorbed params run plain compute what the key holder computes.
"""

import functools
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import keyjax
from keyjax import Scheme, Secret, aes, keys, laws, secrets, tree
from keyjax.aes import substitution
from keyjax.attacks import near_keys
from keyjax.schemes import deep_lock
from tests import trees

pytestmark = pytest.mark.laws


class Net(nn.Module):
  """A model for the schemes that bind."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.relu(nn.Conv(4, (2, 2), strides=2, name="conv")(x))
    return nn.Dense(3, name="head")(x.reshape(len(x), -1))


IMAGES = jnp.asarray(
  np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32)
)
BATCH = {"image": IMAGES}


def rolled() -> Scheme:
  """A permutation of each row: with a XOR it does not commute."""

  @jax.jit
  def roll(x: jax.Array, shift: jax.Array) -> jax.Array:
    # No leaf is cut along its last axis.
    return tree.alike(jnp.roll(x, shift, axis=-1) if x.ndim else x, x)

  def move(key: jax.Array, params: Any, sign: int) -> Any:
    return jax.tree.map(
      lambda x: roll(x, sign * key) if tree.lockable(x) else x,
      params,
      is_leaf=lambda x: isinstance(x, tree.Hidden),
    )

  return Scheme(
    keygen=lambda secret, params, batch: jnp.asarray(
      1 + secret.derive("rolled", 1)[0] % 6
    ),
    encrypt=functools.partial(move, sign=1),
    decrypt=functools.partial(move, sign=-1),
  )


adv = functools.partial(
  keyjax.adv_params, trees.loss, loss_threshold=1e6, max_steps=3, max_params=5
)

# Schemes over parameters. A cipher leaves words; `locks` says which leaves.
TREE_SCHEMES = {
  "identity": (keyjax.identity, lambda path: False),
  "deep_lock_128": (keyjax.deep_lock, lambda path: True),
  "deep_lock_256": (
    lambda: keyjax.deep_lock(key_bits=256),
    lambda path: True,
  ),
  "deep_lock_counter": (
    lambda: keyjax.deep_lock("counter"),
    lambda path: True,
  ),
  "adv_params": (adv, lambda path: False),
  "keyed_noise": (keyjax.keyed_noise, lambda path: False),
  "licensee_mark": (keyjax.licensee_mark, lambda path: False),
  "chain": (
    lambda: keyjax.chain(adv(), keyjax.deep_lock()),
    lambda path: True,
  ),
  "chain_rolled": (
    lambda: keyjax.chain(rolled(), keyjax.deep_lock()),
    lambda path: True,
  ),
  "masked": (
    lambda: keyjax.masked(keyjax.deep_lock(), "conv/.*"),
    lambda path: path.startswith("conv"),
  ),
  "partition": (
    lambda: keyjax.partition(
      {
        "conv/.*": adv(),
        "dense/.*": keyjax.deep_lock("counter"),
        ".*": keyjax.deep_lock(key_bits=256),
      }
    ),
    lambda path: not path.startswith("conv"),
  ),
  "nested": (
    lambda: keyjax.masked(
      keyjax.chain(
        keyjax.masked(rolled(), "conv/.*"),
        keyjax.chain(keyjax.identity(), keyjax.deep_lock()),
      ),
      ".*/.*",
    ),
    lambda path: "/" in path,
  ),
}
BOUND_SCHEMES = {
  "hpnn": lambda: keyjax.hpnn(Net().apply, units=16),
  "shf": lambda: keyjax.pixel_shuffle("shf", 2),
  "np": lambda: keyjax.pixel_shuffle("np", 2),
  "ffx": lambda: keyjax.pixel_shuffle("ffx", 2),
  "shf_hpnn_deep_lock": lambda: keyjax.chain(
    keyjax.pixel_shuffle("shf", 4),
    keyjax.hpnn(Net().apply),
    keyjax.deep_lock(),
  ),
}
FLOAT_ONLY = (
  "adv_params",
  "keyed_noise",
  "licensee_mark",
  "chain",
  "partition",
)
CASES = [
  (name, dtype)
  for name in TREE_SCHEMES
  for dtype in trees.DTYPES
  if not (dtype == "int8" and name in FLOAT_ONLY)
]
# Combinations are put to other dtypes than float32 by the slow tests.
COMBINED = ("chain", "chain_rolled", "masked", "partition", "nested")


def case(name: str, dtype: str) -> Any:
  long = name in COMBINED and dtype != "float32"
  return pytest.param(name, dtype, marks=[pytest.mark.slow] if long else [])


per_case = pytest.mark.parametrize(
  ("name", "dtype"), [case(*names) for names in CASES]
)


@functools.cache
def setup(name: str, dtype: str) -> tuple[Scheme, Any, Any]:
  """Return the scheme, the plain tree and a key."""
  scheme = TREE_SCHEMES[name][0]()
  plain = trees.params(dtype)
  return scheme, plain, scheme.keygen(Secret.generate(), plain, BATCH)


def stack(*made: Any) -> Any:
  return jax.tree.map(lambda *x: np.stack(x), *made)


def at(stacked: Any, i: int) -> Any:
  return jax.tree.map(lambda x: x[i], stacked)


def without_rng(params: Any) -> Any:
  # A pmap axis cannot be put on a typed PRNG key with device_put.
  return {k: v for k, v in params.items() if k != "rng"}


@pytest.mark.parametrize(
  ("name", "dtype"), [case(*names) for names in CASES if "float16" not in names]
)
def test_laws_check_passes(name: str, dtype: str) -> None:
  scheme = TREE_SCHEMES[name][0]()
  laws.check(
    scheme, trees.params(dtype), BATCH, locks_nothing=name == "identity"
  )


@per_case
def test_1_and_2_a_cipher_leaves_words(name: str, dtype: str) -> None:
  scheme, plain, key = setup(name, dtype)
  # `laws.check` compiles the other dtypes.
  jit = jax.jit if dtype == "float16" else lambda function: function
  locked = jit(scheme.encrypt)(key, plain)
  trees.assert_same_bits(jit(scheme.decrypt)(key, locked), plain)
  paths, before, _ = tree.flatten(plain)
  for path, x, y in zip(paths, before, jax.tree.leaves(locked), strict=True):
    cipher = tree.lockable(x) and TREE_SCHEMES[name][1](path)
    assert y.dtype == (tree.word_dtype(x.dtype) if cipher else x.dtype), path


@pytest.mark.parametrize("name", TREE_SCHEMES)
def test_2_and_4_sharding(name: str) -> None:
  scheme, plain, _ = setup(name, "float32")
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
  specs = {(8, 5): P("a"), (8, 3): P(("a", "b"))}
  place = lambda x: jax.device_put(  # noqa: E731
    np.asarray(x), NamedSharding(mesh, specs.get(x.shape, P()))
  )
  sharded = jax.tree.map(place, without_rng(plain))
  scheme_key = scheme.keygen(Secret.generate(), sharded, BATCH)
  whole = scheme.encrypt(scheme_key, without_rng(plain))
  # JAX 0.12 must be told under jit: see tree.alike.
  asked = None
  if tree.shard_alike is None:
    asked = jax.tree.map(lambda x: x.sharding, sharded)
  jitted = jax.jit(scheme.encrypt, out_shardings=asked)
  for encrypt in (scheme.encrypt, jitted):
    out = encrypt(scheme_key, sharded)
    trees.assert_same_bits(out, whole)
    for x, y in zip(
      jax.tree.leaves(sharded), jax.tree.leaves(out), strict=True
    ):
      assert y.sharding.is_equivalent_to(x.sharding, x.ndim)
  trees.assert_same_bits(
    jax.jit(scheme.decrypt)(scheme_key, out), without_rng(plain)
  )


def _noise(shardings: Any) -> keyjax.Scheme:
  return keyjax.keyed_noise(shardings=shardings)


def test_2_a_sharded_cipher_gathers_nothing() -> None:
  scheme = keyjax.deep_lock()
  mesh = Mesh(np.array(jax.devices()), ("a",))
  ones = np.ones((64, 8), np.float32)
  x = jax.device_put(ones, NamedSharding(mesh, P("a")))
  key = scheme.keygen(Secret.generate(), {"w": x}, None)
  text = jax.jit(scheme.encrypt).lower(key, {"w": x}).compile().as_text()
  assert "all-gather" not in text and "all-reduce" not in text


@pytest.mark.parametrize(
  "make", [lambda s: keyjax.deep_lock("counter", shardings=s), _noise]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_2_a_sharded_counter_mode_sends_nothing(make: Any, dtype: str) -> None:
  """The bytes are those of one device, for shards of any rows."""
  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(jnp.dtype(dtype))  # noqa: E731
  plain = {
    "kernel": draw(8, 6),
    "deep": {"kernel": draw(3, 16)},
    "bias": draw(5),
  }
  specs = {"kernel": P("a", "b"), "deep": {"kernel": P(None, "a")}, "bias": P()}
  places = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
  whole, cut = make(None), make(places)
  key = whole.keygen(Secret.generate(), plain, None)
  want, placed = whole.encrypt(key, plain), jax.device_put(plain, places)
  trees.assert_same_bits(cut.encrypt(key, placed), want)
  key = jax.device_put(jax.device_get(key), NamedSharding(mesh, P()))
  locked = jax.device_put(jax.device_get(want), places)
  for step, tree_in in (("encrypt", placed), ("decrypt", locked)):
    jitted = jax.jit(getattr(cut, step), out_shardings=places)
    text = jitted.lower(key, tree_in).compile().as_text()
    for name in ("all-gather", "all-reduce", "all-to-all", "permute("):
      assert name not in text
  locked = jax.jit(cut.encrypt)(key, placed)
  for x, place in zip(
    jax.tree.leaves(locked), jax.tree.leaves(places), strict=True
  ):
    assert x.sharding.is_equivalent_to(place, x.ndim)
  trees.assert_same_bits(jax.jit(cut.decrypt)(key, locked), plain)


def test_2_shardings_that_do_not_fit_are_refused() -> None:
  mesh, plain = Mesh(np.array(jax.devices()), ("a",)), {"w": jnp.ones((12, 2))}
  key = keyjax.deep_lock("counter").keygen(Secret.generate(), plain, None)
  with pytest.raises(ValueError, match="shardings lack leaf w"):
    keyjax.deep_lock("counter", shardings={}).encrypt(key, plain)
  unfit = {
    "leaf w, [12, 2], cannot be cut as": NamedSharding(mesh, P("a")),
    "cannot be cut as": NamedSharding(mesh, P(None, None, "a")),
    "cut as P.*UNCONSTRAINED": NamedSharding(mesh, P(P.UNCONSTRAINED)),
    "hold a P.* for leaf w, not a NamedSharding": P("a"),
    "hold a SingleDeviceSharding": SingleDeviceSharding(jax.devices()[0]),
  }
  for message, place in unfit.items():
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
      keyjax.deep_lock("counter", shardings={"w": place}).encrypt(key, plain)


def test_3_a_chain_undoes_itself_in_reverse() -> None:
  first, second = rolled(), keyjax.deep_lock()
  scheme = keyjax.chain(first, second)
  plain = trees.params("float32")
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  trees.assert_same_bits(scheme.decrypt(key, locked), plain)
  by_hand = second.encrypt(key[1], first.encrypt(key[0], plain))
  trees.assert_same_bits(locked, by_hand)
  # Rolling last undoes another order, so the law above can fail.
  floats = tree.as_floats(first.decrypt(key[0], _view(locked, plain)), plain)
  words = jax.tree.map(
    lambda x: tree.as_words(x) if tree.lockable(x) else x, floats
  )
  assert not _equal(second.decrypt(key[1], words), plain)


def _view(locked: Any, plain: Any) -> Any:
  """Words as floats for `rolled`; nothing computes with them."""
  return tree.as_floats(locked, plain)


def _equal(a: Any, b: Any) -> bool:
  try:
    trees.assert_same_bits(a, b)
  except AssertionError:
    return False
  return True


@pytest.mark.parametrize("name", TREE_SCHEMES)
def test_4_encrypt_under_pmap_and_decrypt_under_vmap(name: str) -> None:
  """`laws.check` does the other two."""
  scheme, plain, _ = setup(name, "float32")
  plain = without_rng(plain)
  made = [scheme.keygen(Secret.generate(), plain, BATCH) for _ in range(8)]
  eager = [scheme.encrypt(k, plain) for k in made[:2]]
  if not jax.tree.leaves(made):  # identity has no key to map over
    trees.assert_same_bits(eager[0], plain)
    return
  by_pmap = jax.pmap(scheme.encrypt, in_axes=(0, None))(stack(*made), plain)
  locked = jax.device_get(by_pmap)
  for i, one in enumerate(eager):
    trees.assert_same_bits(jax.device_get(one), at(locked, i))
  back = jax.device_get(jax.vmap(scheme.decrypt)(stack(*made), locked))
  for i in range(8):
    trees.assert_same_bits(at(back, i), jax.device_get(plain))


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_4_bound_passes(name: str) -> None:
  scheme, variables, made, locked = bound_setup(name)

  def forward(key: Any, params: Any) -> jax.Array:
    return keyjax.authorize(scheme, key, Net().apply)(params, IMAGES)

  eager = [forward(k, p) for k, p in zip(made, locked, strict=True)]
  jitted = jax.jit(forward)
  stacked = stack(*made), stack(*locked)
  by_vmap = np.asarray(jax.jit(jax.vmap(forward))(*stacked))
  by_pmap = np.asarray(jax.pmap(forward)(*stacked))
  for i, one in enumerate(eager):
    for other in (jitted(made[i], locked[i]), by_vmap[i], by_pmap[i]):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  assert np.ptp(by_vmap, axis=0).max() > 0


@functools.cache
def bound_setup(name: str) -> tuple[Scheme, Any, list[Any], list[Any]]:
  scheme = BOUND_SCHEMES[name]()
  variables = trees.fresh(Net(), IMAGES)
  made = [scheme.keygen(Secret.generate(), variables, BATCH) for _ in range(8)]
  return scheme, variables, made, [scheme.encrypt(k, variables) for k in made]


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_1_bound_schemes_keep_or_restore_params(name: str) -> None:
  scheme, variables, made, locked = bound_setup(name)
  trees.assert_same_bits(scheme.decrypt(made[0], locked[0]), variables)


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_5_one_compilation_serves_every_key(name: str) -> None:
  chex.clear_trace_counter()
  scheme, _, made, locked = bound_setup(name)
  forward = jax.jit(
    chex.assert_max_traces(
      lambda k, p: keyjax.authorize(scheme, k, Net().apply)(p, IMAGES), 1
    )
  )
  for key, params in zip(made, locked, strict=True):
    forward(key, params)


@pytest.mark.parametrize("name", BOUND_SCHEMES)
def test_laws_check_passes_for_bound_schemes(name: str) -> None:
  absorb = keyjax.absorb if name == "hpnn" else None
  laws.check(
    BOUND_SCHEMES[name](),
    bound_setup(name)[1],
    BATCH,
    apply_fn=Net().apply,
    absorb=absorb,
  )


# Schemes that break a law, and the error.
PLAIN = {"w": jnp.asarray(np.random.default_rng(0).normal(size=64), "float32")}


def broken(**functions: Any) -> Scheme:
  """A scheme that XORs a secret number to each weight, with other functions."""

  def keygen(secret: Secret, params: Any, batch: Any) -> jax.Array:
    return jnp.uint32(int.from_bytes(secret.derive("number", 3), "big"))

  def mix(key: jax.Array, params: Any) -> Any:
    return jax.tree.map(
      lambda x: tree.from_words(tree.as_words(x) ^ key, x.dtype), params
    )

  whole = {"keygen": keygen, "encrypt": mix, "decrypt": mix}
  return Scheme(**(whole | functions))


def constant(key: Any, params: Any) -> Any:
  return jax.tree.map(lambda x: -x, params)


def plain(key: Any, params: Any) -> Any:
  return params


def eager(key: Any, params: Any) -> Any:
  if isinstance(key, jax.core.Tracer):
    return params
  return constant(key, params)


@pytest.mark.parametrize(
  ("functions", "message"),
  [
    ({"decrypt": lambda key, params: params}, "law 1: .* at w"),
    ({"encrypt": lambda key, params: {"v": params["w"]}}, "law 2: .*structure"),
    ({"encrypt": lambda key, params: {"w": params["w"][:8]}}, "law 2: .*shape"),
    (
      {"encrypt": lambda key, params: {"w": params["w"].astype("bfloat16")}},
      "law 2: encrypt makes w bfloat16",
    ),
    ({"encrypt": eager, "decrypt": constant}, "law 4: encrypt .* under jit"),
    ({"keygen": lambda *_: 3}, "law 5: the key contains a int"),
    ({"encrypt": constant, "decrypt": constant}, "law 6: .* restores w"),
    ({"encrypt": plain, "decrypt": plain}, "law 6: nothing is locked"),
  ],
)
def test_a_broken_law_is_named(functions: dict[str, Any], message: str) -> None:
  laws.check(broken(), PLAIN)
  with pytest.raises(laws.LawError, match=message):
    laws.check(broken(**functions), PLAIN)


def test_6_something_is_locked() -> None:
  with pytest.raises(laws.LawError, match=r"nothing is .*locks_nothing=True"):
    laws.check(keyjax.identity(), PLAIN)
  laws.check(keyjax.identity(), PLAIN, locks_nothing=True)
  with pytest.raises(laws.LawError, match="locks something"):
    laws.check(keyjax.keyed_noise(".*"), PLAIN, locks_nothing=True)
  # `rolled` finds nothing in the words of a cipher.
  silent = broken(encrypt=plain, decrypt=plain)
  for parts, at in (
    ((silent, broken()), 0),
    ((keyjax.keyed_noise(".*"), silent), 1),
  ):
    with pytest.raises(laws.LawError, match=f"law 6: part {at} of the chain"):
      laws.check(keyjax.chain(*parts), PLAIN)


def test_6_and_8_a_bound_pass() -> None:
  """Schemes whose `bind` breaks a law."""

  def apply_fn(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"].reshape(8, 8)

  def bound(change: Any) -> Scheme:
    def bind(key: Any, apply_fn: Any) -> Any:
      return lambda params, x: change(key, apply_fn(params, x))

    return broken(encrypt=plain, decrypt=plain, bind=bind)

  def check(scheme: Scheme, absorb: Any = None) -> None:
    batch = {"image": jnp.asarray(np.eye(8), "float32") + 1}
    laws.check(scheme, PLAIN, batch, apply_fn=apply_fn, absorb=absorb)

  def times(key: Any, y: jax.Array) -> jax.Array:
    return y * (1 + key.astype(jnp.float32))

  def eager_only(key: Any, y: jax.Array) -> jax.Array:
    return y if isinstance(key, jax.core.Tracer) else 2 * y

  check(bound(times))
  for change, message in (
    (lambda key, y: y, "law 6: nothing is locked"),
    (lambda key, y: -y, "law 6: .* same with a wrong key"),
    (eager_only, "law 4: the bound pass differs under jit"),
  ):
    with pytest.raises(laws.LawError, match=message):
      check(bound(change))
  with pytest.raises(laws.LawError, match="law 8: .* something else"):
    check(bound(times), absorb=plain)
  with pytest.raises(laws.LawError, match=r"pass apply_fn=model\.apply"):
    laws.check(bound(times), PLAIN)
  with pytest.raises(ValueError, match="absorb= needs apply_fn="):
    laws.check(broken(), PLAIN, absorb=plain)


def test_5_a_static_key_is_compiled_again() -> None:
  def keygen(secret: Secret, params: Any, batch: Any) -> Any:
    return Static(number=int.from_bytes(secret.derive("n", 3)))

  def flip(key: Any, params: Any) -> Any:
    return jax.tree.map(
      lambda x: tree.from_words(
        tree.as_words(x) ^ np.uint32(key.number), x.dtype
      ),
      params,
    )

  with pytest.raises(laws.LawError, match="law 5: another key is compiled"):
    laws.check(Scheme(keygen, flip, flip), PLAIN)


@keys.key_dataclass
class Static(keys.Key):
  number: int = keys.static()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_6_adv_params_with_a_wrong_key(dtype: str) -> None:
  scheme, plain, key = setup("adv_params", dtype)
  locked = scheme.encrypt(key, plain)
  near = near_keys.near_key(key, 1, np.random.default_rng(0))
  opened = scheme.decrypt(near, locked)
  assert _equal(scheme.decrypt(key, locked), plain)
  assert not _equal(opened, plain)


STREAM_CIPHERS = {
  "chain_128": keyjax.deep_lock("chain", 128),
  "chain_256": keyjax.deep_lock("chain", 256),
  "counter_128": keyjax.deep_lock("counter", 128),
  "counter_256": keyjax.deep_lock("counter", 256),
  "keyed_noise": keyjax.keyed_noise(".*"),
}
WITH_NONCE = ("counter_128", "counter_256", "keyed_noise")


@pytest.mark.parametrize("name", STREAM_CIPHERS)
def test_7_leaves_and_positions_share_no_keystream(name: str) -> None:
  """Under one secret; a leaf has 256 blocks."""
  scheme, secret = STREAM_CIPHERS[name], Secret.generate()
  plain = {"a": jnp.zeros(1024), "b": jnp.zeros(1024)}
  both = keyjax.chain(keyjax.masked(scheme, "a"), keyjax.masked(scheme, "b"))
  positions = both.keygen(secret, plain, None)
  assert_no_block_repeats([scheme.keygen(secret, plain, None), *positions])


@pytest.mark.parametrize("name", WITH_NONCE)
def test_7_encryptions_under_one_secret_share_no_keystream(name: str) -> None:
  scheme, secret = STREAM_CIPHERS[name], Secret.generate()
  plain = {"a": jnp.zeros(1024)}
  assert_no_block_repeats(
    [scheme.keygen(secret, plain, None) for _ in range(3)]
  )


@pytest.mark.parametrize("key_bits", [128, 256])
def test_7_fails_for_the_published_chain(key_bits: int) -> None:
  """Two files under one secret are a two-time pad: one reveals the other.

  The published schedule has no nonce, so law 7 holds within a file alone.
  """
  scheme, secret = STREAM_CIPHERS[f"chain_{key_bits}"], Secret.generate()
  rng = np.random.default_rng(0)
  known, hidden = (
    {"w": jnp.asarray(rng.normal(size=512).astype(np.float32))}
    for _ in range(2)
  )
  first, second = (
    scheme.encrypt(scheme.keygen(secret, plain, None), plain)
    for plain in (known, hidden)
  )
  with pytest.raises(AssertionError, match="share keystream"):
    assert_no_block_repeats(
      [scheme.keygen(secret, plain, None) for plain in (known, hidden)]
    )
  # Without any key: the public S-box undone, the keystream cancels out.
  pads = [substitution.sub_bytes(x["w"], inverse=True) for x in (first, second)]
  words = pads[0] ^ pads[1] ^ tree.as_words(known["w"])
  found = tree.from_words(words, jnp.float32)
  np.testing.assert_array_equal(found, hidden["w"])


def assert_no_block_repeats(made: list[Any]) -> None:
  streams = np.concatenate([_blocks(k, 512) for k in made])
  distinct = len(np.unique(streams, axis=0))
  assert distinct == len(streams), f"{len(made)} keys share keystream"


def _blocks(key: Any, count: int) -> np.ndarray:
  if isinstance(key, deep_lock.ChainKey):
    return np.asarray(deep_lock.keystream(key, 4 * count)).reshape(-1, 4)
  return np.asarray(aes.keystream(key.round_keys, key.nonce, count))


def test_7_leaves_take_consecutive_keystream() -> None:
  # Zeros show InvSbox(w') = k_i: every leaf must show another part of it.
  scheme = keyjax.deep_lock()
  plain = {"a": jnp.zeros(6), "b": jnp.zeros((2, 5), jnp.bfloat16)}
  key = scheme.keygen(Secret.generate(), plain, None)
  locked = scheme.encrypt(key, plain)
  stream = np.asarray(deep_lock.keystream(key, 11)).astype(">u4")
  found = [
    substitution.INV_SBOX[np.asarray(locked["a"]).astype(">u4").view(np.uint8)],
    substitution.INV_SBOX[
      np.asarray(locked["b"]).reshape(-1).astype(">u2").view(np.uint8)
    ],
  ]
  np.testing.assert_array_equal(np.concatenate(found), stream.view(np.uint8))


def test_7_labels_separate_everything_derived() -> None:
  secret = Secret.generate()
  labels = ["a", "b", "chain/0", "chain/1", "deep_lock/chain/128"]
  derived = {secret.derive(x, 32) for x in labels}
  derived |= {secret.child("x").derive(x, 32) for x in labels}
  assert len(derived) == 2 * len(labels)
  assert secrets.permutation(secret, "a", 64).tolist() != (
    secrets.permutation(secret, "b", 64).tolist()
  )
