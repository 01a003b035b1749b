"""Meshes of Auto and Explicit axes: `jax.make_mesh` makes Explicit ones.

Over each, a scheme computes the bits that it computes without a mesh, keeps
the shardings, and has the devices gather nothing.
"""

import contextlib
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import keyjax
from keyjax import Scheme, Secret, keys, quantize, seal
from keyjax.aes import native
from keyjax.schemes import gradient_search, patch_embedding, pixel_shuffle
from tests import trees

pytestmark = pytest.mark.laws

EXPLICIT, AUTO = AxisType.Explicit, AxisType.Auto
AXES = {
  "auto": (AUTO, AUTO),
  "explicit": (EXPLICIT, EXPLICIT),
  "mixed": (EXPLICIT, AUTO),
  "set_mesh": (EXPLICIT, EXPLICIT),
}
SPECS = {
  "conv": {"kernel": P(None, "b"), "bias": P()},
  "dense": {"kernel": P("a", "b"), "bias": P("a")},
}
RNG = np.random.default_rng(0)
PLAIN = jax.tree.map(
  lambda shape: RNG.normal(size=shape).astype(np.float32),
  {
    "conv": {"kernel": (3, 4), "bias": (5,)},
    "dense": {"kernel": (8, 4), "bias": (8,)},
  },
  is_leaf=lambda x: isinstance(x, tuple),
)
IMAGES = RNG.random((8, 4, 8, 1)).astype(np.float32)
BATCH = {"image": IMAGES}
SECRET = Secret(bytes(range(32)))
NONCE = bytes(12)

adv = functools.partial(
  keyjax.adv_params, trees.loss, loss_threshold=1e6, max_steps=3, max_params=5
)
SCHEMES = {
  "chain": keyjax.deep_lock,
  "counter": lambda: keyjax.deep_lock("counter", nonce=NONCE),
  "adv_params": adv,
  "keyed_noise": lambda: keyjax.keyed_noise(nonce=NONCE),
  "partition": lambda: keyjax.partition(
    {
      "dense/kernel": keyjax.chain(adv("dense/kernel"), keyjax.deep_lock()),
      ".*": keyjax.deep_lock("counter", nonce=NONCE),
    }
  ),
}


@functools.cache
def setup(name: str) -> tuple[Scheme, Any, Any]:
  """Return a scheme, its key and the ciphertext, made without a mesh."""
  scheme = SCHEMES[name]()
  key = scheme.keygen(SECRET, PLAIN, None)
  return scheme, key, jax.device_get(jax.jit(scheme.encrypt)(key, PLAIN))


@functools.cache
def mesh(kind: str) -> Mesh:
  return jax.make_mesh((4, 2), ("a", "b"), axis_types=AXES[kind])


@pytest.fixture(params=AXES)
def kind(request: Any) -> Any:
  """Return the name of a mesh; the last one is also the current mesh."""
  name = request.param
  current = name == "set_mesh"
  with jax.set_mesh(mesh(name)) if current else contextlib.nullcontext():
    yield name


def put(kind: str, x: Any, *spec: Any) -> jax.Array:
  return jax.device_put(x, NamedSharding(mesh(kind), P(*spec)))


def sharded(kind: str, params: Any) -> Any:
  return jax.tree.map(lambda x, spec: put(kind, x, *spec), params, SPECS)


def run(function: Any, *args: Any) -> Any:
  """Run a function under jit, and check that it gathers no array."""
  compiled = jax.jit(function).lower(*args).compile()
  text = compiled.as_text()
  for name in ("all-gather", "all-to-all", "collective-permute"):
    assert name not in text
  return compiled(*args)


def assert_placed(out: Any, like: Any) -> None:
  for x, y in zip(jax.tree.leaves(out), jax.tree.leaves(like), strict=True):
    assert x.sharding.is_equivalent_to(y.sharding, x.ndim)


def on_every_mesh(*names: str, slow: tuple[str, ...] = ()) -> Any:
  """Run with these schemes over every mesh, the others over Explicit axes.

  The slow tests run those of `slow` over every mesh as well.
  """
  cases: list[Any] = [(kind, name) for kind in AXES for name in names]
  cases += [("explicit", name) for name in SCHEMES if name not in names]
  cases += [
    pytest.param(kind, name, marks=pytest.mark.slow)
    for kind in AXES
    for name in slow
    if kind != "explicit"
  ]
  return pytest.mark.parametrize(("kind", "name"), cases, indirect=["kind"])


@on_every_mesh("counter", "adv_params", slow=("chain",))
def test_params(kind: str, name: str) -> None:
  scheme, key, want = setup(name)
  params = sharded(kind, PLAIN)
  locked = run(scheme.encrypt, key, params)
  trees.assert_same_bits(locked, want)
  back = run(scheme.decrypt, key, locked)
  trees.assert_same_bits(back, PLAIN)
  # JAX 0.12 does not promise it over Auto axes: see tree.alike.
  if kind in ("explicit", "set_mesh"):
    assert_placed(locked, params)
    assert_placed(back, params)


@pytest.mark.parametrize("name", ["partition"])
def test_without_jit(name: str, tmp_path: pathlib.Path) -> None:
  """Keys made from sharded params are the same, and are saved as such."""
  scheme, key, want = setup(name)
  params = sharded("explicit", PLAIN)
  made = scheme.keygen(SECRET, params, None)
  trees.assert_same_bits(made, key)
  locked = scheme.encrypt(made, params)
  trees.assert_same_bits(locked, want)
  assert_placed(locked, params)
  put = jax.device_put(key, put_all("explicit"))
  keys.save(tmp_path / "key", put, unused=True)
  for same in (params, PLAIN):  # One tree, wherever it is.
    trees.assert_same_bits(keys.claim(tmp_path / "key", same), key)


def put_all(kind: str) -> NamedSharding:
  return NamedSharding(mesh(kind), P())


@pytest.mark.parametrize("name", ["chain", "counter"])
def test_deep_lock_is_one_custom_call_where_one_device_runs_it(
  name: str,
) -> None:
  if not native.available():
    pytest.skip("no compiled cipher")
  scheme, key, want = setup(name)
  call = f"custom_call @keyjax_{name}_lock"
  alone = jax.jit(scheme.encrypt).lower(key, PLAIN)
  assert alone.as_text().count(call) == 1
  assert alone.as_text().count("stablehlo.xor") == 0
  whole = jax.shard_map(
    scheme.encrypt, mesh=mesh("auto"), in_specs=P(), out_specs=P()
  )
  manual = jax.jit(whole).lower(key, PLAIN)
  assert manual.as_text().count(call) == 1
  trees.assert_same_bits(manual.compile()(key, PLAIN), want)
  for kind in AXES:  # There it would gather the leaves.
    divided = jax.jit(scheme.encrypt).lower(key, sharded(kind, PLAIN))
    assert call not in divided.as_text()


@pytest.mark.parametrize(
  "name", [pytest.param("chain", marks=pytest.mark.slow), "counter"]
)
def test_deep_lock_under_transformations(name: str) -> None:
  scheme, key, want = setup(name)
  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), PLAIN)
  mapped = jax.vmap(scheme.encrypt, in_axes=(None, 0))(key, stacked)
  trees.assert_same_bits(jax.tree.map(lambda x: x[1], mapped), want)
  trees.assert_same_bits(jax.checkpoint(scheme.encrypt)(key, PLAIN), want)
  with jax.disable_jit():
    trees.assert_same_bits(scheme.encrypt(key, PLAIN), want)

  def total(params: Any) -> jax.Array:
    opened = scheme.decrypt(key, scheme.encrypt(key, params))
    return sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(opened))

  slopes = jax.grad(total, allow_int=True)(PLAIN)
  for x in jax.tree.leaves(slopes):  # Bit patterns have no derivative.
    if jnp.issubdtype(x.dtype, jnp.floating):
      assert not x.any()


def test_a_device_computes_its_own_part_of_a_keystream() -> None:
  scheme, key, _ = setup("counter")
  lowered = jax.jit(scheme.encrypt).lower(key, sharded("explicit", PLAIN))
  assert "shard_map" in lowered.as_text(debug_info=True)
  whole = jax.jit(scheme.encrypt).lower(
    key, jax.device_put(PLAIN, put_all("explicit"))
  )
  assert "shard_map" not in whole.as_text(debug_info=True)


def test_transformations_of_sharded_params() -> None:
  """Under vmap and with in_shardings as without a mesh."""
  scheme, plain = SCHEMES["counter"](), PLAIN["dense"]["bias"]
  key = scheme.keygen(SECRET, plain, None)
  want = scheme.encrypt(key, plain)
  params = put("explicit", plain, "a")
  two = jax.tree.map(lambda x: jnp.stack([x, x]), key)
  by_key = jax.vmap(scheme.encrypt, in_axes=(0, None))(two, params)
  by_leaf = jax.vmap(scheme.encrypt, in_axes=(None, 0))(
    key, put("explicit", np.stack([plain, plain]), None, "a")
  )
  for out in (by_key, by_leaf):
    trees.assert_same_bits(np.asarray(out)[1], np.asarray(want))
  jitted = jax.jit(scheme.encrypt, in_shardings=(None, params.sharding))
  out = jitted(key, plain)
  trees.assert_same_bits(out, want)


@pytest.mark.slow
def test_adv_params_in_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
  """The compiled loop of accelerators; params without a mesh, a batch on it."""
  key = adv().keygen(SECRET, PLAIN, None)
  monkeypatch.setattr(gradient_search.jax, "default_backend", lambda: "gpu")
  found = adv().keygen(SECRET, sharded("explicit", PLAIN), None)
  trees.assert_same_bits(found, key)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:adv_params. the loss is")
def test_adv_params_in_range() -> None:
  scheme = adv(search="in_range")
  key = scheme.keygen(SECRET, PLAIN, None)
  for kind in AXES:
    found = scheme.keygen(SECRET, sharded(kind, PLAIN), None)
    trees.assert_same_bits(found, key)


@pytest.mark.slow
def test_adv_params_with_a_sharded_batch() -> None:
  def loss(params: Any, batch: Any) -> jax.Array:
    return trees.loss(params, None) + 0 * batch.sum()

  scheme = keyjax.adv_params(
    loss, max_steps=3, max_params=5, loss_threshold=1e6
  )
  plain = jax.tree.map(jnp.asarray, PLAIN)
  found = scheme.keygen(SECRET, plain, put("explicit", IMAGES, "a"))
  trees.assert_same_bits(found, adv().keygen(SECRET, PLAIN, None))


def there_and_back(key: Any, images: Any) -> tuple[jax.Array, jax.Array]:
  out = pixel_shuffle.transform(key, images)
  return out, pixel_shuffle.inverse(key, jax.lax.optimization_barrier(out))


@functools.cache
def image_setup(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
  """Return a key, transformed images, and the images after the inverse."""
  key = keyjax.pixel_shuffle(name, 2).keygen(SECRET, None, BATCH)
  images, back = jax.jit(there_and_back)(key, IMAGES)
  return key, np.asarray(images), np.asarray(back)


@pytest.mark.parametrize("spec", [("a",), (None, "b", "a")])
@pytest.mark.parametrize(
  ("kind", "name"),
  [*((kind, "ffx") for kind in AXES), ("explicit", "shf"), ("explicit", "np")],
  indirect=["kind"],
)
def test_images(kind: str, name: str, spec: tuple[str | None, ...]) -> None:
  key, want, back = image_setup(name)
  images = put(kind, IMAGES, *spec)
  out, restored = run(there_and_back, key, images)
  trees.assert_same_bits(out, want)
  assert_placed(out, images)
  trees.assert_same_bits(restored, back)


@pytest.mark.parametrize("spec", [(None, "a"), (None, None, ("a", "b"))])
def test_shards_that_cut_blocks_are_refused(spec: Any) -> None:
  key, _, _ = image_setup("shf")
  with pytest.raises(ValueError, match="cut blocks of 2 x 2 x 1: shard the"):
    pixel_shuffle.transform(key, put("explicit", IMAGES, *spec))


@pytest.mark.parametrize("axes", [{"a"}, {"a", "b"}])
def test_images_inside_shard_map(axes: set[str]) -> None:
  key, want, _ = image_setup("shf")
  images = put("explicit", IMAGES, "a", "b" if len(axes) == 1 else None)
  mapped = jax.shard_map(
    functools.partial(pixel_shuffle.transform, key),
    mesh=mesh("explicit"),
    in_specs=P("a"),
    out_specs=P("a"),
    axis_names=axes,
  )
  trees.assert_same_bits(jax.jit(mapped)(images), want)


def model(params: Any, images: jax.Array) -> jax.Array:
  return images.reshape(len(images), -1) @ params["kernel"]


@pytest.mark.parametrize("kind", ["explicit", "mixed"])
def test_the_gradient_of_a_bound_pass(kind: str) -> None:
  """On replicated params and a sharded batch, decrypted inside the pass."""
  params = {"kernel": np.float32(RNG.normal(size=(32, 3)))}
  scheme = keyjax.chain(keyjax.pixel_shuffle("np", 2), keyjax.deep_lock())
  key = scheme.keygen(SECRET, params, BATCH)
  locked = scheme.encrypt(key, params)

  def forward(locked: Any, x: jax.Array) -> jax.Array:
    return (keyjax.authorize(scheme, key, model)(locked, x) ** 2).mean()

  def tuned(params: Any, x: jax.Array) -> jax.Array:
    return (scheme.bind(key, model)(params, x) ** 2).mean()

  def both(locked: Any, params: Any, x: jax.Array) -> Any:
    return forward(locked, x), jax.grad(tuned)(params, x)

  want = jax.jit(both)(locked, params, IMAGES)
  whole = jax.device_put((locked, params), put_all(kind))
  got = jax.jit(both)(*whole, put(kind, IMAGES, "a"))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5), got, want
  )


def test_other_functions_of_sharded_arrays() -> None:
  params = sharded("explicit", PLAIN)
  sealed = seal.seal_tree(SECRET, params)
  trees.assert_same_bits(seal.unseal_tree(SECRET, sealed, params), PLAIN)
  int8 = quantize.quantize(params)
  trees.assert_same_bits(int8, quantize.quantize(PLAIN))
  scheme = keyjax.masked(keyjax.deep_lock(), quantize.INT8_LEAVES)
  key = scheme.keygen(SECRET, int8, None)
  locked = scheme.encrypt(key, int8)
  assert_placed(locked, int8)
  trees.assert_same_bits(scheme.decrypt(key, locked), int8)


def test_sealed_bytes() -> None:
  data = np.arange(64, dtype=np.uint8)
  key = seal.seal_key(bytes(16), salt=bytes(24))
  sealed = seal.seal_array(key, put("explicit", data, "a"))
  trees.assert_same_bits(sealed, seal.seal_array(key, data))
  opened, valid = seal.unseal_array(key, put("explicit", sealed, "a"))
  assert valid
  trees.assert_same_bits(opened, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shf", "np"])
def test_a_patch_embedding_sharded_over_features(name: str) -> None:
  key, _, _ = image_setup(name)
  kernel = np.float32(RNG.normal(size=(2, 2, 1, 8)))
  bias = np.zeros(8, np.float32)
  fold = functools.partial(
    patch_embedding.fold_patch_embedding, mean=(0.5,), std=(0.2,)
  )
  placed = put("explicit", kernel, None, None, None, "a")
  got = fold(key, placed, put("explicit", bias, "a"))
  for x, y in zip(got, fold(key, kernel, bias), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-6)
