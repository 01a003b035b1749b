"""The side of PyTorch, in a process of its own that answers line by line.

It reads a network, its test images and labels from a file, then one JSON
request from each line of its input: an attack to run, or changed images to
classify. It writes one JSON line for each. AutoAttack is the authors' code.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from experiments.benchmarks.parity import cases

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def network(arrays: Mapping[str, np.ndarray]) -> Any:
  """Return the CNN of `experiments.models` as a PyTorch module.

  Kernels become [out, in, h, w] from [h, w, in, out]; the first dense layer
  takes channels first, so its rows are put in that order.

  Args:
    arrays: Weights by path, `mean` and `std`.
  """
  import torch
  from torch import nn

  class Normalise(nn.Module):
    def __init__(self) -> None:
      super().__init__()
      for name in ("mean", "std"):
        value = torch.tensor(arrays[name]).reshape(1, -1, 1, 1)
        self.register_buffer(name, value)

    def forward(self, x: Any) -> Any:
      return (x - self.mean) / self.std

  layers: list[Any] = [Normalise()]
  convolutions = sorted(x for x in arrays if x.startswith("conv"))
  names = dict.fromkeys(x.split("/")[0] for x in convolutions)
  for name in names:
    kernel = arrays[f"{name}/kernel"]
    side, _, channels, features = kernel.shape
    # Flax pads an even image by side - 2 in all, the odd one at the end.
    before, after = (side - 2) // 2, (side - 1) // 2
    layers.append(nn.ZeroPad2d((before, after, before, after)))
    layer = nn.Conv2d(channels, features, side, stride=2)
    _set(layer, kernel.transpose(3, 2, 0, 1), arrays[f"{name}/bias"])
    layers += [layer, nn.ReLU()]
  rows, units = arrays["dense/kernel"].shape
  side = round((rows // features) ** 0.5)
  parts = arrays["dense/kernel"].reshape(side, side, features, units)
  dense = parts.transpose(2, 0, 1, 3).reshape(rows, units)
  last = arrays["head/kernel"]
  for weight, name in ((dense, "dense"), (last, "head")):
    layer = nn.Linear(*weight.shape)
    _set(layer, weight.T, arrays[f"{name}/bias"])
    layers += [layer, nn.ReLU()]
  layers.insert(-4, nn.Flatten())
  return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


def _set(layer: Any, weight: np.ndarray, bias: np.ndarray) -> None:
  import torch

  layer.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
  layer.bias.data = torch.from_numpy(bias)


def attack(
  model: Any, case: cases.Case, seed: int, images: Any, labels: Any
) -> Any:
  """Return changed images.

  Args:
    model: PyTorch module.
    case: What to run; its `n` images are those given.
    seed: Random seed.
    images: Tensor [n, c, h, w].
    labels: Tensor [n].
  """
  import torch

  if case.attack in cases.AUTOATTACK:
    from autoattack import AutoAttack

    every = AutoAttack(
      model,
      norm=_NORMS[case.norm],
      eps=case.epsilon,
      seed=seed,
      verbose=False,
      device="cpu",
    )
    name = case.attack
    if name == cases.EVERY_PLACE:
      name = "square"
      # It draws a row below h - s, which is a place too; untargeted, it draws
      # nothing else so.
      draw = every.square.random_int
      every.square.random_int = lambda low, high: draw(low, high + 1)
    if name != "ensemble":
      every.attacks_to_run = [name.replace("_", "-")]
    return every.run_standard_evaluation(images, labels, bs=cases.BATCH)
  torch.manual_seed(seed)
  run = _foolbox(model, case)
  batches = zip(
    images.split(cases.BATCH), labels.split(cases.BATCH), strict=True
  )
  return torch.cat([run(x, y) for x, y in batches])


def _foolbox(model: Any, case: cases.Case) -> Callable[[Any, Any], Any]:
  """Return an attack of Foolbox as a function of images and labels."""
  import foolbox

  wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
  if case.attack == "pgd":
    pgd = foolbox.attacks.LinfPGD(
      rel_stepsize=cases.PGD_STRIDE, steps=cases.PGD_STEPS
    )
    return lambda x, y: pgd.run(wrapped, x, y, epsilon=case.epsilon)
  if case.attack == "deepfool":
    deepfool = foolbox.attacks.L2DeepFoolAttack(**cases.DEEPFOOL)
    return lambda x, y: deepfool.run(wrapped, x, y)
  settings: dict[str, Any] = dict(cases.CARLINI_WAGNER)
  settings["stepsize"] = settings.pop("learning_rate")
  settings["initial_const"] = settings.pop("initial_constant")
  found = foolbox.attacks.L2CarliniWagnerAttack(**settings, abort_early=False)
  return lambda x, y: found.run(wrapped, x, y)


def judge(model: Any, x: Any, labels: Any, changed: Any, norm: str) -> Any:
  """Return what changed images are worth, in the eyes of PyTorch.

  Returns:
    The share that is classified correctly, the greatest change, and the median
    change among the images that are classified correctly unchanged; a failed
    change counts as infinite.
  """
  import torch

  order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
  sizes = torch.linalg.vector_norm((changed - x).flatten(1), order, 1)
  right = model(x).argmax(1) == labels
  robust = model(changed).argmax(1) == labels
  needed = torch.where(robust, torch.inf, sizes)[right]
  return {
    "accuracy": float(robust.float().mean()),
    "largest": float(sizes.max()),
    "median": float(needed.median()),
  }


def _versions() -> dict[str, str]:
  names = ("torch", "foolbox", "numpy")
  return {name: importlib.metadata.version(name) for name in names}


def main(folder: pathlib.Path) -> None:
  """Answer requests until the input ends."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  with np.load(folder / "network.npz") as file:
    arrays = dict(file)
  model = network(arrays)
  images = torch.from_numpy(arrays["images"].transpose(0, 3, 1, 2).copy())
  labels = torch.from_numpy(arrays["labels"].astype(np.int64))
  answers = sys.stdout

  def answer(value: Any) -> None:
    print(json.dumps(value), file=answers, flush=True)

  # The first answer: logits of the test images, for the other side to compare.
  answer({"logits": model(images).tolist(), "versions": _versions()})
  with contextlib.redirect_stdout(sys.stderr):
    for line in sys.stdin:
      request = json.loads(line)
      case = cases.Case(**request["case"])
      x, y = images[: case.n], labels[: case.n]
      seconds = 0.0
      if "changed" in request:
        changed = torch.from_numpy(np.load(request["changed"]))
        changed = changed.permute(0, 3, 1, 2)
      else:
        start = time.perf_counter()
        changed = attack(model, case, request["seed"], x, y)
        seconds = time.perf_counter() - start
      answer(judge(model, x, y, changed, case.norm) | {"seconds": seconds})


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
