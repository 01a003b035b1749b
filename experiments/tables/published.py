"""Figures that papers report for our schemes on our data sets.

Only figures from abstracts or from the authors' own logs: the full text of some
papers was not available, and no figure of Deep-Lock's (arXiv 2008.05966). Their
networks are named where they are known.

References:
  MaungMaung and Kiya, "Block-wise Image Transformation with Secret Key for
  Adversarially Robust Defense", IEEE TIFS 16, 2021, arXiv 2010.00801.
  MaungMaung and Kiya, logs in github.com/fugokidi/block_transform, seed 42
  (and 0).
  Xue et al., "AdvParams", IEEE TETC, 2022, arXiv 2105.13697.
  Chakraborty, Mondal and Srivastava, "Hardware-assisted intellectual property
  protection of deep learning models" (HPNN), DAC 2020, eprint 2020/1016.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
  """Figures that a paper reports.

  Attributes:
    mechanism: Name in `experiments.protection.lock.names()`; "" for plain.
    datasets: Data sets of the report.
    figures: Figures, in percent or points.
    source: Paper or logs.
    model: Network, as `experiments.models` names it; "" where the report does
      not say which network a figure is for.
    options: Options of the scheme for which the figures are comparable.
  """

  mechanism: str
  datasets: tuple[str, ...]
  figures: str
  source: str
  model: str = ""
  options: Mapping[str, Any] = {}


_M4 = {"block_size": 4}
_LOGS = "MaungMaung and Kiya's logs"

REPORTS = (
  Published(
    mechanism="",
    datasets=("cifar10",),
    figures="95.45 (log: 95.43)",
    source="arXiv 2010.00801",
    model="resnet18",
  ),
  Published(
    mechanism="shf",
    datasets=("cifar10",),
    figures="right key 92.56 (92.61)",
    source=_LOGS,
    model="resnet18",
    options=_M4,
  ),
  Published(
    mechanism="np",
    datasets=("cifar10",),
    figures="right key 93.41 (93.25)",
    source=_LOGS,
    model="resnet18",
    options=_M4,
  ),
  Published(
    mechanism="ffx",
    datasets=("cifar10",),
    figures="right key 92.30 (logs: 92.27, 92.62)",
    source="arXiv 2010.00801",
    model="resnet18",
    options=_M4,
  ),
  Published("adv_params", ("fashion_mnist",), "drop 80.65", "arXiv 2105.13697"),
  Published("adv_params", ("cifar10",), "drop 81.16", "arXiv 2105.13697"),
  Published("adv_params", ("gtsrb",), "drop 87.91", "arXiv 2105.13697"),
  Published(
    "hpnn",
    ("cifar10", "fashion_mnist", "svhn_cropped"),
    "drop 73.22 to 80.17 over its networks and data sets",
    "eprint 2020/1016",
  ),
)


def report(row: Mapping[str, Any]) -> str:
  """Return what papers report for a row's scheme and data set; may be empty.

  Args:
    row: Row with `mechanism`, `dataset`, `model` and `options`.

  Example:
    >>> row = {"mechanism": "adv_params", "dataset": "gtsrb", "model": "cnn"}
    >>> report(row | {"options": {}})
    'drop 87.91 (arXiv 2105.13697; another network)'
  """
  for found in REPORTS:
    same = (
      found.mechanism == row["mechanism"]
      and row["dataset"] in found.datasets
      and all(row["options"].get(k, v) == v for k, v in found.options.items())
    )
    if same:
      other = f"; {found.model or 'another network'}"
      other = "" if found.model == row["model"] else other
      return f"{found.figures} ({found.source}{other})"
  return ""
