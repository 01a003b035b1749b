"""Security games: a stated attacker, a budget, claims, and a referee.

    attack:  (view, budget, **setting) -> claims

An attack is a pure function. It sees a `View`, made only from what the
`Attacker` holds (`keyjax.attacks.views`), and makes claims as it runs: a key,
weights, a model, a guess, a forgery. It never sees the truth. The referee does
(`keyjax.attacks.referee`): it scores every claim against the `Target`, so that
a result is a curve of score against cost and not a point.

Scores are shares from 0 to 1 with a 95 % interval. Their meaning depends on the
goal:

    key          share of the key's array elements that are right
    weights      share of the locked weights that are right bit for bit
    function     the task's metric on the test data, such as accuracy
    distinguish  1 if a file and a decoy were told apart; half is chance
    forge        1 if the owner's key opens the forgery to what was claimed
    transfer     share of the victims, classified correctly by the authorised
                 model, that it misclassifies once they are changed

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

from keyjax import tasks
from keyjax.scheme import ApplyFn, Key, PyTree, Scheme
from keyjax.tasks import Task


class Goal(enum.StrEnum):
  """Goal of an attack; the module's docstring defines the scores."""

  KEY = "key"
  WEIGHTS = "weights"
  FUNCTION = "function"
  DISTINGUISH = "distinguish"
  FORGE = "forge"
  TRANSFER = "transfer"


# Goals whose scores are shares of test images, `images` of them.
OVER_IMAGES = (Goal.FUNCTION, Goal.TRANSFER)


@dataclasses.dataclass(frozen=True)
class Attacker:
  """What an attacker knows and holds.

  Attributes:
    knows_scheme: Whether they know the scheme and its public arguments.
    has_locked: Whether they hold the stolen file.
    images: Number of labelled training images.
    ciphertexts: Number of transformed images intercepted on their way to
      an input-keyed model, without labels; none of them is among `images`.
    schedule: Whether they know which key bit each neuron of HPNN meets: the
      device's private map.
    has_key: Whether they hold the key, as an authorised user does.
    queries: Number of inputs that the authorised model answers with logits.
    known_weights: Number of consecutive plain weights of `known_leaf`, at an
      unknown place in it.
    known_leaf: Path of that leaf; empty for the largest locked one.
    has_base: Whether they hold the public model that the target was fine-tuned
      from.
    copies: Number of other files that the same secret locked.
    licensees: Number of files of the same weights that other secrets locked.
    victims: Number of test images to change so that the authorised model
      misclassifies them; the attacker sees them and their labels.
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
    """Return whether this attacker holds everything that `needs` lists.

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
  """What an attacker may spend, and the seed of their random numbers.

  Attributes:
    steps: Steps of optimisation or search.
    points: Number of claims along the way, for the curve.
    seed: Seed of the attacker's generators; it guards no secret.
  """

  steps: int = 1000
  points: int = 8
  seed: int = 0

  def marks(self) -> list[int]:
    """Return the steps after which to claim, evenly on a log scale.

    The last step is always among them.

    Raises:
      ValueError: If `points` is below 1: nothing would be claimed.

    Example:
      >>> Budget(steps=100, points=4).marks()
      [1, 5, 22, 100]
      >>> Budget(steps=100, points=1).marks()
      [100]
    """
    if self.points < 1:
      raise ValueError(f"points={self.points}: at least 1")
    last = max(self.steps, 1)
    found = np.geomspace(1, last, self.points)
    found[-1] = last  # One point alone would be the first step.
    return sorted(set(found.round().astype(int).tolist()))


class Cost(NamedTuple):
  """Cost up to a claim; the referee measures both times.

  Processor seconds are those of all threads, and comparable on a busy machine.
  """

  steps: int = 0
  queries: int = 0
  flops: float = 0.0
  seconds: float = 0.0
  cpu_seconds: float = 0.0


class Claim(NamedTuple):
  """A claim of an attack.

  Attributes:
    value: A key, a tree of weights, a `Model`, whether the file is genuine, a
      `Forgery` or an `Adversarial`, depending on the goal; None if the attack
      found nothing.
    cost: Cost so far.
    details: Numbers and words for the row.
  """

  value: Any
  cost: Cost = Cost()
  details: Mapping[str, Any] = {}


class Model(NamedTuple):
  """A claimed model: `apply_fn(params, inputs) -> outputs`, mostly logits."""

  params: PyTree
  apply_fn: ApplyFn


class Forgery(NamedTuple):
  """A changed file, and its claimed effect on the plain weights."""

  locked: PyTree
  edit: Callable[[PyTree], PyTree]


class Adversarial(NamedTuple):
  """The victims, changed by at most epsilon in any pixel.

  Attributes:
    image: float32[n, h, w, c] in [0, 1], in the order of `View.victims`.
    epsilon: Radius of the L-infinity ball, in units of pixel values.
  """

  image: np.ndarray
  epsilon: float


class Examples(NamedTuple):
  """Labelled examples, pytrees of arrays [n, ...].

  Images are float32[n, h, w, c] in [0, 1], their classes int32[n]; other tasks
  have inputs and labels of their own.
  """

  image: Any
  label: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
  """A locked model and everything that its owner knows.

  Attributes:
    name: Name of the scheme, by which attacks state what they apply to.
    scheme: The scheme.
    key: Its key.
    params: Plain params.
    locked: Locked params, as they are shipped.
    apply_fn: `apply_fn(variables, images, **kwargs)`, the plain pass of a
      linen model over what `floats` returns.
    init: Function from a JAX rng to fresh params of the model.
    train: The owner's training data; an attacker may hold some of it.
    test: Data that models are judged on.
    task: What the model is asked to do, and the metric that judges it.
    options: Public arguments of the scheme.
    base: Public model that this one was fine-tuned from, if any.
    copies: Other files that the same secret locked.
    licensed: Files of the same params that other secrets locked.
    victims: Images of an `Adversarial`; the referee sets them for a game.
    genuine: False for a decoy of random words, in which nothing was locked.
    floats: Function from opened or stolen params to those of `apply_fn`, such
      as dequantisation.
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
  task: Task = tasks.CLASSES
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  base: PyTree = None
  copies: Sequence[PyTree] = ()
  licensed: Sequence[PyTree] = ()
  victims: Examples | None = None
  genuine: bool = True
  floats: Callable[[PyTree], PyTree] = lambda params: params

  def authorized(self) -> Model:
    """Return the model as a holder of the key runs it."""
    opened = self.floats(self.scheme.decrypt(self.key, self.locked))
    return Model((self.key, opened), keyed(self.scheme, self.apply_fn))


@functools.lru_cache(maxsize=64)
def keyed(scheme: Scheme, apply_fn: ApplyFn) -> ApplyFn:
  """Return a pass over (key, params), so that no key is a compiled constant."""

  def forward(pair: tuple[Key, PyTree], images: jax.Array) -> jax.Array:
    key, params = pair
    return scheme.bind(key, apply_fn)(params, images)

  return forward


class Score(NamedTuple):
  """A share and its 95 % interval; `details` go to the row.

  An interval without width is none: the share of one key or of one file that
  was found, which says nothing about other keys.
  """

  value: float
  low: float
  high: float
  details: Mapping[str, Any] = {}


Referee = Callable[[Any, Target], Score]
AttackFn = Callable[..., Iterator[Claim]]


@dataclasses.dataclass(frozen=True)
class Attack:
  """An attack and its properties.

  Attributes:
    name: Name in rows and configs.
    goal: Goal of the attack.
    run: `run(view, budget, **setting) -> claims`.
    schemes: Names of the schemes that it applies to; see `registry.ANY`.
    needs: The least that its attacker holds.
    grid: Settings that `sweep` tries.
    referee: Function that scores its claims; by default the goal's.
    condition: `wrong` for attacks on the stolen file, `api` on a server,
      `right` for those of an authorised user with their key.
    classes_only: Whether it needs one class for each example; otherwise it
      takes any task.
  """

  name: str
  goal: Goal
  run: AttackFn
  schemes: Sequence[str]
  needs: Attacker
  grid: Sequence[Mapping[str, Any]] = ({},)
  referee: Referee | None = None
  condition: str = "wrong"
  classes_only: bool = False
