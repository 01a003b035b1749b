"""SHF, NP and FFX against a plain loop, the published vector, key spaces."""

import hashlib
import itertools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from keyjax import Secret
from keyjax.schemes import feistel, pixel_shuffle

KINDS = ("shf", "np", "ffx")


def images(h: int, w: int, c: int, n: int = 2) -> np.ndarray:
  """Return images in which every value of 0..255 occurs."""
  rng = np.random.default_rng(0)
  out = rng.integers(0, 256, (n, h, w, c), np.uint8)
  out.flat[:256] = np.arange(256)[: out.size]
  return out


def floats(x: np.ndarray) -> jax.Array:
  return jnp.asarray(x, jnp.float32) / 255


def make(kind: str, m: int, x: np.ndarray) -> Any:
  scheme = keyjax.pixel_shuffle(kind, m)
  return scheme.keygen(Secret.generate(), None, {"image": floats(x)})


def by_loop(key: Any, x: np.ndarray, m: int) -> np.ndarray:
  """Transform as in the papers, block by block and value by value."""
  out = np.zeros(x.shape)
  n, h, w, c = x.shape
  for b, i, j in itertools.product(range(n), range(0, h, m), range(0, w, m)):
    block = x[b, i : i + m, j : j + m].reshape(-1).astype(float)
    if hasattr(key, "order"):
      new = block[np.asarray(key.order)] / 255
    elif hasattr(key, "table"):
      table = np.asarray(key.table)
      mask = np.asarray(key.mask)
      new = np.where(mask, table[block.astype(int)], block) / table.max()
    else:
      new = np.where(np.asarray(key.mask), 255 - block, block) / 255
    out[b, i : i + m, j : j + m] = new.reshape(m, m, c)
  return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
  ("shape", "m"),
  [((28, 28, 1), 4), ((28, 28, 1), 7), ((32, 32, 3), 4), ((6, 8, 5), 2)],
)
def test_as_published_and_invertible(
  kind: str, shape: tuple[int, int, int], m: int
) -> None:
  x = images(*shape)
  key = make(kind, m, x)
  y = pixel_shuffle.transform(key, floats(x))
  np.testing.assert_allclose(y, by_loop(key, x, m), atol=1e-6)
  back = pixel_shuffle.inverse(key, y)
  np.testing.assert_array_equal(np.round(np.asarray(back) * 255), x)
  assert not np.allclose(y, floats(x), atol=0.01)
  assert float(y.min()) >= 0 and float(y.max()) <= 1


@pytest.mark.vectors
def test_ffx_test_vector() -> None:
  table = feistel.ffx_table(b"password")
  first = [355, 522, 858, 133, 916, 326, 747, 930]
  first += [444, 760, 203, 17, 565, 473, 31, 756]
  assert table[:16].tolist() == first
  assert (table.min(), table.max(), len(set(table))) == (2, 996, 256)
  text = ",".join(map(str, table.tolist())).encode()
  assert hashlib.sha256(text).hexdigest() == (
    "ee8010ac40f74595b4a69d7840b249ebf44bc6a383cfab8fd9b88e9e7c9d769b"
  )


@pytest.mark.parametrize(
  ("m", "ones"), [(2, 5), (4, 23), (8, 95), (16, 383), (32, 1535)]
)
def test_the_weight_of_the_masks(m: int, ones: int) -> None:
  key = make("np", m, images(32, 32, 3))
  assert int(key.mask.sum()) == ones


def test_unmasked_pixels_of_ffx_are_scaled_too() -> None:
  x = images(8, 8, 1)
  key = make("ffx", 4, x)
  y = np.asarray(pixel_shuffle.transform(key, floats(x)))
  blocks = y.reshape(2, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 16)
  limit = 255 / int(key.table.max())
  assert blocks[:, ~np.asarray(key.mask)].max() <= limit + 1e-6


@pytest.mark.parametrize("chained", [False, True])
def test_gradients_pass_through_the_rounding_of_ffx(chained: bool) -> None:
  """Or attacks, and training against them, would change nothing."""
  ffx = keyjax.pixel_shuffle("ffx", 4)
  scheme = keyjax.chain(ffx, keyjax.deep_lock("counter")) if chained else ffx
  x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
  params = {"w": jnp.ones(3)}
  key = scheme.keygen(Secret.generate(), params, {"image": x})
  forward = scheme.bind(key, lambda params, x: x.sum() * params["w"][0])
  grad = jax.grad(lambda x: forward(params, x))(x)
  own = key[0] if chained else key
  mask = np.tile(np.asarray(own.mask).reshape(4, 4), (2, 2))
  slope = 255 / int(own.table.max())
  wanted = np.broadcast_to(np.where(mask, 0, slope), (2, 8, 8))
  np.testing.assert_allclose(grad[..., 0], wanted, rtol=1e-6)


def test_the_gradient_of_ffx_changes_no_value() -> None:
  key = keyjax.pixel_shuffle("ffx", 4).keygen(
    Secret.generate(), {}, {"image": jnp.zeros((1, 4, 4, 1))}
  )
  x = np.random.default_rng(0).random((50, 16)).astype(np.float32)

  def published(key: Any, x: jax.Array) -> jax.Array:
    value = jnp.round(x * 255).astype(jnp.int32)
    value = jnp.where(key.mask[None], key.table[value], value)
    return value.astype(x.dtype) / key.table.max().astype(x.dtype)

  def ours(key: Any, x: jax.Array) -> jax.Array:
    return key.forward(x)

  pair = key, jnp.asarray(x)
  np.testing.assert_array_equal(ours(*pair), published(*pair))
  np.testing.assert_array_equal(jax.jit(ours)(*pair), jax.jit(published)(*pair))


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_evaluation_see_the_same_images(kind: str) -> None:
  x = floats(images(8, 8, 1))
  scheme = keyjax.pixel_shuffle(kind, 4)
  key = scheme.keygen(Secret.generate(), None, {"image": x})
  bound = scheme.bind(key, lambda params, y, train=False: (y, train))
  y, train = jax.jit(lambda x: bound({}, x, train=True))(x)
  np.testing.assert_array_equal(y, pixel_shuffle.transform(key, x))
  assert train


# ----------------------------------------------------------- known breaks


def test_key_spaces() -> None:
  sizes = {
    ("shf", 2): 28.8,
    ("shf", 4): 202.9,
    ("shf", 8): 1184,
    ("np", 2): 9.6,
    ("np", 4): 44.8,
    ("ffx", 8): 187.9,
  }
  for (kind, m), bits in sizes.items():
    made = pixel_shuffle.key_bits(kind, m, 3)
    assert math.isclose(made, bits, abs_tol=0.5 if bits > 1000 else 0.05)


def test_break_np_with_small_blocks_is_exhausted() -> None:
  """M=2, one channel: 4 masks of one position; one known pair reveals it."""
  x = images(8, 8, 1)
  key = make("np", 2, x)
  y = pixel_shuffle.transform(key, floats(x))
  found = []
  for i in range(4):
    mask = jnp.arange(4) == i
    guess = pixel_shuffle.NpKey(mask=mask, block_size=2)
    back = pixel_shuffle.inverse(guess, y)
    found.append(bool(jnp.allclose(back, floats(x), atol=1e-6)))
  assert sum(found) == 1 and found[int(jnp.argmax(key.mask))]


@pytest.mark.parametrize("kind", ["shf", "np"])
def test_break_a_free_stride_m_convolution_absorbs_the_map(kind: str) -> None:
  """The map is affine in each block: least squares on images finds it."""
  x = floats(images(32, 32, 3, n=8))
  key = make(kind, 4, np.asarray(x))
  y = pixel_shuffle.transform(key, x)

  def blocks(z: Any) -> np.ndarray:
    z = np.asarray(z).reshape(8, 8, 4, 8, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    flat = z.reshape(-1, 48)
    return np.concatenate([flat, np.ones((len(flat), 1))], 1)

  solved, *_ = np.linalg.lstsq(blocks(y)[:400], blocks(x)[:400], rcond=None)
  np.testing.assert_allclose(
    blocks(y)[400:] @ solved, blocks(x)[400:], atol=1e-2
  )


def test_break_values_stay_in_their_block() -> None:
  x = images(16, 16, 1)
  y = pixel_shuffle.transform(make("shf", 4, x), floats(x))
  means = [
    np.asarray(z).reshape(2, 4, 4, 4, 4).mean((2, 4)) for z in (floats(x), y)
  ]
  np.testing.assert_allclose(*means, rtol=1e-5)


# -------------------------------------------------------------- bad input


def test_images_that_m_does_not_divide() -> None:
  scheme = keyjax.pixel_shuffle("shf", 5)
  message = "block_size=5 does not divide images of 28 x 28"
  with pytest.raises(ValueError, match=message):
    scheme.keygen(Secret.generate(), None, {"image": images(28, 28, 1)})
  key = make("shf", 4, images(8, 8, 1))
  with pytest.raises(ValueError, match="does not divide images of 8 x 6"):
    pixel_shuffle.transform(key, jnp.zeros((1, 8, 6, 1)))


def test_other_bad_input() -> None:
  with pytest.raises(ValueError, match="choose 'shf', 'np' or 'ffx'"):
    keyjax.pixel_shuffle("xor")
  with pytest.raises(ValueError, match="block_size='4': a whole number"):
    keyjax.pixel_shuffle("shf", "4")  # type: ignore[arg-type]
  with pytest.raises(ValueError, match="block_size=0"):
    keyjax.pixel_shuffle("np", 0)
  key = make("np", 4, images(8, 8, 1))
  with pytest.raises(ValueError, match="for 1 channels, the images have 3"):
    pixel_shuffle.transform(key, jnp.zeros((1, 8, 8, 3)))
  with pytest.raises(ValueError, match="H, W, C"):
    pixel_shuffle.transform(key, jnp.zeros((8, 8)))
  with pytest.raises(ValueError, match="floats in .0, 1., got uint8"):
    pixel_shuffle.transform(key, jnp.zeros((1, 8, 8, 1), jnp.uint8))
  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), key)
  with pytest.raises(ValueError, match="jax.vmap"):
    pixel_shuffle.transform(stacked, jnp.zeros((1, 8, 8, 1)))
  with pytest.raises(
    TypeError, match="Key, got a tuple: the key is the first argument"
  ):
    pixel_shuffle.transform((), jnp.zeros((1, 8, 8, 1)))  # type: ignore


@pytest.mark.parametrize(
  ("kind", "m", "channels"),
  [("shf", 1, 1), ("np", 1, 1), ("np", 1, 2), ("ffx", 1, 2)],
)
def test_one_key_alone_is_refused(kind: str, m: int, channels: int) -> None:
  assert pixel_shuffle.key_bits(kind, m, channels) == 0
  with pytest.raises(ValueError, match=f"{kind} with block_size=1.* 0 bits"):
    make(kind, m, images(4, 4, channels))


def test_a_permutation_that_moves_nothing_is_warned_of() -> None:
  """The key is the one of its secret all the same."""
  scheme = keyjax.pixel_shuffle("shf", 1)
  batch = {"image": np.zeros((1, 2, 2, 2), np.float32)}
  moved = set()
  for byte in range(16):
    with warnings.catch_warnings(record=True) as found:
      warnings.simplefilter("always")
      key = scheme.keygen(Secret(bytes([byte]) * 32), None, batch)
    order = key.order.tolist()
    moved.add(order == [1, 0])
    texts = [str(w.message) for w in found]
    assert len(texts) == (order == [0, 1])
    assert all("changes nothing" in text for text in texts)
  assert moved == {True, False}


@pytest.mark.parametrize("kind", ["np", "ffx"])
def test_a_batch_of_other_numbers_is_refused(kind: str) -> None:
  scheme = keyjax.pixel_shuffle(kind, 2)
  x = images(16, 16, 1)

  def keygen(x: Any) -> Any:
    return scheme.keygen(Secret.generate(), None, {"image": x})

  keygen(floats(x))
  keygen(jax.ShapeDtypeStruct(x.shape, jnp.float32))
  with pytest.raises(ValueError, match="floats in .*uint8; divide by 255"):
    keygen(x)
  for other, found in (
    (x.astype(np.float32), r"\[0, 255\]"),
    (2 * floats(x) - 1, r"\[-1, 1\]"),
    (floats(x).at[0, 0, 0, 0].set(jnp.nan), r"\[nan, nan\]"),
  ):
    message = f"{kind} takes images in .0, 1., and those .* are in {found}"
    with pytest.raises(ValueError, match=message):
      keygen(other)
