r"""Published models, locked, with the key, without it, and with wrong keys.

    python -m experiments.pretrained --config=configs/pretrained.py \
      --workdir=runs/pretrained

Forty minutes on two busy CPU cores. The figures are in docs/published.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Return the config."""
  config = ConfigDict()
  config.name = "pretrained"
  config.subjects = ("embeddings", "faces", "text")
  config.locks = ("deep_lock", "deep_lock_int8", "keyed_noise", "hpnn")
  config.secrets = 3  # Each locks the model by itself.
  config.wrong_keys = 8

  config.embeddings = ConfigDict()
  config.embeddings.source = "package:minilm"
  config.embeddings.texts = 100  # At most: Python has fewer topics of help.
  config.embeddings.query_tokens = 16
  config.embeddings.text_tokens = 32
  # Is it the table of tokens, which keyed noise leaves, that still finds texts?
  config.embeddings.locks = (*config.locks, "keyed_noise_tables", "adv_params")

  config.faces = ConfigDict()
  config.faces.source = "package:mtcnn-"
  config.faces.scenes = 8
  config.faces.seed = 0
  config.faces.photos = ("astronaut.png", "camera.png", "coffee.png")
  config.faces.side = 256

  config.text = ConfigDict()
  config.text.source = "package:ppocr"
  config.text.pages = 8
  config.text.seed = 0
  config.text.photos = ("page.png",)
  config.text.side = 256
  config.lock()
  return config
