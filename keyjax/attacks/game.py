"""Security games: a stated attacker, a budget, claims, and a referee.

    attack:  (view, budget, **setting) -> claims

An attack is a pure function. It sees a `View`, made from what the `Attacker` is
said to hold and from nothing else (`keyjax.attacks.views`), and puts forward
claims as it goes: a key, weights, a model, a guess, a forgery. It never sees
the truth. The referee does (`keyjax.attacks.referee`): it scores every claim
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
import numpy as np

from keyjax.scheme import ApplyFn, Key, PyTree, Scheme


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
    knows_scheme: The scheme and its public arguments.
    has_locked: The stolen file.
    images: How many labelled training images.
    ciphertexts: How many transformed images he overheard on their way to an
      input-keyed model, without labels; none of them is among `images`.
    schedule: Which key bit each neuron of HPNN meets: the device's private map.
    has_key: The key itself: an authorised user, and no thief.
    queries: How many inputs the authorised model answers with logits.
    known_weights: How many consecutive plain weights of `known_leaf`, at a
      place in it that is not told.
    known_leaf: The path of that leaf; empty for the largest locked one.
    has_base: The public model that the target was fine-tuned from.
    copies: How many other files that the same secret locked.
    licensees: How many files of the same weights that other secrets locked.
    victims: How many test images he is to change so that the authorised model
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
    """Return whether this attacker has all that `needs` lists.

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
    steps: Of optimisation or search.
    points: How many claims to make on the way, for the curve.
    seed: Of the attacker's generators; it guards no secret.
  """

  steps: int = 1000
  points: int = 8
  seed: int = 0

  def marks(self) -> list[int]:
    """Return the steps after which to claim, evenly on a log scale.

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
    value: A key, a tree of weights, a `Model`, whether the file is genuine, a
      `Forgery` or an `Adversarial`, as the goal asks; None when the attack has
      nothing.
    cost: Spent so far.
    details: Numbers and words for the row.
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
    epsilon: The radius of the L-infinity ball, in units of pixel values.
  """

  image: np.ndarray
  epsilon: float


class Examples(NamedTuple):
  """Labelled images: float32[n, h, w, c] in [0, 1] and int32[n]."""

  image: np.ndarray
  label: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
  """A locked model and all that its owner knows.

  Attributes:
    name: The scheme's name, by which attacks say what they apply to.
    scheme: The scheme.
    key: Its key.
    params: The plain params.
    locked: What is shipped.
    apply_fn: `apply_fn(variables, images, **kwargs)`, the plain pass of a
      linen model over what `floats` returns.
    init: Makes fresh params of the model from a JAX rng.
    train: The owner's training data; a thief has some of it.
    test: What models are judged on.
    options: The scheme's public arguments.
    base: The public model that this one was fine-tuned from, if any.
    copies: Other files that the same secret locked.
    licensed: Files of the same params that other secrets locked.
    victims: What an `Adversarial` is about; the referee sets it for a game.
    genuine: False for a decoy of random words, which nothing was locked in.
    floats: Turns opened or stolen params into those of `apply_fn`, as
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
    """Return the model as someone with the key runs it."""
    opened = self.floats(self.scheme.decrypt(self.key, self.locked))
    return Model((self.key, opened), keyed(self.scheme, self.apply_fn))


@functools.lru_cache(maxsize=64)
def keyed(scheme: Scheme, apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass over (key, params): no key becomes a compiled constant."""

  def forward(pair: tuple[Key, PyTree], images: jax.Array) -> jax.Array:
    key, params = pair
    return scheme.bind(key, apply_fn)(params, images)

  return forward


# One compilation for each forward pass, and not for each claim.
compiled = functools.lru_cache(maxsize=16)(jax.jit)


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
    name: What rows call it.
    goal: What it is after.
    run: `run(view, budget, **setting) -> claims`.
    schemes: Names of the schemes that it applies to; see `registry.ANY`.
    needs: The least that its attacker holds.
    grid: The settings that `sweep` tries.
    referee: Scores its claims; by default the goal's.
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
