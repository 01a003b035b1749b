"""The models: linen modules whose layers a lock can find by path.

Every image model takes `float32[b, h, w, c]` pixels in [0, 1] and normalises
them itself, so that a key shuffles raw pixels. A language model takes tokens.
A U-Net returns logits of each pixel, a detector a `keyjax.tasks.boxes.Grid`.
The output of every `Conv` and `Dense` is a pre-activation or a projection;
normalisation and activations follow it. The last `Dense` is called `head`. The
sum at the end of a residual block of a ResNet is a module (`sum`), so that it
can be locked too. A family of models is one file, which registers its names.

  >>> import jax, jax.numpy as jnp
  >>> model = create("cnn", num_classes=10, mean=(0.5,), std=(0.25,))
  >>> x = jnp.zeros((2, 28, 28, 1))
  >>> variables = model.init(jax.random.key(0), x)
  >>> sorted(variables["params"])
  ['conv_0', 'conv_1', 'dense', 'head']
  >>> model.apply(variables, x).shape
  (2, 10)
"""

from experiments.models.base import Classifier
from experiments.models.convnets import CNN, MLP, VGG
from experiments.models.detector import Detector
from experiments.models.llama import Llama
from experiments.models.llama_layout import options_of
from experiments.models.lm import LanguageModel
from experiments.models.mixer import Mixer
from experiments.models.registry import (
  create,
  from_config,
  image_names,
  names,
  names_for,
  text_names,
)
from experiments.models.resnet import Block, ResNet
from experiments.models.unet import UNet
from experiments.models.vit import ViT

__all__ = [
  "CNN",
  "MLP",
  "VGG",
  "Block",
  "Classifier",
  "Detector",
  "LanguageModel",
  "Llama",
  "Mixer",
  "ResNet",
  "UNet",
  "ViT",
  "create",
  "from_config",
  "image_names",
  "names",
  "options_of",
  "names_for",
  "text_names",
]
