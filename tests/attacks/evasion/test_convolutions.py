"""Convolutions with channels last give the same values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keyjax.attacks.evasion.convolutions import channels_last

LAYOUTS = [("NHWC", "HWIO"), ("NCHW", "OIHW"), ("CWNH", "IOWH")]


def convolve(
  layout: str, kernel_layout: str, groups: int = 1, padding="SAME", **options
):
  """Return a strided convolution of random weights, and an image for it."""
  sizes = {"N": 2, "C": 4, "H": 8, "W": 9, "O": 6, "I": 4 // groups}
  rng = np.random.default_rng(0)
  shape = [sizes[axis] for axis in layout]
  # The kernel is 3 high and 2 wide.
  kernel_sizes = sizes | {"H": 3, "W": 2}
  kernel = rng.normal(size=[kernel_sizes[axis] for axis in kernel_layout])
  function = functools.partial(
    jax.lax.conv_general_dilated,
    rhs=jnp.asarray(kernel, jnp.float32),
    padding=padding,
    dimension_numbers=(layout, kernel_layout, layout),
    feature_group_count=groups,
    **options,
  )
  return function, jnp.asarray(rng.normal(size=shape), jnp.float32)


FORMS = [
  {"window_strides": (2, 1), "rhs_dilation": (1, 2)},
  {"window_strides": (2, 1), "groups": 2},
  {"window_strides": (2, 2)},
  {"window_strides": (3, 1), "padding": "VALID"},
  {"window_strides": (4, 3), "padding": ((2, 0), (1, 3))},
  {
    "window_strides": (1, 1),
    "lhs_dilation": (1, 3),
    "padding": ((1, 1), (2, 0)),
  },
]


@pytest.mark.parametrize(
  ("layout", "form"),
  [(LAYOUTS[i % 3], form) for i, form in enumerate(FORMS)],
)
def test_values_and_gradients_stay(layout, form):
  function, image = convolve(*layout, **form)

  @jax.jit
  def loss(x):  # One convolution is inside a jit of its own.
    return jnp.sin(jax.jit(function)(x)).sum()

  both = jax.value_and_grad(loss)
  changed = channels_last(both)
  for one, other in zip(both(image), changed(image), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  found = [
    equation
    for equation in jax.make_jaxpr(changed)(image).eqns
    if equation.primitive.name == "conv_general_dilated"
  ]
  shapes = [equation.params["dimension_numbers"] for equation in found]
  assert len(shapes) == 2  # Forward, and the gradient.
  dilated = max(x.params["lhs_dilation"] for x in found)
  whole = "groups" in form or "rhs_dilation" in form
  assert (max(dilated) > 1) == whole  # Others need no zeros in between.
  for inputs, kernel, outputs in shapes:
    assert inputs == outputs == (0, 3, 1, 2) and kernel == (3, 2, 0, 1)


def test_what_is_no_convolution_stays():
  def function(x, y):
    return {"sum": jax.nn.relu(x) @ y, "loop": jax.lax.cumsum(x)}, 3.0

  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
  jax.tree.map(
    np.testing.assert_allclose, channels_last(function)(x, x), function(x, x)
  )
