"""Known schemes, by the names that configs, attacks and cards use.

A scheme registers itself in the file that defines it, outside this package as
well as in it:

    registry.register("my_scheme", my_scheme, security_class=DEGRADATION)

It can then be named in a config, is met by every attack on any scheme, and has
rows and a place in the report. What depends on a key (near keys, the size of
the key space) is asked of the key: see `keyjax.keys.Key`.

Security classes:

- *cryptographic*: secure under standard assumptions, for confidentiality;
- *obfuscation*: a cost, not a barrier;
- *access control by degradation*: worse without the key, and an attacker who
  works on the model recovers its function;
- *detection only*: a copy can be traced, and nothing is protected;
- *none*: nothing is protected.
"""

import enum
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from keyjax import schemes
from keyjax.scheme import Scheme

CRYPTOGRAPHIC = "cryptographic"
OBFUSCATION = "obfuscation"
DEGRADATION = "access control by degradation"
DETECTION = "detection only"
NONE = "none"
UNCLASSIFIED = "unclassified"

Options = Mapping[str, Any]
SecurityClass = str | Callable[[Options], str]
MODEL_ARGUMENTS = ("apply_fn", "loss_fn")


class KeySource(enum.Enum):
  """What `keygen` makes a key from, apart from a batch of inputs."""

  NOTHING = enum.auto()  # The scheme has no key.
  SECRET = enum.auto()  # A secret and the shapes of the params.
  PARAMS = enum.auto()  # The values of trained params as well.


class Entry(NamedTuple):
  """A registered scheme.

  Attributes:
    name: Name in configs and results.
    factory: Function of options that returns the scheme. Parameters called
      `apply_fn` and `loss_fn` are no options: the model supplies them.
    security_class: Security class, or a function from options to it.
    known_break: Best known break in words, or a function from options to it;
      empty if no break is known, None if the scheme does not say.
    key_source: What the key is made from.
    check: For `KeySource.PARAMS`, `check(params, **options)`: raises a
      ValueError if no key can be made for params of these shapes.
    locks_int8: Whether it encrypts int8 leaves, so that models can be
      quantized first.
    private_options: Options that an attacker who knows the scheme is not told.
    trains: Whether a model trains under the key that the scheme binds to its
      pass, or a function from options to it.
    picture: What a report shows: `inputs` before and after the key, `weights`
      before and after encryption, or nothing.
  """

  name: str
  factory: Callable[..., Scheme]
  security_class: SecurityClass = UNCLASSIFIED
  known_break: str | Callable[[Options], str | None] | None = None
  key_source: KeySource = KeySource.SECRET
  check: Callable[..., None] | None = None
  locks_int8: bool = False
  private_options: tuple[str, ...] = ()
  trains: bool | Callable[[Options], bool] = True
  picture: Literal["inputs", "weights", ""] = ""

  def defaults(self) -> dict[str, Any]:
    """Return the options of the factory that have a default."""
    parameters = inspect.signature(self.factory).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


_ENTRIES: dict[str, Entry] = {}
_CLASSES: dict[str, SecurityClass] = {}


def register(
  name: str,
  factory: Callable[..., Scheme],
  *,
  security_class: SecurityClass = UNCLASSIFIED,
  **declared: Any,
) -> None:
  """Register a scheme.

  Args:
    name: Name in configs and results.
    factory: Function of options that returns the scheme; see `Entry`.
    security_class: Security class, or a function from options to it.
    **declared: Other fields of `Entry`.

  Raises:
    ValueError: If the name is taken.
  """
  home = getattr(factory, "__module__", None) or ""
  if not home.startswith(f"{schemes.__name__}."):
    schemes.load()  # Their names are taken, even if nothing has used them yet.
  if name in _ENTRIES or name in _CLASSES or name == "chain":
    raise ValueError(f"a scheme {name!r} is registered already")
  _ENTRIES[name] = Entry(name, factory, security_class, **declared)
  classify(name, security_class)


def unregister(name: str) -> None:
  """Remove a scheme, for a notebook or test that registers it again."""
  del _ENTRIES[name], _CLASSES[name]


def classify(name: str, security_class: SecurityClass) -> None:
  """State the class of a mechanism that is not a scheme with its own name.

  Raises:
    ValueError: If it has another class already.
  """
  if _CLASSES.setdefault(name, security_class) != security_class:
    raise ValueError(f"{name!r} has a security class already")


def names() -> list[str]:
  """Return the names of all registered schemes, sorted."""
  schemes.load()
  return sorted(_ENTRIES)


def find(name: str) -> Entry | None:
  """Return a scheme's entry, or None for an unknown name."""
  schemes.load()
  return _ENTRIES.get(name)


def get(name: str) -> Entry:
  """Return a scheme's entry.

  Raises:
    ValueError: If there is none; the message lists the known names.
  """
  entry = find(name)
  if entry is None:
    raise ValueError(
      f"unknown scheme {name!r}; known: {', '.join(names())}, chain"
    )
  return entry


def build(name: str, options: Options, **model: Callable[..., Any]) -> Scheme:
  """Build a scheme for a model.

  Args:
    name: Name of the scheme.
    options: Arguments of its factory.
    **model: `apply_fn` and `loss_fn` of the model, for factories that take
      them: `apply_fn(params, images) -> logits` and
      `loss_fn(params, batch) -> float32[]`.

  Raises:
    ValueError: If the scheme or an option is unknown.

  Example:
    >>> scheme = build("deep_lock", {"schedule": "counter"})
    >>> build("deep_lock", {"rounds": 3})
    Traceback (most recent call last):
    ...
    ValueError: deep_lock: unknown argument rounds; known: key_bits, nonce, \
schedule, shardings
  """
  factory = get(name).factory
  parameters = set(inspect.signature(factory).parameters)
  known = parameters.difference(MODEL_ARGUMENTS)
  unknown = sorted(set(options) - known)
  if unknown:
    raise ValueError(
      f"{name}: unknown argument {', '.join(unknown)}; "
      f"known: {', '.join(sorted(known))}"
    )
  from_model = {k: v for k, v in model.items() if k in parameters}
  missing = parameters.intersection(MODEL_ARGUMENTS) - set(from_model)
  if missing:
    raise ValueError(f"{name} needs {', '.join(sorted(missing))} of a model")
  return factory(**from_model, **options)


def security_class(name: str, options: Options) -> str:
  """Return the security class of a scheme.

  Args:
    name: Name of the scheme.
    options: Arguments of its factory.

  Returns:
    The class; "unclassified" for an unknown scheme.

  Example:
    >>> security_class("deep_lock", {"schedule": "counter"})
    'cryptographic'
    >>> security_class("deep_lock", {})
    'obfuscation'
  """
  schemes.load()
  found = _CLASSES.get(name, UNCLASSIFIED)
  return found if isinstance(found, str) else found(options)


def known_break(name: str, options: Options) -> str | None:
  """Return the best known break of a scheme; empty if none is known.

  Args:
    name: Name of the scheme.
    options: Arguments of its factory.

  Returns:
    The break in words; None for a scheme that does not say.
  """
  entry = find(name)
  if entry is None or entry.known_break is None:
    return None
  found = entry.known_break
  return found if isinstance(found, str) else found(options)


def trains(name: str, options: Options) -> bool:
  """Return whether a model trains under a key that the scheme binds.

  Args:
    name: Name of the scheme.
    options: Arguments of its factory.

  Example:
    >>> trains("hpnn", {}), trains("hpnn", {"after_training": True})
    (True, False)
  """
  found = get(name).trains
  return found if isinstance(found, bool) else found(options)


def parts(name: str, options: Options) -> list[tuple[str, dict[str, Any]]]:
  """Return the names and options of a chain's parts, or of the scheme itself.

  Raises:
    ValueError: If the options of a chain do not list its parts.
  """
  if name != "chain":
    return [(name, dict(options))]
  try:
    return [p for n, o in options["parts"] for p in parts(n, o)]
  except (KeyError, TypeError, ValueError):
    raise ValueError("the options of a chain do not list its parts") from None


def is_known(name: str) -> bool:
  """Return whether the security class of a mechanism is registered.

  Example:
    >>> is_known("deep_lock"), is_known("of_another_package")
    (True, False)
  """
  schemes.load()
  return name in _CLASSES


def public_options(name: str, options: Options) -> dict[str, Any]:
  """Return the options that an attacker who knows the scheme is told.

  Args:
    name: Name of the scheme.
    options: Arguments of its factory, as the owner gave them.

  Returns:
    All options with their values, defaults included, except private ones; for
    an unknown scheme the given ones.
  """
  entry = find(name)
  if entry is None:
    return dict(options)
  every = entry.defaults() | dict(options)
  return {k: v for k, v in every.items() if k not in entry.private_options}
