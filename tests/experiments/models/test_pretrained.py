"""Public weights, against forward passes written in the public layouts."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import keyjax
from experiments import models
from experiments.models import pretrained
from keyjax import Secret, checkpoint
from tests import trees

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((2, 32, 32, 3)).astype(np.float32))
TOKENS = jnp.asarray(RNG.integers(0, 11, (2, 6)), jnp.int32)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
D, HEADS, HIDDEN = 8, 2, 32
Arrays = dict[str, np.ndarray]


def draw(*shape: int) -> np.ndarray:
  return RNG.normal(0, 0.3, shape).astype(np.float32)


def linear(name: str, out: int, size: int) -> Arrays:
  return {f"{name}.weight": draw(out, size), f"{name}.bias": draw(out)}


def run(fun: Any, *args: Any) -> jax.Array:
  with jax.numpy_rank_promotion("allow"):
    return jax.jit(fun)(*args)


def normalised(x: jax.Array) -> jax.Array:
  """Return [b, h, w, c] in [0, 1] in PyTorch's layout: [b, c, h, w]."""
  return ((x - jnp.array(MEAN)) / jnp.array(STD)).transpose(0, 3, 1, 2)


def layer_norm(p: Any, name: str, x: jax.Array, eps: float) -> jax.Array:
  x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + eps)
  return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def conv(p: Any, name: str, x: jax.Array, stride: int, pad: int) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x,
    p[f"{name}.weight"],
    (stride, stride),
    [(pad, pad)] * 2,
    dimension_numbers=("NCHW", "OIHW", "NCHW"),
  )


def attend(q: Any, k: Any, v: Any, causal: bool) -> jax.Array:
  """Compute attention head by head."""
  outs = []
  size = D // HEADS
  for h in range(HEADS):
    part = slice(h * size, (h + 1) * size)
    scores = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(size)
    if causal:
      scores = jnp.where(np.tri(scores.shape[-1], dtype=bool), scores, -1e9)
    outs.append(jax.nn.softmax(scores) @ v[..., part])
  return jnp.concatenate(outs, -1)


# ---------------------------------------------------------------------- GPT-2


def gpt2_arrays() -> Arrays:
  """Return arrays by Hugging Face's names; Conv1D weights are [in, out]."""
  found = {"wte.weight": draw(11, D), "wpe.weight": draw(16, D)}
  for i in range(2):
    sizes = {
      f"h.{i}.attn.c_attn": (D, 3 * D),
      f"h.{i}.attn.c_proj": (D, D),
      f"h.{i}.mlp.c_fc": (D, HIDDEN),
      f"h.{i}.mlp.c_proj": (HIDDEN, D),
    }
    for name, (size, out) in sizes.items():
      found |= {f"{name}.weight": draw(size, out), f"{name}.bias": draw(out)}
    for name in (f"h.{i}.ln_1", f"h.{i}.ln_2"):
      found |= {f"{name}.weight": draw(D), f"{name}.bias": draw(D)}
    found[f"h.{i}.attn.bias"] = np.tri(16, dtype=np.float32)[None, None]
  return found | {"ln_f.weight": draw(D), "ln_f.bias": draw(D)}


def gpt2_logits(p: Any, tokens: jax.Array) -> jax.Array:
  x = p["wte.weight"][tokens] + p["wpe.weight"][: tokens.shape[1]]

  def dense(name: str, x: jax.Array) -> jax.Array:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

  for i in range(2):
    y = layer_norm(p, f"h.{i}.ln_1", x, 1e-5)
    q, k, v = jnp.split(dense(f"h.{i}.attn.c_attn", y), 3, -1)
    x = x + dense(f"h.{i}.attn.c_proj", attend(q, k, v, causal=True))
    y = dense(f"h.{i}.mlp.c_fc", layer_norm(p, f"h.{i}.ln_2", x, 1e-5))
    x = x + dense(f"h.{i}.mlp.c_proj", jax.nn.gelu(y, approximate=True))
  return layer_norm(p, "ln_f", x, 1e-5) @ p["wte.weight"].T


def gpt2(**options: Any) -> Any:
  sizes = {"context": 16, "features": D, "depth": 2, "heads": HEADS}
  return models.create("gpt2", 11, (), (), **sizes, **options)


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_gpt2_is_loaded_locked_shipped_and_unlocked(
  prefix: str, tmp_path: pathlib.Path
) -> None:
  arrays = gpt2_arrays()
  public = {prefix + k: v for k, v in arrays.items()}
  public["lm_head.weight"] = arrays["wte.weight"]
  file = tmp_path / "model.safetensors"
  safetensors.numpy.save_file(public, file)
  model = gpt2()
  variables = pretrained.load(file, model, TOKENS)
  want = run(gpt2_logits, arrays, TOKENS)
  plain = run(model.apply, variables, TOKENS)
  np.testing.assert_allclose(plain, want, rtol=1e-4, atol=1e-4)
  if prefix:
    return
  # Lock, ship, restore elsewhere, unlock with the key.
  scheme = keyjax.deep_lock("counter")
  variables = jax.tree.map(jnp.asarray, variables)
  key = scheme.keygen(Secret.generate(), variables, None)
  locked = jax.jit(scheme.encrypt)(key, variables)
  checkpoint.save_plain(tmp_path / "shipped", locked)
  restored = checkpoint.restore_plain(tmp_path / "shipped", locked)
  opened = jax.jit(scheme.decrypt)(key, restored)
  trees.assert_same_bits(opened, variables)
  trees.assert_same_bits(run(model.apply, opened, TOKENS), plain)


def test_an_untied_head_is_transposed(tmp_path: pathlib.Path) -> None:
  arrays = gpt2_arrays() | {"lm_head.weight": draw(11, D)}
  np.savez(tmp_path / "model.npz", **arrays)
  made = pretrained.load(tmp_path / "model.npz", gpt2(tied=False), TOKENS)
  head = made["params"]["head"]["kernel"]
  np.testing.assert_array_equal(head, arrays["lm_head.weight"].T)


# ------------------------------------------------------------------------ ViT


def vit_arrays() -> Arrays:
  """Return arrays by timm's names: [out, in], kernels [out, in, h, w]."""
  found = {
    "cls_token": draw(1, 1, D),
    "pos_embed": draw(1, 1 + 16, D),
    "patch_embed.proj.weight": draw(D, 3, 8, 8),
    "patch_embed.proj.bias": draw(D),
  }
  for i in range(2):
    found |= linear(f"blocks.{i}.attn.qkv", 3 * D, D)
    found |= linear(f"blocks.{i}.attn.proj", D, D)
    found |= linear(f"blocks.{i}.mlp.fc1", HIDDEN, D)
    found |= linear(f"blocks.{i}.mlp.fc2", D, HIDDEN)
    for name in (f"blocks.{i}.norm1", f"blocks.{i}.norm2"):
      found |= {f"{name}.weight": draw(D), f"{name}.bias": draw(D)}
  found |= {"norm.weight": draw(D), "norm.bias": draw(D)}
  return found | linear("head", 7, D)


def vit_logits(p: Any, images: jax.Array) -> jax.Array:
  x = conv(p, "patch_embed.proj", normalised(images), 8, 0)
  x = x.reshape(len(x), D, -1).swapaxes(1, 2) + p["patch_embed.proj.bias"]
  first = jnp.broadcast_to(p["cls_token"], (len(x), 1, D))
  x = jnp.concatenate([first, x], 1) + p["pos_embed"]

  def dense(name: str, x: jax.Array) -> jax.Array:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

  for i in range(2):
    y = layer_norm(p, f"blocks.{i}.norm1", x, 1e-6)
    q, k, v = jnp.split(dense(f"blocks.{i}.attn.qkv", y), 3, -1)
    x = x + dense(f"blocks.{i}.attn.proj", attend(q, k, v, causal=False))
    y = dense(
      f"blocks.{i}.mlp.fc1", layer_norm(p, f"blocks.{i}.norm2", x, 1e-6)
    )
    x = x + dense(f"blocks.{i}.mlp.fc2", jax.nn.gelu(y, approximate=False))
  return dense("head", layer_norm(p, "norm", x, 1e-6)[:, 0])


def vit(**options: Any) -> Any:
  sizes = {"features": D, "depth": 2, "heads": HEADS, "patch": 8}
  return models.create("vit_b", 7, MEAN, STD, **sizes, **options)


def test_a_vit_of_half_precision(tmp_path: pathlib.Path) -> None:
  arrays = {k: v.astype(np.float16) for k, v in vit_arrays().items()}
  np.savez(tmp_path / "vit.npz", **arrays)
  variables = pretrained.load(tmp_path / "vit.npz", vit(), IMAGES)
  assert {x.dtype.name for x in jax.tree.leaves(variables)} == {"float32"}
  full = {k: v.astype(np.float32) for k, v in arrays.items()}
  want = run(vit_logits, full, IMAGES)
  logits = run(vit().apply, variables, IMAGES)
  np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)


def test_bfloat16_files_are_read(tmp_path: pathlib.Path) -> None:
  arrays = {k: v.astype(jnp.bfloat16) for k, v in vit_arrays().items()}
  safetensors.numpy.save_file(arrays, tmp_path / "vit.safetensors")
  made = pretrained.load(tmp_path / "vit.safetensors", vit(), IMAGES)
  bias = made["params"]["head"]["bias"]
  np.testing.assert_array_equal(bias, arrays["head.bias"].astype(np.float32))


# --------------------------------------------------------------------- ResNet


def resnet_arrays(blocks: tuple[int, ...], bottleneck: bool) -> Arrays:
  """Return arrays by torchvision's names, at width 4."""
  found: Arrays = {}

  def unit(name: str, norm: str, out: int, size: int, side: int) -> None:
    found[f"{name}.weight"] = draw(out, size, side, side)
    found[f"{norm}.weight"], found[f"{norm}.bias"] = draw(out), draw(out)
    found[f"{norm}.running_mean"] = draw(out)
    found[f"{norm}.running_var"] = 0.5 + draw(out) ** 2
    found[f"{norm}.num_batches_tracked"] = np.array(3)

  unit("conv1", "bn1", 4, 3, 7)
  size = 4
  for s, count in enumerate(blocks):
    width = 4 * 2**s
    plan = [(width, 3), (width, 3)]
    if bottleneck:
      plan = [(width, 1), (width, 3), (4 * width, 1)]
    for b in range(count):
      at, before = f"layer{s + 1}.{b}", size
      for i, (out, side) in enumerate(plan):
        unit(f"{at}.conv{i + 1}", f"{at}.bn{i + 1}", out, size, side)
        size = out
      if before != size:
        unit(f"{at}.downsample.0", f"{at}.downsample.1", size, before, 1)
  return found | linear("fc", 7, size)


def resnet18_logits(p: Any, images: jax.Array) -> jax.Array:
  def norm(name: str, x: jax.Array) -> jax.Array:
    scale, bias, mean, var = (
      p[f"{name}.{k}"][:, None, None]
      for k in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias

  x = jax.nn.relu(norm("bn1", conv(p, "conv1", normalised(images), 2, 3)))
  window, step = (1, 1, 3, 3), (1, 1, 2, 2)
  pads = [(0, 0), (0, 0), (1, 1), (1, 1)]
  x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, step, pads)
  for s in range(4):
    for b in range(2):
      at, stride = f"layer{s + 1}.{b}", 2 if s and not b else 1
      y = jax.nn.relu(norm(f"{at}.bn1", conv(p, f"{at}.conv1", x, stride, 1)))
      y = norm(f"{at}.bn2", conv(p, f"{at}.conv2", y, 1, 1))
      if f"{at}.downsample.0.weight" in p:
        x = conv(p, f"{at}.downsample.0", x, stride, 0)
        x = norm(f"{at}.downsample.1", x)
      x = jax.nn.relu(x + y)
  return x.mean((2, 3)) @ p["fc.weight"].T + p["fc.bias"]


def test_a_resnet18(tmp_path: pathlib.Path) -> None:
  arrays = resnet_arrays((2, 2, 2, 2), bottleneck=False)
  safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
  model = models.create("resnet18", 7, MEAN, STD, width=4, stem="imagenet")
  variables = pretrained.load(tmp_path / "a.safetensors", model, IMAGES)
  want = run(resnet18_logits, arrays, IMAGES)
  logits = run(model.apply, variables, IMAGES)
  np.testing.assert_allclose(logits, want, rtol=1e-3, atol=1e-3)


def test_a_resnet50_has_a_place_for_every_tensor(
  tmp_path: pathlib.Path,
) -> None:
  arrays = resnet_arrays((3, 4, 6, 3), bottleneck=True)
  np.savez(tmp_path / "a.npz", **arrays)
  model = models.create("resnet50", 7, MEAN, STD, width=4)
  made = pretrained.load(tmp_path / "a.npz", model, IMAGES)
  tracked = sum("num_batches" in k for k in arrays)
  assert len(jax.tree.leaves(made)) == len(arrays) - tracked
  np.testing.assert_array_equal(
    made["params"]["stage_2_block_5"]["conv_2"]["kernel"],
    arrays["layer3.5.conv3.weight"].transpose(2, 3, 1, 0),
  )
  np.testing.assert_array_equal(
    made["batch_stats"]["stage_1_block_0"]["norm_shortcut"]["var"],
    arrays["layer2.0.downsample.1.running_var"],
  )


# ----------------------------------------------------------------- bad input


def test_what_does_not_fit_is_named(tmp_path: pathlib.Path) -> None:
  def attempt(change: dict[str, Any], model: Any, message: str) -> None:
    arrays = vit_arrays() | change
    arrays = {k: v for k, v in arrays.items() if v is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
      pretrained.load(tmp_path / "a.npz", model, IMAGES)

  attempt({"norm.bias": None}, vit(), "no tensor norm.bias for params/norm/bi")
  attempt(
    {"norm.bias": np.zeros(D, np.int8)}, vit(), "norm.bias is int8: quantised"
  )
  attempt({"head.weight": draw(5, D)}, vit(), r"head.weight gives \[8, 5\]")
  attempt(
    {"dist_token": draw(1)}, vit(), "1 tensors .* not belong.*: dist_token"
  )
  attempt({}, vit(pooling="mean"), "not for ViT with mean pooling")
  attempt({}, models.create("mlp", 7, MEAN, STD), "not for MLP$")
  (tmp_path / "a.bin").write_bytes(b"")
  with pytest.raises(ValueError, match="a.bin: weights are read from a folder"):
    pretrained.load(tmp_path / "a.bin", vit(), IMAGES)
