"""Weights from outside: safetensors or NumPy files, in their public layouts.

Each leaf of a model has one public name and one change of axes. A file's other
tensors are an error, except those listed as ignored.

ResNet (torchvision's and timm's `resnet18`, `resnet50`; the `imagenet` stem):

    conv_stem, norm_stem              conv1, bn1
    stage_S_block_B/conv_I, norm_I    layer(S+1).B.conv(I+1), bn(I+1)
    .../conv_shortcut, norm_shortcut  layer(S+1).B.downsample.0, .1
    head                              fc
    ignored: num_batches_tracked

ViT (timm's `vit_tiny`, `vit_small`, `vit_base` with a class token):

    patch_embedding                   patch_embed.proj
    class_token, position_embedding   cls_token, pos_embed
    block_B/norm_attention, norm_mlp  blocks.B.norm1, norm2
    block_B/attention/query           blocks.B.attn.qkv, first third; key and
                                      value are the second and third
    block_B/attention/out             blocks.B.attn.proj
    block_B/mlp_in, mlp_out           blocks.B.mlp.fc1, fc2
    norm, head                        norm, head

Language model (Hugging Face's GPT-2, with or without `transformer.` before):

    token_embedding                   wte
    position_embedding                wpe.weight
    block_B/norm_attention, norm_mlp  h.B.ln_1, ln_2
    block_B/attention/query           h.B.attn.c_attn, first third of columns
    block_B/attention/out             h.B.attn.c_proj
    block_B/mlp_in, mlp_out           h.B.mlp.c_fc, c_proj
    norm                              ln_f
    head (untied)                     lm_head
    ignored: attn.bias and attn.masked_bias (masks); lm_head of a tied model

Leaves: `kernel`, `scale` and `embedding` are `weight`; `bias` is `bias`;
`mean` and `var` are `running_mean` and `running_var`. Kernels of convolutions
go from [out, in, h, w] to [h, w, in, out], those of linear layers from [out,
in] to [in, out], but GPT-2's are [in, out] already. Floats become float32.
"""

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import safetensors.numpy

from experiments.models.lm import LanguageModel
from experiments.models.resnet import ResNet
from experiments.models.vit import ViT
from keyjax import tree

Arrays = Mapping[str, np.ndarray]
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "embedding": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}


class Layout(NamedTuple):
  """A public layout of a family of models.

  Attributes:
    modules: patterns of our module paths, with the public module's name; a
      `{+N}` in it is group N plus 1, `{N}` is group N.
    parameters: our leaves that are no module's, with their public names.
    thirds: the last parts of modules that share one public module, in order.
    transposed: whether linear kernels are [out, in].
    ignored: a pattern of public names to leave out.
  """

  modules: dict[str, str]
  parameters: dict[str, str]
  thirds: tuple[str, ...]
  transposed: bool
  ignored: str


_THIRDS = ("query", "key", "value")
_LAYOUTS: dict[type[nn.Module], Layout] = {
  ResNet: Layout(
    {
      r"conv_stem": "conv1",
      r"norm_stem": "bn1",
      r"stage_(\d)_block_(\d+)/conv_(\d)": "layer{+1}.{2}.conv{+3}",
      r"stage_(\d)_block_(\d+)/norm_(\d)": "layer{+1}.{2}.bn{+3}",
      r"stage_(\d)_block_(\d+)/conv_shortcut": "layer{+1}.{2}.downsample.0",
      r"stage_(\d)_block_(\d+)/norm_shortcut": "layer{+1}.{2}.downsample.1",
      r"head": "fc",
    },
    {},
    (),
    True,
    r".*\.num_batches_tracked",
  ),
  ViT: Layout(
    {
      r"patch_embedding": "patch_embed.proj",
      r"block_(\d+)/norm_attention": "blocks.{1}.norm1",
      r"block_(\d+)/attention/(query|key|value)": "blocks.{1}.attn.qkv",
      r"block_(\d+)/attention/out": "blocks.{1}.attn.proj",
      r"block_(\d+)/norm_mlp": "blocks.{1}.norm2",
      r"block_(\d+)/mlp_in": "blocks.{1}.mlp.fc1",
      r"block_(\d+)/mlp_out": "blocks.{1}.mlp.fc2",
      r"(norm|head)": "{1}",
    },
    {"class_token": "cls_token", "position_embedding": "pos_embed"},
    _THIRDS,
    True,
    r"",
  ),
  LanguageModel: Layout(
    {
      r"token_embedding": "wte",
      r"block_(\d+)/norm_attention": "h.{1}.ln_1",
      r"block_(\d+)/attention/(query|key|value)": "h.{1}.attn.c_attn",
      r"block_(\d+)/attention/out": "h.{1}.attn.c_proj",
      r"block_(\d+)/norm_mlp": "h.{1}.ln_2",
      r"block_(\d+)/mlp_in": "h.{1}.mlp.c_fc",
      r"block_(\d+)/mlp_out": "h.{1}.mlp.c_proj",
      r"norm": "ln_f",
      r"head": "lm_head",
    },
    {"position_embedding": "wpe.weight"},
    _THIRDS,
    False,
    r"h\.\d+\.attn\.(masked_)?bias|lm_head\.weight",
  ),
}


def load(
  path: str | os.PathLike[str], model: nn.Module, example: Any
) -> dict[str, Any]:
  """Loads a file of public weights into a model's variables.

  Args:
    path: a `.safetensors` or `.npz` file.
    model: a `ResNet`, a `ViT` with a class token, or a `LanguageModel`.
    example: an input of the model, or its shape.

  Returns:
    The variables, `float32` NumPy arrays: lock them, or train on.

  Raises:
    ValueError: the file or the model is of another kind, a tensor is missing,
      left over, or has another shape; the message names it.
    FileNotFoundError: there is no such file.
  """
  arrays = read(path)
  layout = _LAYOUTS.get(type(model))
  if layout is None or getattr(model, "pooling", "token") != "token":
    raise ValueError(
      "weights from outside are for ResNet, ViT with a class token and "
      f"LanguageModel, not for {type(model).__name__}"
      f"{' with mean pooling' if layout else ''}"
    )
  shapes = jax.eval_shape(model.init, jax.random.key(0), example)
  paths, leaves, treedef = tree.flatten(shapes)
  used: set[str] = set()
  out = []
  for leaf_path, leaf in zip(paths, leaves, strict=True):
    name, change = _source(layout, leaf_path.split("/", 1)[1], leaf.ndim)
    used.add(name)
    out.append(_take(arrays, name, change, leaf_path, leaf.shape))
  left = [
    n for n in arrays if n not in used and not re.fullmatch(layout.ignored, n)
  ]
  if left:
    raise ValueError(
      f"{os.fspath(path)} holds {len(left)} tensors that the model has no "
      f"place for: {', '.join(sorted(left)[:4])}"
    )
  return jax.tree.unflatten(treedef, out)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a `.safetensors` or `.npz` file, by name."""
  file = pathlib.Path(path)
  if file.suffix == ".safetensors":
    found = safetensors.numpy.load_file(file)
  elif file.suffix == ".npz":
    with np.load(file, allow_pickle=False) as arrays:
      found = dict(arrays)
  else:
    raise ValueError(f"{file.name}: expected a .safetensors or .npz file")
  prefix = re.compile(r"^(module\.|transformer\.)+")
  return {prefix.sub("", name): x for name, x in found.items()}


Change = Callable[[np.ndarray], np.ndarray]


def _source(layout: Layout, path: str, ndim: int) -> tuple[str, Change]:
  """Returns a leaf's public name, and what makes its array ours."""
  if path in layout.parameters:
    # GPT-2's positions are [t, d], ours [1, t, d].
    return layout.parameters[path], lambda x: x.reshape((1,) * (ndim - x.ndim)
                                                        + x.shape)  # fmt: skip
  module, _, leaf = path.rpartition("/")
  for pattern, public in layout.modules.items():
    found = re.fullmatch(pattern, module)
    if found:
      name = f"{_filled(public, found)}.{_LEAVES[leaf]}"
      return name, _change(layout, module.rpartition("/")[2], leaf)
  raise ValueError(f"no public name is known for {path}")


def _filled(public: str, found: re.Match[str]) -> str:
  """Fills in `{N}`, group N, and `{+N}`, group N plus 1."""
  text = re.sub(r"\{\+(\d)\}", lambda m: str(int(found[int(m[1])]) + 1), public)
  return re.sub(r"\{(\d)\}", lambda m: found[int(m[1])], text)


def _change(layout: Layout, module: str, leaf: str) -> Change:
  def change(x: np.ndarray) -> np.ndarray:
    if leaf == "kernel" and x.ndim == 4:
      x = x.transpose(2, 3, 1, 0)
    elif leaf == "kernel" and (layout.transposed or module == "head"):
      x = x.T
    if module in layout.thirds:
      x = np.split(x, len(layout.thirds), -1)[layout.thirds.index(module)]
    return x

  return change


def _take(
  arrays: Arrays, name: str, change: Change, path: str, shape: tuple[int, ...]
) -> np.ndarray:
  if name not in arrays:
    known = ", ".join(sorted(arrays)[:4])
    raise ValueError(f"no tensor {name} for {path}; the file has {known}, ...")
  x = change(arrays[name])
  if x.shape != tuple(shape):
    raise ValueError(
      f"{name} gives {list(x.shape)}, but {path} is {list(shape)}"
    )
  return np.ascontiguousarray(x, np.float32)
