"""The text detector of PP-OCRv4: a backbone, a pyramid, and a map of text.

Every convolution of the backbone is followed by one learned scale and offset
(`Affine`), and where its stride is 1 by a hard swish, with another. The pyramid
adds each level to the one above it, and the head takes all levels at a quarter
of the image's size to a map of its whole size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.models.base import Dtype, batch_norm
from experiments.models.layout import Layout, register_layout

MULTIPLE = 32  # Sides of an image are multiples of it.


class Step(NamedTuple):
  """A block of the backbone: a depthwise convolution, then a 1 x 1 one.

  Attributes:
    kernel: Side of the depthwise kernel.
    stride: Its stride.
    features: Channels of the 1 x 1 convolution.
    gated: Whether channels are weighed by their means in between.
  """

  kernel: int
  stride: int
  features: int
  gated: bool = False


_STEPS = (
  Step(3, 1, 32),
  Step(3, 2, 48),
  Step(3, 1, 48),
  Step(3, 2, 96),
  Step(3, 1, 96),
  Step(3, 2, 192),
  *[Step(5, 1, 192)] * 4,
  Step(5, 2, 384, gated=True),
  Step(5, 1, 384, gated=True),
  *[Step(5, 1, 384)] * 2,
)


class Affine(nn.Module):
  """One scale and one offset for all channels."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `scale * x + bias`."""
    one = (1,) * x.ndim  # Public weights have the shape [1].
    scale = self.param("scale", nn.initializers.ones, (1,)).reshape(one)
    bias = self.param("bias", nn.initializers.zeros, (1,)).reshape(one)
    return scale.astype(x.dtype) * x + bias.astype(x.dtype)


class Gate(nn.Module):
  """Weighs channels by their means over the image (squeeze and excitation).

  Attributes:
    slope: Slope of the hard sigmoid.
    dtype: Type of the computation.
  """

  slope: float
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return x, each channel times a number in [0, 1]."""
    y = x.mean((1, 2), keepdims=True)  # [b, h, w, c] -> [b, 1, 1, c]
    y = nn.relu(_conv(x.shape[-1] // 4, 1, self.dtype, "conv_in")(y))
    y = _conv(x.shape[-1], 1, self.dtype, "conv_out")(y)
    return x * jnp.clip(self.slope * y + 0.5, 0, 1)


class Block(nn.Module):
  """A block of the backbone.

  Attributes:
    step: Its sizes.
    dtype: Type of the computation.
  """

  step: Step
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `float[b, h / stride, w / stride, features]`."""
    kernel, stride, features, gated = self.step
    x = _conv(
      x.shape[-1], kernel, self.dtype, "depthwise", stride, groups=x.shape[-1]
    )(x)
    x = Affine(name="depthwise_affine")(x)
    if stride == 1:
      x = Affine(name="depthwise_swish")(nn.hard_swish(x))
    if gated:
      x = Gate(1 / 6, self.dtype, name="gate")(x)
    x = _conv(features, 1, self.dtype, "pointwise")(x)
    x = nn.hard_swish(Affine(name="pointwise_affine")(x))
    return Affine(name="pointwise_swish")(x)


class Level(nn.Module):
  """A convolution of the pyramid, and its gate, added to it.

  Attributes:
    features: Channels.
    kernel: Side of the kernel.
    dtype: Type of the computation.
  """

  features: int
  kernel: int
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Return `float[b, h, w, features]`."""
    conv = _conv(self.features, self.kernel, self.dtype, "conv", bias=False)
    x = conv(x)
    return x + Gate(0.2, self.dtype, name="gate")(x)


class TextDetector(nn.Module):
  """DBNet with PP-LCNetV3: where an image has text.

  The defaults are the shape of PP-OCRv4's mobile detector.

  References:
    Liao et al., "Real-time Scene Text Detection with Differentiable
    Binarization", arXiv:1911.08947, 2020. Cui et al., "PP-LCNet",
    arXiv:2109.15099, 2021. PaddleOCR, PP-OCRv4, 2023.

  Attributes:
    stem: Channels of the first convolution.
    steps: Blocks of the backbone; four of them have a stride of 2.
    lateral: Channels of the backbone's four levels before the pyramid.
    neck: Channels of the pyramid, of which each level gives the head a quarter.
    dtype: Type of the computation; logits stay `float32`.
  """

  stem: int = 16
  steps: Sequence[Step] = _STEPS
  lateral: Sequence[int] = (12, 18, 42, 360)
  neck: int = 96
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Return logits of text, `float32[b, h, w]`, of images [b, h, w, 3].

    Args:
      x: Blue, green and red in [-1, 1]; sides are multiples of `MULTIPLE`.
      train: Whether normalisations use the statistics of the batch.

    Raises:
      ValueError: If a side is no multiple.
    """
    if x.shape[1] % MULTIPLE or x.shape[2] % MULTIPLE:
      raise ValueError(
        f"Expected sides that are multiples of {MULTIPLE}; got "
        f"{x.shape[1]} x {x.shape[2]}."
      )
    levels = self._backbone(x.astype(self.dtype), train)
    x = self._pyramid(levels)
    x = _conv(self.neck // 4, 3, self.dtype, "head", bias=False)(x)
    x = nn.relu(batch_norm(x, train, self.dtype, "head_norm"))
    # [b, h / 4, w / 4, c] -> [b, h / 2, w / 2, c] -> [b, h, w, 1]
    x = _double(self.neck // 4, self.dtype, "head_up_0")(x)
    x = nn.relu(batch_norm(x, train, self.dtype, "head_up_norm"))
    x = _double(1, self.dtype, "head_up_1")(x)
    return x[..., 0].astype(jnp.float32)

  def _backbone(self, x: jax.Array, train: bool) -> list[jax.Array]:
    """Return features at strides 4, 8, 16 and 32."""
    x = _conv(self.stem, 3, self.dtype, "stem", 2, bias=False)(x)
    x = batch_norm(x, train, self.dtype, "stem_norm")
    levels = []
    for i, step in enumerate(self.steps):
      if step.stride == 2:
        levels.append(x)
      x = Block(step, self.dtype, name=f"block_{i}")(x)
    return [*levels[1:], x]  # The first is at a stride of 2.

  def _pyramid(self, levels: Sequence[jax.Array]) -> jax.Array:
    """Return all levels at a stride of 4, `float[b, h / 4, w / 4, neck]`."""
    narrow = [
      Level(self.neck, 1, self.dtype, name=f"in_{i}")(
        _conv(features, 1, self.dtype, f"lateral_{i}")(x)
      )
      for i, (x, features) in enumerate(zip(levels, self.lateral, strict=True))
    ]
    for i in reversed(range(len(narrow) - 1)):
      narrow[i] = narrow[i] + _larger(narrow[i + 1], 2)
    outs = [
      _larger(Level(self.neck // 4, 3, self.dtype, name=f"out_{i}")(x), 2**i)
      for i, x in enumerate(narrow)
    ]
    return jnp.concatenate(outs[::-1], -1)


def _conv(
  features: int,
  kernel: int,
  dtype: Dtype,
  name: str,
  stride: int = 1,
  groups: int = 1,
  bias: bool = True,
) -> nn.Conv:
  return nn.Conv(
    features,
    (kernel, kernel),
    strides=stride,
    # Explicit, because "SAME" pads a strided convolution on one side only.
    padding=kernel // 2,
    feature_group_count=groups,
    use_bias=bias,
    dtype=dtype,
    name=name,
  )


def _double(features: int, dtype: Dtype, name: str) -> nn.ConvTranspose:
  return nn.ConvTranspose(
    features, (2, 2), strides=(2, 2), padding="VALID", dtype=dtype, name=name
  )


def _larger(x: jax.Array, times: int) -> jax.Array:
  """Return images whose pixels are repeated in both directions."""
  return x.repeat(times, 1).repeat(times, 2)


def _modules() -> dict[str, str]:
  """Return Paddle's names, numbered in the order in which it made layers."""
  found = {
    "stem": "conv2d_0",
    "stem_norm": "batch_norm2d_0",
    "head": "conv2d_159",
    "head_norm": "batch_norm_0",
    "head_up_0": "conv2d_transpose_0",
    "head_up_norm": "batch_norm_1",
    "head_up_1": "conv2d_transpose_1",
  }
  for i in range(len(_STEPS)):
    found[f"block_{i}/depthwise"] = f"conv2d_{394 + 2 * i}"
    found[f"block_{i}/pointwise"] = f"conv2d_{395 + 2 * i}"
    found[f"block_{i}/depthwise_affine"] = f"mobile_one_block_{2 * i}"
    found[f"block_{i}/pointwise_affine"] = f"mobile_one_block_{2 * i + 1}"
    found[f"block_{i}/depthwise_swish"] = f"whswish_b_{2 * i + 1}"
    found[f"block_{i}/pointwise_swish"] = f"whswish_b_{2 * i + 2}"
  gates = {"block_10": 96, "block_11": 107}
  for i in range(4):
    found[f"lateral_{i}"] = f"conv2d_{131 + i}"
    for name, first in ((f"in_{i}", 135 + 6 * i), (f"out_{i}", 138 + 6 * i)):
      found[f"{name}/conv"] = f"conv2d_{first}"
      gates[name] = first + 1
  for name, first in gates.items():
    found[f"{name}/gate/conv_in"] = f"conv2d_{first}"
    found[f"{name}/gate/conv_out"] = f"conv2d_{first + 1}"
  return found


def _transposed(x: np.ndarray) -> np.ndarray:
  """Return [in, out, h, w] as Flax has it: [h, w, in, out], turned around."""
  return x.transpose(2, 3, 0, 1)[::-1, ::-1]


_MODULES = _modules()
_AFFINE = [x for x in _MODULES if x.endswith(("_affine", "_swish"))]
# PaddleOCR's mobile detector, as paddle2onnx writes it. The other constants
# are of operators.
register_layout(
  TextDetector,
  Layout(
    modules=_MODULES,
    # Their offset is `w_1`; that of a normalisation is `b_0`.
    parameters={f"{x}/bias": f"{_MODULES[x]}.w_1" for x in _AFFINE},
    leaves={
      "kernel": "w_0",
      "scale": "w_0",
      "bias": "b_0",
      "mean": "w_1",
      "var": "w_2",
    },
    changes={
      r"head_up_\d/kernel": _transposed,
      # [1, c, 1, 1] -> [c]
      r"head_up_\d/bias": np.ravel,
    },
    ignored=r"p2o\.helper\.constant\.\d+",
  ),
)
