"""The experiments: data, models, train, lock, evaluate, attack, report."""

import importlib.util

if importlib.util.find_spec("ml_collections") is None:
  raise ImportError(
    "experiments need more than the library: run `make install`, or "
    "pip install -e '.[experiments]' in the checkout"
  )
