r"""Deep-Lock on a character transformer: published and hardened.

    python -m experiments.main --config=configs/shakespeare_deep_lock.py \
      --workdir=runs/shakespeare_deep_lock

2 cores of a busy Xeon, 20 minutes (3.8 of processor time),
2026-11-22. Accuracy in percent and perplexity of the next character, 111,488 of
them; wrong keys: 64, on 6,400 characters, smallest perplexity in brackets.
plain 44.15, 6.53; Deep-Lock, float32: right key 44.15, 6.53, NaN without it;
int8: right key 44.15, 6.53, none 1.4, 262, wrong keys 1.7, 302 (154); AES-256
counter mode, int8: right key 44.15, 6.53, none 1.1, 270, wrong keys 1.5, 304
(143).

For any other text: --config.dataset=text --config.text=FILE.
"""

from ml_collections import ConfigDict

from experiments.run.config import deep_lock_forms, set_schemes, shakespeare


def get_config() -> ConfigDict:
  """Return the config."""
  config = shakespeare("shakespeare_deep_lock")
  set_schemes(config, **deep_lock_forms())
  return config
