r"""HPNN on a character transformer: attention and feed-forward under the key.

    python -m experiments.main --config=configs/shakespeare_hpnn.py \
      --workdir=runs/shakespeare_hpnn

Any text will do: --config.dataset=text --config.text=FILE.
"""

from ml_collections import ConfigDict

from experiments.config import scheme, set_schemes, shakespeare


def get_config() -> ConfigDict:
  """Returns the config."""
  config = shakespeare("shakespeare_hpnn")
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    hpnn_mlp=scheme(
      "hpnn", "HPNN, feed-forward layers alone", layers=".*/mlp_in"
    ),
  )
  return config
