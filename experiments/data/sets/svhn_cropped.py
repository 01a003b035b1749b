"""SVHN, cropped to 32 x 32."""

from experiments.data.prepared import jpeg_caveat, register
from experiments.data.registry import Preparation

_READER = "datasets.svhn_cropped.svhn_cropped_dataset_builder"

register("svhn_cropped", Preparation(readers=(_READER,)), caveat=jpeg_caveat)
