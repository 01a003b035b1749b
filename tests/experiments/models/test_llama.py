"""The Llama family, against a forward pass in the public layouts."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keyjax
from experiments import models
from experiments.models import llama_layout, pretrained
from keyjax import Secret
from tests import trees

D, HEADS, KV, HIDDEN, WORDS = 16, 4, 2, 12, 11
HEAD = D // HEADS
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, WORDS, (2, 6)), jnp.int32)
Arrays = dict[str, np.ndarray]


def draw(*shape: int) -> np.ndarray:
  return RNG.normal(0, 0.3, shape).astype(np.float32)


def model(**options: Any) -> Any:
  sizes = {"context": 8, "features": D, "heads": HEADS, "kv_heads": KV}
  sizes |= {"hidden": HIDDEN, "base": 100.0}
  return models.create("llama_micro", WORDS, (), (), **(sizes | options))


def drawn(net: Any) -> Any:
  """Return variables of a model; to initialise it would compile much."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), TOKENS)
  return jax.tree.map(lambda x: draw(*x.shape), shapes)


def hugging_face() -> Arrays:
  """Return arrays by Hugging Face's names, [out, in]."""
  found = {
    "model.embed_tokens.weight": draw(WORDS, D),
    "model.norm.weight": draw(D),
    "model.layers.0.self_attn.rotary_emb.inv_freq": draw(2),
  }
  for i in range(2):
    shapes = {
      "input_layernorm": (D,),
      "post_attention_layernorm": (D,),
      "self_attn.q_proj": (D, D),
      "self_attn.k_proj": (KV * HEAD, D),
      "self_attn.v_proj": (KV * HEAD, D),
      "self_attn.o_proj": (D, D),
      "mlp.gate_proj": (HIDDEN, D),
      "mlp.up_proj": (HIDDEN, D),
      "mlp.down_proj": (D, HIDDEN),
    }
    for name, shape in shapes.items():
      found[f"model.layers.{i}.{name}.weight"] = draw(*shape)
  return found


def llama_cpp(arrays: Arrays) -> Arrays:
  """Return the same by llama.cpp's names, with its order of rows."""
  names = [*llama_layout._NAMES.values(), *llama_layout._BLOCK_NAMES.values()]
  found = {}
  for name, x in arrays.items():
    for public, theirs in names:
      name = name.replace(f"{public}.weight", f"{theirs}.weight")
    if "attn_q" in name or "attn_k" in name:
      # Each head: rows 0, 2, 1, 3 from rows 0, 1, 2, 3.
      order = np.arange(len(x)).reshape(-1, 2, HEAD // 2)
      x = x[order.transpose(0, 2, 1).reshape(-1)]
    if "inv_freq" not in name:
      found[name.replace("model.layers.", "blk.")] = x
  return found


def logits(p: Arrays, tokens: np.ndarray, base: float = 100.0) -> np.ndarray:
  """Compute the logits of one text token by token, head by head."""

  def norm(name: str, x: np.ndarray) -> np.ndarray:
    x = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-5)
    return x * p[f"{name}.weight"]

  def turned(x: np.ndarray, place: int) -> np.ndarray:
    """Multiply complex numbers, one for each pair."""
    half = len(x) // 2
    angle = place * base ** (-np.arange(half) / half)
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag])

  x = p["model.embed_tokens.weight"][tokens].astype(np.float64)
  for i in range(2):
    at = f"model.layers.{i}"
    y = norm(f"{at}.input_layernorm", x)
    q, k, v = (
      y @ p[f"{at}.self_attn.{name}_proj.weight"].T for name in ("q", "k", "v")
    )
    mixed = np.zeros((len(tokens), D))
    for h in range(HEADS):
      own = slice(h * HEAD, (h + 1) * HEAD)
      shared = h // (HEADS // KV)
      shared = slice(shared * HEAD, (shared + 1) * HEAD)
      for t in range(len(tokens)):
        ask = turned(q[t, own], t)
        scores = [ask @ turned(k[s, shared], s) for s in range(t + 1)]
        weights = np.exp(np.array(scores) / np.sqrt(HEAD))
        mixed[t, own] = weights / weights.sum() @ v[: t + 1, shared]
    x = x + mixed @ p[f"{at}.self_attn.o_proj.weight"].T
    y = norm(f"{at}.post_attention_layernorm", x)
    gate = y @ p[f"{at}.mlp.gate_proj.weight"].T
    up = y @ p[f"{at}.mlp.up_proj.weight"].T
    x = x + gate / (1 + np.exp(-gate)) * up @ p[f"{at}.mlp.down_proj.weight"].T
  head = p.get("lm_head.weight", p["model.embed_tokens.weight"])
  return norm("model.norm", x) @ head.T


@pytest.mark.parametrize("tied", [True, False])
def test_both_public_layouts_give_the_published_logits(
  tied: bool, tmp_path: pathlib.Path
) -> None:
  arrays = hugging_face()
  if not tied:
    arrays["lm_head.weight"] = draw(WORDS, D)
  want = [logits(arrays, row) for row in np.asarray(TOKENS)]
  found = []
  for name, public in ("hf", arrays), ("cpp", llama_cpp(arrays)):
    np.savez(tmp_path / f"{name}.npz", **public)
    file = tmp_path / f"{name}.npz"
    found.append(pretrained.load(file, model(tied=tied), TOKENS))
  trees.assert_same_bits(*found)
  got = jax.jit(model(tied=tied).apply)(found[0], TOKENS)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_rows_of_the_other_layout_would_give_other_logits() -> None:
  arrays = hugging_face()
  mixed = dict(arrays)
  for name, x in llama_cpp(arrays).items():
    if "attn_q" in name:
      name = name.replace("blk.", "model.layers.")
      mixed[name.replace("attn_q", "self_attn.q_proj")] = x
  tokens = np.asarray(TOKENS[0])
  assert np.abs(logits(arrays, tokens) - logits(mixed, tokens)).max() > 1e-3


@pytest.mark.parametrize(
  "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def test_a_cache_changes_no_logits(dtype: str) -> None:
  net = model(dtype=dtype, depth=1)
  variables = drawn(net)
  want = jax.jit(net.apply)(variables, TOKENS)
  step = jax.jit(lambda v, c, x: net.apply(v, x, cache=c))
  cache, got = net.new_cache(2), []
  for part in jnp.split(TOKENS, 3, axis=1):
    made, cache = step(variables, cache, part)
    got.append(made)
  assert cache.length == 6 and cache.keys[0].dtype == dtype
  tolerance = 1e-5 if dtype == "float32" else 0.1
  np.testing.assert_allclose(
    jnp.concatenate(got, 1), want, rtol=tolerance, atol=tolerance
  )


def test_hpnn_locks_each_projection_and_generates_with_a_cache() -> None:
  net = model(depth=1)
  variables = drawn(net)
  scheme = keyjax.hpnn(net.apply, layers=".*(query|mlp_gate|mlp_up)")
  key = scheme.keygen(Secret.generate(), variables, {"image": TOKENS})
  assert len(key.units) == 3
  apply_fn = jax.jit(net.apply)
  want = apply_fn(keyjax.absorb(key, variables), TOKENS)
  step = jax.jit(
    lambda key, v, c, x: scheme.bind(key, net.apply)(v, x, cache=c)
  )
  cache, got = net.new_cache(2), []
  for part in jnp.split(TOKENS, 2, axis=1):
    made, cache = step(key, variables, cache, part)
    got.append(made)
  np.testing.assert_allclose(
    jnp.concatenate(got, 1), want, rtol=1e-4, atol=1e-4
  )
  assert jnp.abs(apply_fn(variables, TOKENS) - want).max() > 1e-3


METADATA = {
  "general.architecture": "llama",
  "llama.context_length": 64,
  "llama.embedding_length": 32,
  "llama.block_count": 2,
  "llama.attention.head_count": 4,
  "llama.attention.head_count_kv": 2,
  "llama.feed_forward_length": 48,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 100_000.0,
  "llama.rope.dimension_count": 8,
  "llama.vocab_size": 7,
}


def test_the_metadata_of_a_file_give_the_model() -> None:
  options = models.options_of(METADATA, ["token_embd.weight"])
  micro = models.create("llama_micro", options.pop("vocabulary"), (), ())
  assert micro == models.create("smollm2_135m", 7, (), (), **options)
  untied = models.options_of(METADATA, ["output.weight"])
  assert not untied["tied"]


@pytest.mark.parametrize(
  "change, message",
  [
    ({"general.architecture": "mamba"}, "architecture mamba is unknown"),
    ({"llama.expert_count": 8}, "llama.expert_count=8 .* does not have"),
    ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type=yarn"),
    ({"llama.block_count": None}, "no llama.block_count"),
    ({"llama.block_count": "2"}, "block_count='2' .* no whole number above 0"),
    ({"llama.attention.head_count": [4, 4]}, r"head_count=\[4, 4\] .* no who"),
    ({"llama.context_length": 64.5}, "context_length=64.5 .* no whole number"),
    ({"llama.rope.freq_base": -1.0}, "freq_base=-1.0 .* no number above 0"),
    ({"llama.rope.dimension_count": 4}, "dimension_count=4 .* its heads"),
  ],
)
def test_metadata_of_another_model_is_refused(
  change: dict[str, Any], message: str
) -> None:
  given = {k: x for k, x in (METADATA | change).items() if x is not None}
  with pytest.raises(ValueError, match=message):
    models.options_of(given, ())


def test_more_blocks_than_tensors_are_not_looked_for() -> None:
  deep = models.create("llama_micro", WORDS, (), (), depth=10**9)
  with pytest.raises(ValueError, match="fewer than the model has blocks: 1000"):
    pretrained.fit(hugging_face(), deep, TOKENS, "a.gguf")


def test_a_tensor_with_and_without_a_prefix_is_ambiguous() -> None:
  arrays = hugging_face()
  arrays["module.model.norm.weight"] = 2 * arrays["model.norm.weight"]
  with pytest.raises(ValueError, match="a.npz has a tensor with and without"):
    pretrained.fit(arrays, model(), TOKENS, "a.npz")


def test_what_does_not_fit_is_named(tmp_path: pathlib.Path) -> None:
  arrays = hugging_face()
  for name, change, message in (
    ("gate", {"model.layers.2.mlp.gate_proj.weight": draw(1)}, "not belong"),
    ("freqs", {"rope_freqs.weight": draw(2)}, "not belong.*: rope_freqs"),
    ("head", {"lm_head.weight": draw(WORDS, D)}, "of its own: tied=False"),
  ):
    file = tmp_path / f"{name}.npz"
    np.savez(file, **arrays | change)
    with pytest.raises(ValueError, match=message):
      pretrained.load(file, model(), TOKENS)
  net = model()
  with pytest.raises(ValueError, match="room=9 <= context=8"):
    net.new_cache(1, 9)
  with pytest.raises(ValueError, match="9 tokens are more than context=8"):
    net.init(jax.random.key(0), jnp.zeros((1, 9), jnp.int32))
  with pytest.raises(ValueError, match="integer tokens"):
    net.init(jax.random.key(0), jnp.zeros((1, 9)))
  with pytest.raises(ValueError, match="in groups of kv_heads=3"):
    model(kv_heads=3).init(jax.random.key(0), TOKENS)
