"""BPDA and EOT: gradients of models that have none, or random ones."""

from collections.abc import Callable

import jax

from keyjax.attacks.evasion.problem import LogitsFn, as_float

Transform = Callable[[jax.Array], jax.Array]
RandomTransform = Callable[[jax.Array, jax.Array], jax.Array]


def bpda(
  transform: Transform, surrogate: Transform = lambda inputs: inputs
) -> Transform:
  """Return a transform with the gradient of another one: BPDA.

  For a preprocessing step that has no useful gradient, such as rounding or
  JPEG: attack `lambda x: logits_fn(bpda(transform)(x))`.

  Args:
    transform: Function from inputs to inputs of the model.
    surrogate: Differentiable function with outputs of the same shape, whose
      gradient at the same inputs is taken; the identity by default.

  Raises:
    ValueError: When it is called, if the outputs differ in shape or dtype.

  Reference:
    Anish Athalye, Nicholas Carlini and David Wagner, "Obfuscated gradients give
    a false sense of security: circumventing defenses to adversarial examples",
    ICML 2018.

  Example:
    >>> rounded = bpda(jax.numpy.round)
    >>> float(rounded(0.75)), float(jax.grad(rounded)(0.75))
    (1.0, 1.0)
  """

  @jax.custom_vjp
  def wrapped(inputs: jax.Array) -> jax.Array:
    return transform(inputs)

  def forward(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    outputs = transform(inputs)
    expected = jax.eval_shape(surrogate, inputs)
    if (outputs.shape, outputs.dtype) != (expected.shape, expected.dtype):
      raise ValueError(
        f"surrogate returns {expected.dtype}{list(expected.shape)}, transform "
        f"{outputs.dtype}{list(outputs.shape)}: they must be equal"
      )
    return outputs, inputs

  def backward(inputs: jax.Array, slope: jax.Array) -> tuple[jax.Array]:
    return jax.vjp(surrogate, inputs)[1](slope)

  wrapped.defvjp(forward, backward)
  return wrapped


def expectation(
  logits_fn: LogitsFn,
  transform: RandomTransform,
  *,
  draws: int,
  rng: jax.Array,
) -> LogitsFn:
  """Return the mean logits over random transforms of the inputs: EOT.

  Its gradient is the mean gradient. The draws are the same at each call, so
  that the function stays pure: judge what an attack finds with another rng.
  Draws are computed one after the other, and again for the gradient, so that
  memory does not grow with their number.

  Args:
    logits_fn: Function from inputs to logits.
    transform: Function of an rng and inputs to inputs, such as noise, or a
      random rotation; for a model that is random itself, pass it as
      `lambda rng, x: logits_of(rng, x)` and the identity as logits_fn.
    draws: Number of draws.
    rng: PRNG key.

  Raises:
    ValueError: If draws is below 1.

  Reference:
    Anish Athalye, Logan Engstrom, Andrew Ilyas and Kevin Kwok, "Synthesizing
    robust adversarial examples", ICML 2018.

  Example:
    >>> shifted = expectation(lambda x: x, lambda rng, x: x + 1.0, draws=4,
    ...   rng=jax.random.key(0))
    >>> shifted(jax.numpy.zeros((1, 2))).tolist()
    [[1.0, 1.0]]
  """
  if draws < 1:
    raise ValueError(f"draws is {draws}: pass 1 or more")
  rngs = jax.random.split(rng, draws)

  def mean_logits(inputs: jax.Array) -> jax.Array:
    @jax.checkpoint
    def one(rng: jax.Array) -> jax.Array:
      return as_float(logits_fn(transform(rng, inputs)))

    return jax.lax.map(one, rngs).mean(0)

  return mean_logits
