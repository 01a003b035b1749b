"""The side of PyTorch and ONNX Runtime, in an environment of its own.

    python -m experiments.benchmarks.pretrained.originals FOLDER

FOLDER/request.json names the files of the models, and FOLDER/inputs.npz has
what they are run on. It writes FOLDER/answers.npz. The networks and the face
detector are facenet-pytorch's code, the encoder is that of transformers, with
the mean over tokens that the model's card prescribes.
"""

import importlib
import json
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PACKAGES = (
  "torch==2.13.0",
  "transformers==5.17.0",
  "onnxruntime==1.30.0",
  "numpy==2.4.6",
  "pillow==13.0.0",
  "requests==2.34.2",  # facenet-pytorch imports it, and
  "tqdm==4.70.1",  # this.
)
_MTCNN = ("pnet", "rnet", "onet")


def embeddings(folder: str, texts: Sequence[str], length: int) -> Any:
  """Return tokens and embeddings of texts.

  Args:
    folder: Folder of Hugging Face.
    texts: Texts.
    length: Most tokens.
  """
  import torch
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModel.from_pretrained(folder).eval()
  given = tokenizer(
    list(texts),
    padding="max_length",
    truncation=True,
    max_length=length,
    return_tensors="pt",
  )
  with torch.no_grad():
    hidden = model(**given)[0]
  seen = given["attention_mask"][..., None].float()
  mean = (hidden * seen).sum(1) / seen.sum(1)
  found = torch.nn.functional.normalize(mean)
  return given["input_ids"].numpy(), found.numpy()


def facenet(folder: str) -> Any:
  """Return facenet-pytorch's module of networks, from its files.

  It asks for releases of PyTorch and NumPy that are older than those here, and
  for torchvision, of which it uses one function: `_nms` stands in for it.

  Args:
    folder: Folder of the package.
  """
  package = types.ModuleType("facenet_pytorch")
  package.__path__ = [folder]
  sys.modules["facenet_pytorch"] = package
  for name in ("transforms", "transforms.functional", "ops", "ops.boxes"):
    sys.modules[f"torchvision.{name}"] = types.ModuleType(name)
  sys.modules["torchvision"] = types.ModuleType("torchvision")
  vision: Any = sys.modules
  vision["torchvision.transforms"].functional = None
  vision["torchvision.ops.boxes"].batched_nms = _nms
  return importlib.import_module("facenet_pytorch.models.mtcnn")


def _nms(boxes: Any, scores: Any, images: Any, most: float) -> Any:
  """Return indices of boxes that remain, all of one image, the best first."""
  import torch

  del images
  order = scores.argsort(descending=True, stable=True)
  areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
  kept = []
  while len(order):
    best, order = order[0], order[1:]
    kept.append(best)
    low = torch.maximum(boxes[best, :2], boxes[order, :2])
    high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
    both = (high - low).clamp(min=0).prod(1)
    order = order[both / (areas[best] + areas[order] - both) <= most]
  return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


def cascade(folder: str, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Return the outputs of the three networks, and boxes of photographs.

  Args:
    folder: Folder of facenet-pytorch.
    inputs: `window_NAME`, float32[b, h, w, 3], of networks; `photo_N`.
  """
  import torch

  module = facenet(folder)
  nets = [getattr(module, name)().eval() for name in ("PNet", "RNet", "ONet")]
  found = {}
  with torch.no_grad():
    for name, net in zip(_MTCNN, nets, strict=True):
      windows = torch.from_numpy(inputs[f"window_{name}"]).permute(0, 3, 1, 2)
      outputs = [x.numpy() for x in net(windows)]
      if name == "pnet":
        outputs = [x.transpose(0, 2, 3, 1) for x in outputs]
      found[f"{name}_box"], found[f"{name}_face"] = outputs[0], outputs[-1]
    for name, photo in inputs.items():
      if name.startswith("photo"):
        boxes, _ = module.detect_face(
          photo, 20, *nets, [0.6, 0.7, 0.7], 0.709, "cpu"
        )
        found[name] = np.asarray(boxes[0], np.float32).reshape(-1, 5)
  return found


def text_map(file: str, images: np.ndarray) -> np.ndarray:
  """Return maps of text, float32[b, h, w], of images [b, h, w, 3]."""
  import onnxruntime

  session = onnxruntime.InferenceSession(
    file, providers=["CPUExecutionProvider"]
  )
  name = session.get_inputs()[0].name
  answer = session.run(None, {name: images.transpose(0, 3, 1, 2)})
  return np.asarray(answer[0])[:, 0]


def main(folder: pathlib.Path) -> None:
  """Answer a request."""
  request = json.loads((folder / "request.json").read_text())
  with np.load(folder / "inputs.npz") as file:
    inputs = dict(file)
  tokens, vectors = embeddings(
    request["minilm"], request["texts"], request["length"]
  )
  answers = cascade(request["facenet"], inputs)
  answers["map"] = text_map(request["ppocr"], inputs["pages"])
  np.savez(folder / "answers.npz", tokens=tokens, vectors=vectors, **answers)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
