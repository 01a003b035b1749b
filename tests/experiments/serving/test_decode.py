"""Generation with a cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import models
from experiments.serving.decode import Generator, Sampling, pick
from keyjax import Secret

MODEL = models.create("llama_micro", 23, (), (), depth=1)
PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(scope="module")
def variables():
  tokens = jnp.zeros((1, 4), jnp.int32)
  shapes = jax.eval_shape(MODEL.init, jax.random.key(0), tokens)
  rng = np.random.default_rng(0)
  # Weights so large that the likeliest token is not always the same.
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), shapes
  )


@pytest.fixture(scope="module")
def generator() -> Generator:
  return Generator(MODEL)


APPLY = jax.jit(MODEL.apply)


def continued(variables, count: int) -> list[int]:
  """Continue the prompt without a cache, over the whole text each time."""
  text = list(PROMPT)
  for _ in range(count):
    padded = np.zeros((1, MODEL.context), np.int32)
    padded[0, : len(text)] = text
    logits = APPLY(variables, padded)
    text.append(int(logits[0, len(text) - 1].argmax()))
  return text[len(PROMPT) :]


def test_the_likeliest_tokens_are_those_of_whole_passes(
  variables, generator
) -> None:
  want = continued(variables, 8)
  assert len(set(want)) > 2
  assert list(generator.stream(variables, PROMPT, 8)) == want
  end = next(token for token in want if token != want[0])
  found = list(generator.stream(variables, PROMPT, 8, end=(end,)))
  assert found == want[: want.index(end)]


def test_the_context_is_filled_and_not_exceeded(variables, generator) -> None:
  found = list(generator.stream(variables, [1] * 60, 100))
  assert len(found) == MODEL.context - 60
  whole = APPLY(variables, np.array([[1] * 60 + found], np.int32))
  assert whole[0, 59:-1].argmax(-1).tolist() == found


def test_weights_may_be_decrypted_in_each_pass(variables) -> None:
  scheme = keyjax.deep_lock("counter")
  key = scheme.keygen(Secret.generate(), variables, None)
  locked = jax.jit(scheme.encrypt)(key, variables)
  generator = Generator(MODEL, scheme, each_pass=True)
  found = generator.stream(locked, PROMPT, 8, key=key)
  assert list(found) == continued(variables, 8)


def test_hpnn_is_bound_to_each_pass(variables, generator) -> None:
  scheme = keyjax.hpnn(MODEL.apply, layers=".*mlp_(gate|up)")
  tokens = jnp.zeros((1, 8), jnp.int32)
  key = scheme.keygen(Secret.generate(), variables, {"image": tokens})
  locked = keyjax.absorb(key, variables)
  found = Generator(MODEL, scheme).stream(locked, PROMPT, 8, key=key)
  want = continued(variables, 8)
  assert list(found) == want
  assert list(generator.stream(locked, PROMPT, 8)) != want


def test_tokens_are_drawn_by_their_probability() -> None:
  logits = jnp.log(jnp.array([[0.6, 0.3, 0.1]]))
  draw = jax.jit(
    jax.vmap(lambda rng, t, p: pick(logits, rng, t, p)[0], (0, None, None))
  )
  rngs = jax.random.split(jax.random.key(0), 2000)

  def shares(temperature: float, top_p: float) -> np.ndarray:
    found = draw(rngs, jnp.float32(temperature), jnp.float32(top_p))
    return np.bincount(found, minlength=3) / len(rngs)

  np.testing.assert_allclose(shares(1, 1), [0.6, 0.3, 0.1], atol=0.04)
  # Without the last tenth; squares of the shares.
  np.testing.assert_allclose(shares(1, 0.85), [2 / 3, 1 / 3, 0], atol=0.04)
  np.testing.assert_allclose(
    shares(0.5, 1), np.array([36, 9, 1]) / 46, atol=0.04
  )
  np.testing.assert_array_equal(shares(0, 1), [1, 0, 0])
  np.testing.assert_array_equal(shares(1, 1e-6), [1, 0, 0])


def test_a_seed_gives_its_text_again(variables, generator) -> None:
  texts = [
    tuple(
      generator.stream(variables, PROMPT, 8, sampling=Sampling(2.0, 1.0, seed))
    )
    for seed in (0, 0, 1)
  ]
  assert texts[0] == texts[1] != texts[2]


def test_what_cannot_be_generated_is_refused(variables, generator) -> None:
  for arguments, message in (
    (([], 8), "the prompt has no tokens"),
    (([1] * 64, 8), "has 64 tokens: the context of 64 has no room"),
    ((PROMPT, 0), "at least one token"),
  ):
    with pytest.raises(ValueError, match=message):
      generator.stream(variables, *arguments)
  for sampling, message in (
    (Sampling(-1.0), "temperature=-1.0"),
    (Sampling(1.0, 0.0), "top_p=0.0"),
    (Sampling(float("nan")), "temperature=nan"),
    (Sampling(seed=1 << 63), "seed=9223372036854775808"),
  ):
    with pytest.raises(ValueError, match=message):
      generator.stream(variables, PROMPT, 8, sampling=sampling)
