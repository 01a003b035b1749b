"""What papers report, where the data set and the scheme are ours.

Only figures of an abstract, or of the authors' own logs: the full text of some
papers was not at hand, and no figure of Deep-Lock's (arXiv 2008.05966). Their
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
  """One report.

  Attributes:
    mechanism: a name of `experiments.protection.lock.names()`; "" for plain.
    datasets: of the report.
    said: the figures, in percent or points.
    source: who says so.
    model: the network, as `experiments.models` names it; "" where the report
      does not say which network a figure is of.
    options: what the scheme's options must be, by default are, for the figures
      to compare.
  """

  mechanism: str
  datasets: tuple[str, ...]
  said: str
  source: str
  model: str = ""
  options: Mapping[str, Any] = {}


_M4 = {"block_size": 4}
_LOGS = "MaungMaung and Kiya's logs"

REPORTS = (
  Published(
    *("", ("cifar10",), "95.45 (log: 95.43)", "arXiv 2010.00801", "resnet18")
  ),
  Published(
    *("shf", ("cifar10",), "right key 92.56 (92.61)", _LOGS, "resnet18", _M4)
  ),
  Published(
    *("np", ("cifar10",), "right key 93.41 (93.25)", _LOGS, "resnet18", _M4)
  ),
  Published(
    "ffx",
    ("cifar10",),
    "right key 92.30 (logs: 92.27, 92.62)",
    "arXiv 2010.00801",
    "resnet18",
    _M4,
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
  """Returns what papers say of a row's scheme on its data set, or nothing.

  Args:
    row: with `mechanism`, `dataset`, `model` and `options`.

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
      return f"{found.said} ({found.source}{other})"
  return ""
