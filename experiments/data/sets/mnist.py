"""MNIST and Fashion-MNIST."""

from experiments.data.prepared import jpeg_caveat, register
from experiments.data.registry import Preparation

_PREPARATION = Preparation(readers=("image_classification.mnist",))

register("mnist", _PREPARATION, caveat=jpeg_caveat)
register("fashion_mnist", _PREPARATION, caveat=jpeg_caveat)
