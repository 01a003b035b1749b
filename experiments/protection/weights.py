"""What a run takes from others: public weights, and their tokenizer.

Whatever these files hold belongs to the identity of a run: `Workdir` records a
digest of each, and refuses another file under the same name.
"""

import dataclasses
import hashlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import data
from experiments.data.tokenizer import Tokenizer
from experiments.models import packages, pretrained
from experiments.models.readers import gguf


def load(config: ConfigDict, dataset: data.Dataset, model: nn.Module) -> Any:
  """Load `config.weights` into a model's variables, on the host.

  Args:
    config: Whole config.
    dataset: Its data.
    model: Its model.

  Returns:
    The variables; None if the config names no weights.

  Raises:
    ValueError: If the file cannot be read, or does not fit the model; the
      message names the tensor.
    FileNotFoundError: If there is no such file or package.
  """
  if not config.weights:
    return None
  example = data.to_input(jnp.asarray(dataset.train_images[:1]))
  return pretrained.load(packages.resolve(config.weights), model, example)


def answered(
  config: ConfigDict, dataset: data.Dataset, model: nn.Module, initial: Any
) -> data.Dataset:
  """Label a data set that has no labels with what the public model returns.

  Args:
    config: Whole config.
    dataset: Its data; `float32[n, 0]` are no labels.
    model: Its model.
    initial: Variables that `load` returned.

  Returns:
    The data set itself, if it has labels.

  Raises:
    ValueError: If it has none, and there are no public weights.
  """
  if dataset.train_labels.size:
    return dataset
  if initial is None:
    raise ValueError(
      f"dataset={dataset.name} has no labels: they are what config.weights "
      "say, such as package:minilm"
    )
  forward, size = jax.jit(model.apply), config.evaluate.batch_size

  def answers(images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), size)
    inputs = (data.to_input(jnp.asarray(images[i : i + size])) for i in starts)
    return np.concatenate([forward(initial, x) for x in inputs])

  return dataclasses.replace(
    dataset,
    train_labels=answers(dataset.train_images),
    test_labels=answers(dataset.test_images),
  )


def tokenizer(config: ConfigDict) -> Tokenizer | None:
  """Return the tokenizer that `config.tokenizer` names; None for bytes.

  Args:
    config: Whole config; its tokenizer is a GGUF file, a `tokenizer.json` of
      Hugging Face, or the GGUF file of `package:NAME`.

  Raises:
    ValueError: If the file holds no tokenizer that can be read.
    FileNotFoundError: If there is no such file or package.
  """
  if not config.tokenizer:
    return None
  file = packages.resolve(config.tokenizer)
  if file.suffix == ".gguf":
    return Tokenizer.from_gguf(gguf.metadata(file))
  if file.suffix == ".json":
    record = {"library": file.read_text("utf-8"), "end": (), "start": None}
    return Tokenizer.from_record(record)
  raise ValueError(
    f"config.tokenizer={config.tokenizer}: expected a .gguf file, a "
    "tokenizer.json, or package:NAME"
  )


def digests(config: ConfigDict) -> dict[str, str]:
  """Return SHA-256 of each file that a config names and the result depends on.

  Args:
    config: Whole config.

  Returns:
    Field of the config -> digest, in hexadecimal.
  """
  return {
    field: _digest(packages.resolve(config[field]))
    for field in ("tokenizer", "weights")
    if config[field]
  }


def _digest(path: pathlib.Path) -> str:
  """Return the digest of a file, or of all files of a folder with their names.

  An index of Hugging Face names other files of its folder.
  """
  if path.is_dir() or path.name.endswith(".index.json"):
    folder = path if path.is_dir() else path.parent
    files = sorted(x for x in folder.rglob("*") if x.is_file())
    text = "".join(f"{x.relative_to(folder)}\0{_digest_of(x)}\n" for x in files)
    return hashlib.sha256(text.encode()).hexdigest()
  return _digest_of(path)


def _digest_of(file: pathlib.Path) -> str:
  with file.open("rb") as opened:
    return hashlib.file_digest(opened, "sha256").hexdigest()
