"""CIFAR-10."""

from experiments.data.prepared import jpeg_caveat, register
from experiments.data.registry import Preparation

# Statistics of the published experiments (AprilPyone's recipe).
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2471, 0.2435, 0.2616)

register(
  "cifar10",
  Preparation(readers=("image_classification.cifar",)),
  caveat=jpeg_caveat,
  statistics=(MEAN, STD),
)
