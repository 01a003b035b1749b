"""The security class of each scheme: the one place that other code reads.

The docstring of each factory says the same under *Class*, with what holds and
what breaks; a test compares them.

- *cryptographic*: secure under standard assumptions, for confidentiality;
- *obfuscation*: a cost, not a barrier;
- *access control by degradation*: worse without the key, and a thief who works
  on it gets the function back;
- *none*: nothing is protected.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from keyjax.schemes import deep_lock

CRYPTOGRAPHIC = "cryptographic"
OBFUSCATION = "obfuscation"
DEGRADATION = "access control by degradation"
NONE = "none"
UNCLASSIFIED = "unclassified"

_CLASSES = {
  "identity": NONE,
  "adv_params": DEGRADATION,
  "hpnn": DEGRADATION,
  "keyed_noise": DEGRADATION,
  "patch_embedding": DEGRADATION,
  "pixel_shuffle": DEGRADATION,
  "shf": DEGRADATION,
  "np": DEGRADATION,
  "ffx": DEGRADATION,
}
_SCHEDULES = {"chain": OBFUSCATION, "counter": CRYPTOGRAPHIC}
_PUBLISHED = inspect.signature(deep_lock.deep_lock).parameters["schedule"]


def security_class(name: str, options: Mapping[str, Any]) -> str:
  """Returns the class of a scheme.

  Args:
    name: of the scheme's factory, or the kind of a pixel shuffle.
    options: arguments of the factory.

  Returns:
    The class; "unclassified" for a scheme that the library does not know.

  Example:
    >>> security_class("deep_lock", {"schedule": "counter"})
    'cryptographic'
    >>> security_class("deep_lock", {})
    'obfuscation'
  """
  if name == deep_lock.NAME:
    schedule = options.get("schedule", _PUBLISHED.default)
    return _SCHEDULES.get(str(schedule), UNCLASSIFIED)
  return _CLASSES.get(name, UNCLASSIFIED)
