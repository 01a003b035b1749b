"""Security games: a stated attacker, a budget, claims, and a referee.

    attack:  (view, budget, **setting) -> claims

An attack is a pure function. It sees a `View`, which `view` makes from what
the `Attacker` is said to hold and from nothing else, and puts forward claims
as it goes: a key, weights, a model, a guess, a forgery. It never sees the
truth. The referee does (`keyjax.attacks.referee`): it scores every claim
against the `Target`, so that a result is a curve of score against cost and not
a point.

Scores are shares from 0 to 1 with a 95 % interval. Their meaning is the
goal's:

    key          share of the key's array elements that are right
    weights      share of the locked weights that are right bit for bit
    function     test accuracy
    distinguish  1 when a file and a decoy were told apart; half is chance
    forge        1 when the owner's key opens the forgery to what was claimed
    transfer     share of the victims, told right by the authorised model, that
                 it tells wrong once they are changed

Attack settings are swept, and the best is reported (`referee.sweep`): a lock
is worth what its strongest attacker leaves of it.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tree
from keyjax.scheme import ApplyFn, Key, PyTree, Scheme
from keyjax.schemes import hpnn, pixel_shuffle


class Goal(enum.StrEnum):
  """What an attacker is after; see the module's text for the scores."""

  KEY = "key"
  WEIGHTS = "weights"
  FUNCTION = "function"
  DISTINGUISH = "distinguish"
  FORGE = "forge"
  TRANSFER = "transfer"


# Whose scores are shares of test images, `images` of them.
OVER_IMAGES = (Goal.FUNCTION, Goal.TRANSFER)


@dataclasses.dataclass(frozen=True)
class Attacker:
  """What an attacker knows and holds.

  Attributes:
    knows_scheme: the scheme and its public arguments.
    has_locked: the stolen file.
    images: how many labelled training images.
    ciphertexts: how many transformed images he overheard on their way to an
      input-keyed model, without labels; none of them is among `images`.
    schedule: which key bit each neuron of HPNN meets: the device's private map.
    has_key: the key itself: an authorised user, and no thief.
    queries: how many inputs the authorised model answers with logits.
    known_weights: how many consecutive plain weights of `known_leaf`, at a
      place in it that is not told.
    known_leaf: the path of that leaf; empty for the largest locked one.
    has_base: the public model that the target was fine-tuned from.
    copies: how many other files that the same secret locked.
    licensees: how many files of the same weights that other secrets locked.
    victims: how many test images he is to change so that the authorised model
      errs; he sees them and their labels.
  """

  knows_scheme: bool = True
  has_locked: bool = True
  images: int = 0
  ciphertexts: int = 0
  schedule: bool = False
  has_key: bool = False
  queries: int = 0
  known_weights: int = 0
  known_leaf: str = ""
  has_base: bool = False
  copies: int = 0
  licensees: int = 0
  victims: int = 0

  def covers(self, needs: "Attacker") -> bool:
    """Tells whether this attacker has all that `needs` lists.

    Example:
      >>> Attacker(images=100).covers(Attacker(images=1))
      True
    """
    return all(
      mine >= theirs
      for mine, theirs in zip(
        dataclasses.astuple(self), dataclasses.astuple(needs), strict=True
      )
    )


@dataclasses.dataclass(frozen=True)
class Budget:
  """What an attacker may spend, and where his random numbers start.

  Attributes:
    steps: of optimisation or search.
    points: how many claims to make on the way, for the curve.
    seed: of the attacker's generators; it guards no secret.
  """

  steps: int = 1000
  points: int = 8
  seed: int = 0

  def marks(self) -> list[int]:
    """Returns the steps after which to claim, evenly on a log scale.

    Example:
      >>> Budget(steps=100, points=4).marks()
      [1, 5, 22, 100]
    """
    found = np.geomspace(1, max(self.steps, 1), self.points)
    return sorted(set(found.round().astype(int).tolist()))


class Cost(NamedTuple):
  """What was spent up to a claim; the referee measures both times.

  Processor seconds are those of all threads, and hold on a busy machine.
  """

  steps: int = 0
  queries: int = 0
  flops: float = 0.0
  seconds: float = 0.0
  cpu_seconds: float = 0.0


class Claim(NamedTuple):
  """What an attack puts forward.

  Attributes:
    value: a key, a tree of weights, a `Model`, whether the file is genuine, a
      `Forgery` or an `Adversarial`, as the goal asks; None when the attack has
      nothing.
    cost: spent so far.
    details: numbers and words for the row.
  """

  value: Any
  cost: Cost = Cost()
  details: Mapping[str, Any] = {}


class Model(NamedTuple):
  """A claimed model: `apply_fn(params, images) -> logits`."""

  params: PyTree
  apply_fn: ApplyFn


class Forgery(NamedTuple):
  """A changed file, and what it is claimed to do to the plain weights."""

  locked: PyTree
  edit: Callable[[PyTree], PyTree]


class Adversarial(NamedTuple):
  """The victims, changed by at most epsilon in any pixel.

  Attributes:
    image: float32[n, h, w, c] in [0, 1], in the order of `View.victims`.
    epsilon: the radius of the L-infinity ball, in units of pixel values.
  """

  image: np.ndarray
  epsilon: float


class Examples(NamedTuple):
  """Labelled images: float32[n, h, w, c] in [0, 1] and int32[n]."""

  image: np.ndarray
  label: np.ndarray


class Schedule(NamedTuple):
  """HPNN's map from neurons to key bits, without the bits.

  Attributes:
    units: for each locked module its neurons' units, int32[features].
    size: how many units, and key bits, there are.
  """

  units: Mapping[str, np.ndarray]
  size: int


class Leak(NamedTuple):
  """Consecutive plain weights of a leaf, at a place that is not told."""

  path: str
  values: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
  """A locked model and all that its owner knows.

  Attributes:
    name: the scheme's name, by which attacks say what they apply to.
    scheme: the scheme.
    key: its key.
    params: the plain params.
    locked: what is shipped.
    apply_fn: `apply_fn(variables, images, **kwargs)`, the plain pass of a
      linen model over what `floats` returns.
    init: makes fresh params of the model from a JAX rng.
    train: the owner's training data; a thief has some of it.
    test: what models are judged on.
    options: the scheme's public arguments.
    base: the public model that this one was fine-tuned from, if any.
    copies: other files that the same secret locked.
    licensed: files of the same params that other secrets locked.
    victims: what an `Adversarial` is about; the referee sets it for a game.
    genuine: False for a decoy of random words, which nothing was locked in.
    floats: turns opened or stolen params into those of `apply_fn`, as
      dequantisation does.
  """

  name: str
  scheme: Scheme
  key: Key
  params: PyTree
  locked: PyTree
  apply_fn: ApplyFn
  init: Callable[[jax.Array], PyTree]
  train: Examples
  test: Examples
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base: PyTree = None
  copies: Sequence[PyTree] = ()
  licensed: Sequence[PyTree] = ()
  victims: Examples | None = None
  genuine: bool = True
  floats: Callable[[PyTree], PyTree] = lambda params: params

  def authorized(self) -> Model:
    """Returns the model as someone with the key runs it."""
    opened = self.floats(self.scheme.decrypt(self.key, self.locked))
    return Model((self.key, opened), keyed(self.scheme, self.apply_fn))


@functools.lru_cache(maxsize=64)
def keyed(scheme: Scheme, apply_fn: ApplyFn) -> ApplyFn:
  """Returns a pass over (key, params): no key becomes a compiled constant."""

  def forward(pair: tuple[Key, PyTree], images: jax.Array) -> jax.Array:
    key, params = pair
    return scheme.bind(key, apply_fn)(params, images)

  return forward


class Oracle:
  """The authorised model behind a door that counts."""

  def __init__(self, model: Model, allowed: int):
    self._model, self.left, self.used = model, allowed, 0
    self._forward = jax.jit(model.apply_fn)

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Returns logits of images in [0, 1].

    Raises:
      ValueError: more images than queries are left.
    """
    if len(images) > self.left:
      raise ValueError(f"{len(images)} queries, but {self.left} are left")
    self.left, self.used = self.left - len(images), self.used + len(images)
    return np.asarray(self._forward(self._model.params, jnp.asarray(images)))


@dataclasses.dataclass(frozen=True, eq=False)
class View:
  """What an attacker has; whatever `Attacker` does not grant is None.

  Attributes:
    attacker: what was granted.
    apply_fn: the plain forward pass: architectures are public.
    init: makes fresh params.
    like: shapes and dtypes of the plain params.
    floats: see `Target`.
    scheme: the scheme's functions, without any key.
    name: the scheme's name.
    options: the scheme's public arguments.
    locked: the stolen file.
    data: labelled images.
    ciphertexts: transformed images, float32[n, h, w, c].
    schedule: HPNN's map from neurons to key bits.
    key: the key, of an authorised user.
    oracle: the authorised model.
    leak: some plain weights.
    base: the public base model.
    copies: other files under the same secret.
    licensed: files of the same weights under other secrets.
    victims: the test images to change.
  """

  attacker: Attacker
  apply_fn: ApplyFn
  init: Callable[[jax.Array], PyTree]
  like: PyTree
  floats: Callable[[PyTree], PyTree]
  scheme: Scheme | None
  name: str
  options: Mapping[str, Any]
  locked: PyTree
  data: Examples
  ciphertexts: np.ndarray | None
  schedule: Schedule | None
  key: Key
  oracle: Oracle | None
  leak: Leak | None
  base: PyTree
  copies: Sequence[PyTree]
  licensed: Sequence[PyTree]
  victims: Examples | None

  def stolen(self) -> PyTree:
    """Returns the file as a thief would run it: ciphertext as floats."""
    return self.floats(tree.as_floats(self.locked, self.like))

  def opened(self) -> PyTree:
    """Returns the file as an authorised user runs it."""
    assert self.scheme is not None
    return self.floats(self.scheme.decrypt(self.key, self.locked))


def view(target: Target, attacker: Attacker, seed: int = 0) -> View:
  """Returns what an attacker sees of a target.

  Args:
    target: the locked model.
    attacker: what he holds.
    seed: which training images and which place of the leak he got.
  """
  rng = np.random.default_rng([seed, 0])
  order = rng.permutation(len(target.train.label))
  picked = order[: attacker.images]
  paths = locked_paths(target)
  return View(
    attacker=attacker,
    apply_fn=target.apply_fn,
    init=target.init,
    like=jax.eval_shape(lambda p: p, target.params),
    floats=target.floats,
    scheme=target.scheme if attacker.knows_scheme else None,
    name=target.name if attacker.knows_scheme else "",
    options=target.options if attacker.knows_scheme else {},
    locked=target.locked if attacker.has_locked else None,
    data=Examples(target.train.image[picked], target.train.label[picked]),
    ciphertexts=_overheard(target, attacker, order[::-1]),
    schedule=_schedule(target) if attacker.schedule else None,
    key=target.key if attacker.has_key else None,
    oracle=Oracle(target.authorized(), attacker.queries)
    if attacker.queries
    else None,
    leak=_leak(target, attacker, paths, seed),
    base=target.base if attacker.has_base else None,
    copies=tuple(target.copies)[: attacker.copies],
    licensed=tuple(target.licensed)[: attacker.licensees],
    victims=Examples(*(x[: attacker.victims] for x in target.test))
    if attacker.victims
    else None,
  )


def locked_paths(target: Target) -> list[str]:
  """Returns the paths of the leaves that the lock changed, largest last."""
  paths, plain, _ = tree.flatten(target.params)
  locked = tree.flatten(target.locked)[1]
  changed = [
    (x.size, p)
    for p, x, y in zip(paths, plain, locked, strict=True)
    if tree.lockable(x) and not same_bits(x, y)
  ]
  return [path for _, path in sorted(changed)]


def _overheard(
  target: Target, attacker: Attacker, order: np.ndarray
) -> np.ndarray | None:
  if not attacker.ciphertexts:
    return None
  if not isinstance(target.key, pixel_shuffle.PixelKey):
    raise ValueError(f"ciphertexts: {target.name} transforms no images")
  if attacker.images + attacker.ciphertexts > len(order):
    raise ValueError(
      f"{attacker.images} images and {attacker.ciphertexts} ciphertexts of "
      f"others, but there are {len(order)} training images"
    )
  images = jnp.asarray(target.train.image[order[: attacker.ciphertexts]])
  return np.asarray(pixel_shuffle.transform(target.key, images))


def _schedule(target: Target) -> Schedule:
  if not isinstance(target.key, hpnn.HpnnKey):
    raise ValueError(f"schedule: {target.name} has none")
  units = {path: np.array(unit) for path, unit in target.key.units.items()}
  return Schedule(units, target.key.bits.size)


def _leak(
  target: Target, attacker: Attacker, locked: list[str], seed: int
) -> Leak | None:
  if not attacker.known_weights or not (attacker.known_leaf or locked):
    return None
  path = attacker.known_leaf or locked[-1]
  paths, leaves, _ = tree.flatten(target.params)
  if path not in paths:
    raise ValueError(f"known_leaf={path!r}: the model has {', '.join(paths)}")
  flat = np.asarray(leaves[paths.index(path)]).reshape(-1)
  count = min(attacker.known_weights, flat.size)
  start = np.random.default_rng([seed, 1]).integers(flat.size - count + 1)
  return Leak(path, flat[start : start + count])


class Score(NamedTuple):
  """A share and its 95 % interval; `details` go to the row."""

  value: float
  low: float
  high: float
  details: Mapping[str, Any] = {}


Referee = Callable[[Any, Target], Score]
AttackFn = Callable[..., Iterator[Claim]]


@dataclasses.dataclass(frozen=True)
class Attack:
  """An attack and what it is for.

  Attributes:
    name: what rows call it.
    goal: what it is after.
    run: `run(view, budget, **setting) -> claims`.
    schemes: names of the schemes that it applies to; see `registry.ANY`.
    needs: the least that its attacker holds.
    grid: the settings that `sweep` tries.
    referee: scores its claims; by default the goal's.
    condition: `wrong` for attacks on the stolen file, `api` on a server,
      `right` for what an authorised user does with his key.
  """

  name: str
  goal: Goal
  run: AttackFn
  schemes: Sequence[str]
  needs: Attacker
  grid: Sequence[Mapping[str, Any]] = ({},)
  referee: Referee | None = None
  condition: str = "wrong"


def bits(x: Any) -> np.ndarray:
  """Returns a leaf's bit patterns on the host."""
  return np.asarray(tree.as_words(x) if tree.lockable(x) else x)


def same_bits(x: Any, y: Any) -> bool:
  """Tells whether two leaves have the same dtype and bit patterns."""
  a, b = bits(x), bits(y)
  return a.dtype == b.dtype and np.array_equal(a, b)
