"""ONNX: the initialisers of a graph, and the tensors of its Constant nodes.

Converters from Paddle write weights as Constant nodes. Tensors in files beside
the model (external data) are read as well.
"""

import pathlib
from typing import Any

import numpy as np

from experiments.models.readers.base import Arrays, library, reason, register

# Weights, and the shapes and axes that a graph has beside them. Integers of 8
# bits and less are quantised weights, whose scales are in the graph.
KINDS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT32", "INT64", "BOOL")


def read(path: pathlib.Path) -> Arrays:
  """Read a model's tensors by name.

  Raises:
    ValueError: If the file is damaged, a file beside it is missing, a tensor
      is sparse or of a kind that is not in `KINDS`, or two have one name.
  """
  onnx = library("onnx")
  # Checked here: the library's loader would say which library call failed.
  if not path.is_file():
    raise FileNotFoundError(f"no file {path}")
  try:
    model = onnx.load(path, load_external_data=False)
  except Exception as error:  # Protobuf's errors have no common class.
    raise ValueError(f"{path.name} is damaged: {reason(error)}") from None
  if model.graph.sparse_initializer:
    name = model.graph.sparse_initializer[0].values.name
    raise ValueError(f"{path.name}: {name} is sparse, which is not read")
  found: Arrays = {}
  for name, tensor in _tensors(model.graph):
    if name in found:
      raise ValueError(f"{path.name} has two tensors {name}")
    found[name] = _array(path, name, tensor)
  return found


def _tensors(graph: Any) -> list[tuple[str, Any]]:
  """Return names and tensors of the initialisers and Constant nodes."""
  constants = [
    (node.output[0], attribute.t)
    for node in graph.node
    if node.op_type == "Constant" and node.output
    for attribute in node.attribute
    if attribute.name == "value"
  ]
  return [(tensor.name, tensor) for tensor in graph.initializer] + constants


def _array(path: pathlib.Path, name: str, tensor: Any) -> np.ndarray:
  helper = library("onnx.numpy_helper")
  kinds = {n: k for k, n in library("onnx").TensorProto.DataType.items()}
  kind = kinds.get(tensor.data_type, f"kind {tensor.data_type}")
  if kind not in KINDS:
    raise ValueError(
      f"{path.name}: {name} is {kind}, which is not read: only "
      f"{', '.join(KINDS)} are"
    )
  try:
    # The folder is where external data lie; the library keeps paths inside it.
    return np.asarray(helper.to_array(tensor, base_dir=str(path.parent)))
  except Exception as error:  # Its checks raise their own classes.
    raise ValueError(
      f"{path.name}: {name} cannot be read: {reason(error)}"
    ) from None


register(".onnx", read)
