"""Each part of a simulated photo against another computation of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from keyjax.attacks.physical import HANDHELD, Photo, jpeg, photograph, warp

RNG = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(size=(8, 9, 14, 3))
IMAGES = IMAGES.astype(np.float32)
MANY = np.broadcast_to(IMAGES[:1, ..., :1], (64, 9, 14, 1))


@functools.cache
def compiled(settings: Photo):
  return jax.jit(functools.partial(photograph, settings=settings))


def take(images, rng=RNG, **settings):
  return np.asarray(compiled(Photo(**settings))(rng, jnp.asarray(images)))


@pytest.mark.parametrize("channels", [1, 3])
def test_without_parts_it_is_the_identity(channels: int) -> None:
  images = IMAGES[..., :channels] * 1.5 - 0.25  # Nothing is clipped, either.
  np.testing.assert_array_equal(photograph(RNG, images, Photo()), images)


@pytest.mark.slow
def test_shapes_and_values_of_a_photo() -> None:
  for images in (IMAGES, IMAGES[:2, :1, :3, :1]):
    photos = compiled(HANDHELD)(RNG, images)
    assert photos.shape == images.shape and photos.dtype == images.dtype
    assert 0 <= photos.min() and photos.max() <= 1
    assert jnp.abs(photos - images).mean() > 0.01


def test_warp_is_a_homography() -> None:
  """Eight equations, and SciPy's interpolation."""
  image, (h, w, _) = IMAGES[0], IMAGES.shape[1:]
  corners = np.array([[0.7, -1.0], [1.2, 13.0], [9.5, 12.0], [8.0, 1.5]])
  target = np.array([[0, 0], [0, w], [h, w], [h, 0]])
  rows, wanted = [], corners.reshape(-1)
  for (y, x), (v, u) in zip(target, corners, strict=True):
    rows.append([y, x, 1, 0, 0, 0, -v * y, -v * x])
    rows.append([0, 0, 0, y, x, 1, -u * y, -u * x])
  matrix = np.append(np.linalg.solve(rows, wanted), 1).reshape(3, 3)
  y, x = np.meshgrid(np.arange(h) + 0.5, np.arange(w) + 0.5, indexing="ij")
  v, u, depth = np.einsum("ij,jhw->ihw", matrix, [y, x, np.ones_like(x)])
  places = np.stack([v, u]) / depth - 0.5
  want = [
    scipy.ndimage.map_coordinates(c, places, order=1, mode="nearest")
    for c in np.moveaxis(image, -1, 0)
  ]
  found = warp(jnp.asarray(image), jnp.asarray(corners, jnp.float32))
  np.testing.assert_allclose(found, np.moveaxis(want, 0, -1), atol=1e-4)


def test_shifts_and_turns_stay_below_their_greatest() -> None:
  """A ramp shows how far a photo is moved, and which way it points."""
  down, right = np.meshgrid(np.arange(9), np.arange(14), indexing="ij")
  ramp = np.stack([down, right], -1).astype(np.float32) / 16
  ramps = np.broadcast_to(ramp[None, ..., :1], (64, 9, 14, 1))
  inner = np.s_[:, 2:-2, 4:-4, 0]
  moves = 16 * (take(ramps, shift=1.5) - ramps)[inner]
  assert 1.2 < np.abs(moves).max() <= 1.5 + 1e-4
  assert np.ptp(moves, axis=(1, 2)).max() < 1e-4 and np.ptp(moves) > 2.4
  turned = take(ramps, rotation=20)[inner]
  slope = np.diff(turned, axis=2).mean((1, 2)) * 16
  angle = np.degrees(np.arcsin(slope))
  assert 15 < np.abs(angle).max() <= 20.01 and np.ptp(angle) > 30


def test_perspective_keeps_no_parallels() -> None:
  ramp = np.arange(14, dtype=np.float32) / 16
  ramps = np.broadcast_to(ramp[None, None, :, None], (8, 9, 14, 1))
  steps = np.diff(take(ramps, perspective=0.1), axis=2)[:, 3:-3, 4:-4, 0]
  assert np.ptp(steps * 16, axis=(1, 2)).min() > 0.01


@pytest.mark.parametrize("sigma", [0.4, 1.7])
def test_blur_is_scipys(sigma: float) -> None:
  want = scipy.ndimage.gaussian_filter(
    IMAGES, (0, sigma, sigma, 0), mode="nearest"
  )
  np.testing.assert_allclose(take(IMAGES, blur=sigma), want, atol=1e-5)


def test_light() -> None:
  grey = np.full((256, 6, 6, 1), 0.5, np.float32)
  gain = take(grey, gain=(0.8, 1.1)) / 0.5
  assert np.ptp(gain, axis=(1, 2, 3)).max() < 1e-6
  assert 0.8 <= gain.min() < 0.82 and 1.08 < gain.max() <= 1.1 + 1e-6
  offset = take(grey, offset=0.1) - 0.5
  assert -0.1 - 1e-6 <= offset.min() < -0.09 and 0.09 < offset.max() <= 0.1001
  shade = take(grey, shade=0.2) / 0.5 - 1
  np.testing.assert_allclose(shade.mean((1, 2, 3)), 0, atol=1e-6)
  # Corners may change more: by up to the square root of 2.
  assert 0.18 < np.abs(shade).max() <= 0.2 * np.sqrt(2)
  np.testing.assert_allclose(np.diff(shade, 2, axis=1), 0, atol=1e-6)
  assert take(grey + 0.4, gain=(2.0, 2.0)).max() == 1  # Clipped.


def test_noise_has_its_deviation_and_is_of_each_image() -> None:
  noise = take(np.full((64, 9, 14, 1), 0.5, np.float32), noise=0.05) - 0.5
  np.testing.assert_allclose(noise.std(), 0.05, rtol=0.05)
  flat = noise.reshape(64, -1) / 0.05
  assert np.abs(flat @ flat.T / flat.shape[1] - np.eye(64)).max() < 0.6


def test_levels_and_jpeg() -> None:
  photos = take(IMAGES, levels=4)
  np.testing.assert_allclose(photos * 3, np.round(IMAGES * 3), atol=1e-6)
  slope = jax.grad(lambda x: photograph(RNG, x, Photo(levels=4)).sum())(IMAGES)
  np.testing.assert_allclose(slope, 1, atol=1e-6)
  want = jpeg.compress(jnp.asarray(IMAGES[3]), 60)
  np.testing.assert_allclose(take(IMAGES, quality=60)[3], want, atol=1e-6)


def test_a_part_does_not_change_what_others_draw() -> None:
  alone = take(MANY, rotation=5, offset=0.02)
  both = take(MANY, rotation=5, offset=0.02, noise=1e-6, levels=10**6)
  np.testing.assert_allclose(alone, both, atol=2e-5)


def test_gradient_of_the_smooth_parts() -> None:
  """They are affine while nothing is clipped: differences are exact."""
  settings = Photo(
    perspective=0.05, rotation=8, shift=0.5, blur=0.6, offset=0.05, shade=0.2
  )
  images = 0.3 + 0.3 * jnp.asarray(IMAGES)
  step = 0.1 * jnp.asarray(IMAGES[::-1])
  weights = jax.random.normal(RNG, images.shape)

  @jax.jit
  @jax.value_and_grad
  def value(x):
    return (weights * photograph(RNG, x, settings)).sum()

  (before, slope), (after, _) = value(images), value(images + step)
  np.testing.assert_allclose((slope * step).sum(), after - before, rtol=1e-3)


def test_gradient_of_the_whole() -> None:
  value = jax.jit(jax.grad(lambda x: photograph(RNG, x).sum()))
  slope = value(jnp.asarray(IMAGES))
  assert jnp.isfinite(slope).all() and (slope != 0).mean() > 0.9


def test_rngs_are_mapped_and_compiled_once() -> None:
  photo = compiled(Photo(rotation=5, noise=0.02))
  one, other = photo(RNG, IMAGES), photo(jax.random.key(1), IMAGES)
  assert photo._cache_size() == 1 and (one != other).mean() > 0.5
  own = jax.vmap(jax.random.fold_in, (None, 0))(RNG, jnp.arange(8))
  np.testing.assert_allclose(photo(own, IMAGES), one, atol=1e-6)
  rngs = jnp.stack([RNG, jax.random.key(1)])
  both = jax.vmap(photo, (0, None))(rngs, IMAGES)
  np.testing.assert_allclose(both, jnp.stack([one, other]), atol=1e-5)


@pytest.mark.slow
def test_images_can_be_sharded() -> None:
  axis = jax.sharding.AxisType.Explicit
  mesh = jax.make_mesh((8,), ("batch",), axis_types=(axis,))
  want = compiled(HANDHELD)(RNG, IMAGES)
  with jax.set_mesh(mesh):
    spread = jax.sharding.NamedSharding(mesh, jax.P("batch"))
    found = compiled(HANDHELD)(RNG, jax.device_put(IMAGES, spread))
    assert found.sharding.is_equivalent_to(spread, IMAGES.ndim)
  np.testing.assert_allclose(found, want, atol=1e-6)


def test_it_has_64_bits() -> None:
  with jax.enable_x64(True):
    images = jnp.asarray(IMAGES, jnp.float64)
    assert jax.eval_shape(photograph, RNG, images).dtype == jnp.float64


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"rotation": -1.0}, "rotation is -1"),
    ({"blur": float("inf")}, "blur is inf"),
    ({"noise": float("nan")}, "noise is nan"),
    ({"perspective": 0.25}, "perspective is 0.25"),
    ({"gain": (1.0, 0.5)}, "gain is"),
    ({"levels": 1}, "levels is 1"),
    ({"quality": 0}, "quality is 0"),
  ],
)
def test_refuses_settings(settings: dict, message: str) -> None:
  with pytest.raises(ValueError, match=message):
    photograph(RNG, IMAGES, Photo(**settings))


def test_refuses_images() -> None:
  with pytest.raises(ValueError, match=r"images have shape \(8, 9, 14\)"):
    photograph(RNG, IMAGES[..., 0])
  with pytest.raises(ValueError, match="images are int32"):
    photograph(RNG, IMAGES.astype(np.int32))
