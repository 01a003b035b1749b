"""Generation with a cache of keys and values, token by token."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keyjax import Scheme

ApplyFn = Callable[..., Any]
_SEEDS = 1 << 63  # JAX takes no more.
_STEP = 64  # Prompts and caches have multiples of it, to compile seldom.


class Sampling(NamedTuple):
  """How a token is picked.

  Attributes:
    temperature: What logits are divided by; 0 picks the most probable token.
    top_p: The least probable tokens are left out that have less than 1 - top_p
      together.
    seed: Seed of the random numbers.
  """

  temperature: float = 0.0
  top_p: float = 1.0
  seed: int = 0

  def check(self) -> None:
    """Raise a ValueError if a number is out of its range."""
    if not 0 <= self.temperature < float("inf"):
      raise ValueError(f"Expected temperature={self.temperature} >= 0.")
    if not 0 < self.top_p <= 1:
      raise ValueError(f"Expected 0 < top_p={self.top_p} <= 1.")
    if not 0 <= self.seed < _SEEDS:
      raise ValueError(f"Expected 0 <= seed={self.seed} < {_SEEDS}.")


GREEDY = Sampling()


def pick(
  logits: jax.Array, rng: jax.Array, temperature: Any, top_p: Any
) -> jax.Array:
  """Pick a token of each row: `int32[b]` of `float32[b, v]`.

  Args:
    logits: Logits.
    rng: JAX PRNG key.
    temperature: As in `Sampling`; may be traced, as `top_p`.
    top_p: Likewise.

  Example:
    >>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
    >>> int(pick(logits, jax.random.key(0), 0.0, 1.0)[0])
    0
    >>> drawn = {int(pick(logits, jax.random.key(i), 1.0, 0.7)[0])
    ...   for i in range(32)}
    >>> sorted(drawn)
    [0, 1]
  """
  best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  # At temperature 0 what is drawn is not used; it must not be NaN.
  scaled = logits / jnp.where(temperature > 0, temperature, 1.0)
  order = jnp.argsort(scaled, axis=-1, descending=True)
  falling = jnp.take_along_axis(scaled, order, axis=-1)
  shares = jax.nn.softmax(falling, axis=-1)
  before = jnp.cumsum(shares, axis=-1) - shares
  kept = jnp.where(before < top_p, falling, -jnp.inf)
  drawn = jax.random.categorical(rng, kept, axis=-1)
  token = jnp.take_along_axis(order, drawn[:, None], axis=-1)[:, 0]
  return jnp.where(temperature > 0, token.astype(jnp.int32), best)


class Generator:
  """Continues texts, with compiled passes for prompts and for single tokens."""

  def __init__(
    self, model: Any, scheme: Scheme | None = None, each_pass: bool = False
  ) -> None:
    """Prepare the passes; nothing is compiled yet.

    Args:
      model: Module with `new_cache`, such as `Llama`.
      scheme: Scheme whose key unlocks the model.
      each_pass: Whether each pass decrypts; otherwise the variables that
        `stream` gets are decrypted, and a pass is bound.
    """
    self._model = model

    @functools.partial(jax.jit, donate_argnames=("cache",))
    def forward(
      key: Any,
      variables: Any,
      cache: Any,
      tokens: jax.Array,
      count: jax.Array,
      drawing: tuple[jax.Array, Any, Any],
    ) -> tuple[jax.Array, Any]:
      """Return the next token, and the cache, after `count` of the tokens."""
      apply_fn: ApplyFn = model.apply
      if scheme is not None:
        if each_pass:
          variables = scheme.decrypt(key, variables)
        apply_fn = scheme.bind(key, apply_fn)
      start = cache.length
      logits, cache = apply_fn(variables, tokens, cache=cache)
      # What follows the prompt in it is overwritten before it is seen.
      cache = cache._replace(length=start + count)
      rng, temperature, top_p = drawing
      rng = jax.random.fold_in(rng, cache.length)
      last = jax.lax.dynamic_index_in_dim(logits, count - 1, 1, keepdims=False)
      return pick(last, rng, temperature, top_p), cache

    self._forward = forward

  def stream(
    self,
    variables: Any,
    prompt: Sequence[int],
    most: int,
    *,
    key: Any = (),
    end: Sequence[int] = (),
    sampling: Sampling = GREEDY,
  ) -> Iterator[int]:
    """Yield the tokens that follow a prompt.

    Args:
      variables: Variables of the model.
      prompt: Tokens, at least one.
      most: Most tokens to yield.
      key: Key of the scheme.
      end: Tokens at which to stop; they are not yielded.
      sampling: How tokens are picked.

    Raises:
      ValueError: If the prompt is empty or has no room in the context, or a
        number is out of range.
    """
    sampling.check()
    context = self._model.context
    if not prompt:
      raise ValueError("the prompt has no tokens")
    if most < 1:
      raise ValueError(f"Expected at least one token to generate, got {most}.")
    if len(prompt) >= context:
      raise ValueError(
        f"the prompt has {len(prompt)} tokens: the context of {context} has no "
        "room for an answer"
      )
    most = min(most, context - len(prompt))
    return self._stream(variables, prompt, most, key, end, sampling)

  def _stream(
    self,
    variables: Any,
    prompt: Sequence[int],
    most: int,
    key: Any,
    end: Sequence[int],
    sampling: Sampling,
  ) -> Iterator[int]:
    # Arrays of NumPy would be copied in each pass.
    key, variables = jax.device_put((key, variables))
    context, count = self._model.context, len(prompt)
    room = min(_rounded(count + most), context)
    width = min(_rounded(count), room)
    tokens = jnp.zeros((1, width), jnp.int32)
    tokens = tokens.at[0, :count].set(jnp.asarray(prompt, jnp.int32))
    cache = self._model.new_cache(1, room)
    drawing = (
      jax.random.key(sampling.seed),
      jnp.float32(sampling.temperature),
      jnp.float32(sampling.top_p),
    )
    pass_ = functools.partial(self._forward, key, variables)
    token, cache = pass_(cache, tokens, jnp.int32(count), drawing)
    for i in range(most):
      number = int(token[0])
      if number in end:
        return
      yield number
      if i + 1 < most:
        token, cache = pass_(cache, token[:, None], jnp.int32(1), drawing)


def _rounded(count: int) -> int:
  return -(-count // _STEP) * _STEP
