"""MTCNN's networks and PP-OCR's detector, in their public layouts."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import dbnet, layout, mtcnn, packages, pretrained
from keyjax import tree

RNG = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
  return RNG.normal(0, 0.5, shape).astype(np.float32)


def conv(x: jax.Array, kernel: Any, stride: int = 1) -> jax.Array:
  numbers = ("NCHW", "OIHW", "NCHW")
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), "VALID", dimension_numbers=numbers
  )


def per_channel(x: Any, ndim: int) -> Any:
  return x.reshape((1, -1) + (1,) * (ndim - 2))


# ---------------------------------------------------------------------- MTCNN


def cascade_outputs(p: Any, x: jax.Array, pools: tuple[int, ...]) -> Any:
  """Return the outputs of [b, c, h, w] by facenet-pytorch's names."""

  def prelu(name: str, x: jax.Array) -> jax.Array:
    slope = per_channel(p[f"{name}.weight"], x.ndim)
    return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)

  for i, side in enumerate(pools, 1):
    bias = per_channel(p[f"conv{i}.bias"], 4)
    x = prelu(f"prelu{i}", conv(x, p[f"conv{i}.weight"]) + bias)
    if side:
      # Padded by more than it takes; windows that start outside are cut.
      size = [-(-(n - side) // 2) + 1 for n in x.shape[2:]]
      x = jnp.pad(x, [(0, 0)] * 2 + [(0, 3)] * 2, constant_values=-jnp.inf)
      x = jnp.stack(
        [
          jnp.stack(
            [
              x[:, :, 2 * r : 2 * r + side, 2 * c : 2 * c + side].max((2, 3))
              for c in range(size[1])
            ],
            -1,
          )
          for r in range(size[0])
        ],
        2,
      )
  last = len(pools) + 1
  if f"dense{last}.weight" not in p:
    return {
      n: conv(x, p[f"conv{last}_{n}.weight"])
      + per_channel(p[f"conv{last}_{n}.bias"], 4)
      for n in (1, 2)
    }
  x = x.transpose(0, 3, 2, 1).reshape(len(x), -1)
  x = prelu(
    f"prelu{last}", x @ p[f"dense{last}.weight"].T + p[f"dense{last}.bias"]
  )
  name = f"dense{last + 1}"
  return {
    n: x @ p[f"{name}_{n}.weight"].T + p[f"{name}_{n}.bias"]
    for n in (1, 2, 3)
    if f"{name}_{n}.weight" in p
  }


def public_arrays(model: nn.Module, example: Any) -> dict[str, np.ndarray]:
  """Return arrays for each place of a cascade network, by public names."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
  first = len(model.features)
  found = {}
  for name, leaves in shapes.items():
    head, _, number = name.rpartition("_")
    if number.isdigit():
      public = f"{head}{int(number) + 1}"
    elif name in ("dense", "prelu_dense"):
      public = f"{name.partition('_')[0]}{first + 1}"
    else:
      place = ("face", "box", "points").index(name) + 1
      kind = f"dense{first + 2}" if model.hidden else f"conv{first + 1}"
      public = f"{kind}_{place}"
    for leaf, shape in leaves.items():
      size = shape.shape
      if leaf == "kernel":
        size = (size[-1], *size[-2:-1], *size[:-2])  # [out, in, (h, w)]
      found[f"{public}.{'bias' if leaf == 'bias' else 'weight'}"] = draw(*size)
  return found


@pytest.mark.parametrize(
  ("kind", "side", "options"),
  [
    pytest.param(
      mtcnn.ProposalNet,
      14,
      {"features": (2, 3, 4)},
      marks=pytest.mark.slow,
    ),
    (mtcnn.RefineNet, 24, {"features": (2, 3, 2), "hidden": 5}),
    pytest.param(
      mtcnn.OutputNet,
      48,
      {"features": (2, 2, 2, 3), "hidden": 4},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_a_network_of_the_cascade(kind, side, options, tmp_path) -> None:
  model = kind(**options)
  x = jnp.asarray(draw(2, side, side + (kind is mtcnn.ProposalNet), 3))
  arrays = public_arrays(model, x)
  np.savez(tmp_path / "net.npz", **arrays)
  variables = pretrained.load(tmp_path / "net.npz", model, x)
  found = jax.jit(model.apply)(variables, x)
  with jax.numpy_rank_promotion("allow"):
    wanted = cascade_outputs(arrays, x.transpose(0, 3, 1, 2), model.pools)
  for place, name in enumerate(model.outputs, 1):
    other = np.asarray(wanted[place])
    if other.ndim == 4:
      other = other.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found[name], other, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------ DBNet

SMALL = {
  "stem": 4,
  "steps": (
    dbnet.Step(3, 2, 4),
    dbnet.Step(3, 2, 4),
    dbnet.Step(3, 2, 8),
    dbnet.Step(5, 2, 8, gated=True),
  ),
  "lateral": (2, 2, 2, 4),
  "neck": 16,
}
IMAGE = jnp.zeros((1, 32, 64, 3))


def test_a_small_text_detector() -> None:
  model = dbnet.TextDetector(**SMALL)
  shape = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGE)[0]
  assert shape.shape == (1, 32, 64) and shape.dtype == jnp.float32
  with pytest.raises(ValueError, match="multiples of 32; got 33 x 64"):
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 33, 64, 3)))


def test_public_modules_are_named_once() -> None:
  names = list(dbnet._modules().values())
  assert len(names) == len(set(names)) == 123
  assert {"conv2d_108", "conv2d_158", "whswish_b_28"} <= set(names)


@pytest.mark.slow
def test_every_leaf_of_the_text_detector_has_one_public_name() -> None:
  model = dbnet.TextDetector()
  shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGE)
  public = layout.LAYOUTS[dbnet.TextDetector]
  names = [
    pretrained._public(public, path.split("/", 1)[1], leaf.ndim)[0]
    for path, leaf in zip(*tree.flatten(shapes)[:2], strict=True)
  ]
  assert len(names) == len(set(names)) > 200
  assert {"conv2d_394.w_0", "batch_norm2d_0.w_2", "whswish_b_28.w_1"} <= set(
    names
  )
  assert sum(x.size for x in jax.tree.leaves(shapes)) == 1_171_721


def test_a_transposed_convolution_is_turned_around() -> None:
  kernel = draw(3, 2, 2, 2)  # [in, out, h, w]
  x = draw(1, 4, 5, 3)
  own = dbnet._transposed(kernel)
  layer = nn.ConvTranspose(2, (2, 2), (2, 2), padding="VALID", use_bias=False)
  found = layer.apply({"params": {"kernel": jnp.asarray(own)}}, jnp.asarray(x))
  # Each pixel is spread over a square of its own.
  spread = np.einsum("bhwi,iorc->bhrwco", x, kernel)
  np.testing.assert_allclose(found, spread.reshape(1, 8, 10, 2), atol=1e-5)


def test_gates_and_swishes() -> None:
  x = draw(2, 3, 3, 4)
  p = {
    name: {"kernel": draw(1, 1, *size), "bias": draw(size[1])}
    for name, size in (("conv_in", (4, 1)), ("conv_out", (1, 4)))
  }
  y = x.mean((1, 2))
  for name, act in (("conv_in", lambda y: np.maximum(y, 0)), ("conv_out", 0)):
    y = y @ p[name]["kernel"][0, 0] + p[name]["bias"]
    y = act(y) if act else np.clip(0.2 * y + 0.5, 0, 1)
  found = dbnet.Gate(0.2).apply({"params": p}, jnp.asarray(x))
  np.testing.assert_allclose(found, x * y[:, None, None], atol=1e-6)
  affine = {"params": {"scale": jnp.full(1, 2.0), "bias": jnp.full(1, -1.0)}}
  np.testing.assert_allclose(dbnet.Affine().apply(affine, x), 2 * x - 1)


@pytest.mark.slow
def test_the_package_has_every_tensor() -> None:
  pytest.importorskip("onnx", reason="pip install 'keyjax[pretrained]'")
  try:
    file = packages.find("ppocr")
  except ValueError as error:
    pytest.skip(str(error))
  model = dbnet.TextDetector()
  variables = pretrained.load(file, model, IMAGE)
  logits = jax.jit(model.apply)(variables, IMAGE)
  assert bool((logits < 0).all())  # An empty image has no text.
