"""Public weights: files and folders in their public layouts.

`experiments.models.readers` has the formats: safetensors, in one file or in
the shards of an index, a folder of Hugging Face, GGUF, ONNX, PyTorch and NumPy.
Each leaf of a model has one public name and one change of axes. Other tensors
in a file are an error, except those listed as ignored. The layouts are in the
files of the models.

ResNet (torchvision's and timm's `resnet18`, 50 and 101; the `imagenet` stem):

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

Language model (Hugging Face's GPT-2, with or without `transformer.` in front):

    token_embedding                   wte
    position_embedding                wpe.weight
    block_B/norm_attention, norm_mlp  h.B.ln_1, ln_2
    block_B/attention/query           h.B.attn.c_attn, first third of columns
    block_B/attention/out             h.B.attn.c_proj
    block_B/mlp_in, mlp_out           h.B.mlp.c_fc, c_proj
    norm                              ln_f
    head (untied)                     lm_head
    ignored: attn.bias and attn.masked_bias (masks); lm_head of a tied model

Sentence encoder (Hugging Face's BertModel, with or without `bert.` in front):

    token_embedding                   embeddings.word_embeddings
    segment_embedding                 embeddings.token_type_embeddings
    position_embedding, norm          embeddings.position_embeddings, LayerNorm
    block_B/attention/query           encoder.layer.B.attention.self.query
    block_B/attention/out             encoder.layer.B.attention.output.dense
    block_B/mlp_in, mlp_out           encoder.layer.B.intermediate, output
    ignored: the pooler, position_ids

Llama (SmolLM2 and others; Hugging Face's, and llama.cpp's GGUF): see
`experiments.models.llama_layout`. MTCNN and the text detector of PP-OCRv4: see
`experiments.models.mtcnn` and `experiments.models.dbnet`.

Leaves: `kernel`, `scale` and `embedding` are `weight`; `bias` is `bias`;
`mean` and `var` are `running_mean` and `running_var`. Kernels of convolutions
go from [out, in, h, w] to [h, w, in, out], those of linear layers from [out,
in] to [in, out], but GPT-2's are already [in, out]. Floats become float32.
"""

import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.models import readers
from experiments.models.layout import ARCHITECTURES, LAYOUTS, Arrays, Layout
from keyjax import tree


def load(
  path: str | os.PathLike[str], model: nn.Module, example: Any
) -> dict[str, Any]:
  """Load a file of public weights into a model's variables.

  Args:
    path: File or folder of a kind that `experiments.models.readers` knows.
    model: Model of a family that has a layout; a `ViT` has a class token.
    example: Input of the model, or its shape.

  Returns:
    The variables, `float32` NumPy arrays: lock them, or continue training.

  Raises:
    ValueError: If the file or the model is of another kind, or a tensor is
      missing, left over, quantised or of another shape; the message names it.
    FileNotFoundError: If there is no such file.
  """
  return fit(readers.read(path), model, example, os.fspath(path))


def fit(
  arrays: Arrays, model: nn.Module, example: Any, source: str
) -> dict[str, Any]:
  """Return a model's variables of tensors in its public layout; see `load`."""
  layout = LAYOUTS.get(type(model))
  if layout is None or getattr(model, "pooling", "token") != "token":
    raise ValueError(
      f"public weights are for {_families()}, not for {type(model).__name__}"
      f"{' with mean pooling' if layout else ''}"
    )
  prefix = re.compile(f"^({layout.prefix})")
  named = len(arrays)
  arrays = {prefix.sub("", name): x for name, x in arrays.items()}
  if len(arrays) < named:
    raise ValueError(f"{source} has a tensor with and without a prefix")
  if getattr(model, "depth", 0) > named:  # To look at each would not end.
    raise ValueError(
      f"{source} has {named} tensors, fewer than the model has blocks: "
      f"{model.depth}"
    )
  arrays = layout.adapt(model, arrays)
  shapes = jax.eval_shape(model.init, jax.random.key(0), example)
  paths, leaves, treedef = tree.flatten(shapes)
  used: set[str] = set()
  loaded = []
  for leaf_path, leaf in zip(paths, leaves, strict=True):
    name, change = _public(layout, leaf_path.split("/", 1)[1], leaf.ndim)
    used.add(name)
    loaded.append(
      _take(arrays, name, change=change, path=leaf_path, shape=leaf.shape)
    )
  unused = [
    n for n in arrays if n not in used and not re.fullmatch(layout.ignored, n)
  ]
  if unused:
    raise ValueError(
      f"{source} has {len(unused)} tensors that do not belong to the "
      f"model: {', '.join(sorted(unused)[:4])}"
    )
  return jax.tree.unflatten(treedef, loaded)


def from_folder(
  folder: str | os.PathLike[str], example: Any
) -> tuple[nn.Module, dict[str, Any]]:
  """Make the model that a folder of Hugging Face describes, and load it.

  Args:
    folder: Folder with `config.json` and weights.
    example: Input of the model, or its shape.

  Raises:
    ValueError: If the architecture is unknown, or as `load`.
    FileNotFoundError: If there is no `config.json`.
  """
  file = pathlib.Path(folder) / "config.json"
  try:
    config = json.loads(file.read_text())
    name = str(config["model_type"])
  except (ValueError, KeyError, TypeError):
    raise ValueError(f"{file} names no model_type") from None
  model = ARCHITECTURES.get(name)(config)
  return model, load(folder, model, example)


Change = Callable[[np.ndarray], np.ndarray]


def _public(layout: Layout, path: str, ndim: int) -> tuple[str, Change]:
  """Return a leaf's public name, and the change to its public array."""
  if path in layout.parameters:
    # GPT-2's positions are [t, d], ours [1, t, d].
    def add_axes(x: np.ndarray) -> np.ndarray:
      return x.reshape((1,) * (ndim - x.ndim) + x.shape)

    return layout.parameters[path], add_axes
  module, _, leaf = path.rpartition("/")
  for pattern, public in layout.modules.items():
    found = re.fullmatch(pattern, module)
    if found:
      name = f"{_filled(public, found)}.{layout.leaves[leaf]}"
      return name, _change(layout, path)
  raise ValueError(f"no public name is known for {path}")


def _filled(public: str, found: re.Match[str]) -> str:
  """Fill in `{N}`, group N, and `{+N}`, group N plus 1."""
  text = re.sub(r"\{\+(\d)\}", lambda m: str(int(found[int(m[1])]) + 1), public)
  return re.sub(r"\{(\d)\}", lambda m: found[int(m[1])], text)


def _change(layout: Layout, path: str) -> Change:
  """Return the change from a public array to ours, at a path."""
  for pattern, own in layout.changes.items():
    if re.fullmatch(pattern, path):
      return own
  *_, module, leaf = ("", *path.split("/"))

  def change(x: np.ndarray) -> np.ndarray:
    if leaf == "kernel" and x.ndim == 4:
      x = x.transpose(2, 3, 1, 0)  # [out, in, h, w] -> [h, w, in, out]
    elif leaf == "kernel" and (layout.transposed or module == "head"):
      x = x.T  # [out, in] -> [in, out]
    if module in layout.thirds:
      # [in, 3 * out] -> [in, out]
      x = np.split(x, len(layout.thirds), -1)[layout.thirds.index(module)]
    return x

  return change


def _families() -> str:
  """Return the names of the model families that have a public layout."""
  names = sorted(module.__name__ for module in LAYOUTS)
  return ", ".join(names) + " (ViT with a class token)"


def _take(
  arrays: Arrays, name: str, change: Change, path: str, shape: tuple[int, ...]
) -> np.ndarray:
  if name not in arrays:
    known = ", ".join(sorted(arrays)[:4])
    raise ValueError(f"no tensor {name} for {path}; the file has {known}, ...")
  # NumPy's own check does not know bfloat16.
  if not jnp.issubdtype(arrays[name].dtype, np.floating):
    raise ValueError(
      f"{name} is {arrays[name].dtype}: quantised weights are not read"
    )
  x = change(arrays[name])
  if x.shape != tuple(shape):
    raise ValueError(
      f"{name} gives {list(x.shape)}, but {path} is {list(shape)}"
    )
  return np.ascontiguousarray(x, np.float32)
