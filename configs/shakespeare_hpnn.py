r"""HPNN on a character transformer: attention and feed-forward under the key.

    python -m experiments.main --config=configs/shakespeare_hpnn.py \
      --workdir=runs/shakespeare_hpnn

2 cores of a busy Xeon, 42 minutes (three models trained),
2026-11-22. Accuracy in percent and perplexity of the next character, 111,488 of
them; wrong keys: 64, on 6,400 characters, smallest perplexity in brackets.
plain 44.15, 6.53; HPNN, 256 key bits: right key 44.74, 6.41, none 9.7, 54.8,
wrong keys 3.9, 81.5 (47.7); feed-forward layers only: right key 44.43, 6.43,
none 8.5, 118.5, wrong keys 7.9, 97.1 (62.0).

For any other text: --config.dataset=text --config.text=FILE.
"""

from ml_collections import ConfigDict

from experiments.run.config import scheme, set_schemes, shakespeare


def get_config() -> ConfigDict:
  """Return the config."""
  config = shakespeare("shakespeare_hpnn")
  set_schemes(
    config,
    hpnn=scheme("hpnn", "HPNN, 256 key bits"),
    hpnn_mlp=scheme(
      "hpnn", "HPNN, feed-forward layers alone", layers=".*/mlp_in"
    ),
  )
  return config
