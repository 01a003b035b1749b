"""A stolen HPNN model: a known network with unknown signs.

Where the attacker was granted the schedule (`Attacker.schedule`) the unknowns
are the key bits; otherwise there is one for each neuron, and what is recovered
is the schedule's effect.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import device_rows
from keyjax.attacks.game import Model
from keyjax.attacks.views import View
from keyjax.interception import intercept
from keyjax.scheme import ApplyFn, PyTree
from keyjax.schemes import hpnn_choice, hpnn_lock, hpnn_sites
from keyjax.schemes.hpnn import HpnnKey
from keyjax.tasks.task import Loss

Units = dict[str, jax.Array]


class Problem(NamedTuple):
  """A stolen model and its unknown signs.

  Attributes:
    apply_fn: Plain forward pass.
    params: Stolen weights.
    units: Path of each locked module -> its neurons' unknowns, int32[features].
    size: Number of unknowns.
    free: Unknowns that some neuron has, last layer first.
  """

  apply_fn: ApplyFn
  params: PyTree
  units: Units
  size: int
  free: np.ndarray


def pose(view: View) -> Problem:
  """List the unknowns of a stolen model; all `device_rows.workers` get weights.

  Args:
    view: The file and the scheme, and the schedule if it was granted.
      `options` may hold `layers`, as for `hpnn`.
  """
  x = jax.tree.map(
    lambda a: jnp.zeros((1, *a.shape[1:]), a.dtype), view.data.image
  )
  units: Units = {}
  if view.schedule is None:
    start = 0
    layers = view.options.get("layers")
    chosen = hpnn_choice.choose(view.apply_fn, view.like, x, layers)
    for site in chosen.sites:
      units[site.path] = jnp.arange(start, start + site.features)
      start += site.features
    size = start
  else:
    known = view.schedule.units
    sites = hpnn_sites.find_sites(view.apply_fn, view.like, x)
    units = {
      s.path: jnp.asarray(known[s.path]) for s in sites if s.path in known
    }
    size = view.schedule.size
  backwards = np.concatenate([np.asarray(u) for u in reversed(units.values())])
  _, first = np.unique(backwards, return_index=True)
  free = backwards[np.sort(first)]
  mesh = device_rows.over(device_rows.workers())
  params = device_rows.copy_to(mesh, view.stolen())
  return Problem(view.apply_fn, params, units, size, free)


def forward(
  apply_fn: ApplyFn, params: PyTree, units: Units, values: jax.Array, x: Any
) -> jax.Array:
  """Return the logits under signs that need not be +1 or -1.

  Args:
    apply_fn: Plain pass of a linen model.
    params: Its variables.
    units: See `Problem`.
    values: float[size], the signs.
    x: float[n, h, w, c], images.
  """
  rows = {path: jnp.take(values, unknowns) for path, unknowns in units.items()}
  with intercept(hpnn_lock.multiply(rows, set())):
    return apply_fn(params, x)


@functools.lru_cache(maxsize=16)
def logits(apply_fn: ApplyFn) -> Any:
  """Return a compiled `(params, units, values, images) -> logits`."""
  return jax.jit(functools.partial(forward, apply_fn))


# ------------------------------------------------------------------ objectives


def loss(kind: str | Loss, logits: Any, want: Any) -> jax.Array:
  """Return the distance of outputs from labels or from authorised logits.

  Args:
    kind: Loss of a task, for labels; or, for float32[n, classes], `jsd`, `kl`
      or `mse` (of centred logits, in units of their variance).
    logits: float[n, classes]; of other tasks, what its loss takes.
    want: Labels or logits to match.

  Raises:
    ValueError: If the kind is unknown.
  """
  if callable(kind):
    return kind(logits, want).mean()
  if kind == "mse":
    a = logits - logits.mean(-1, keepdims=True)
    b = want - want.mean(-1, keepdims=True)
    return ((a - b) ** 2).mean() / (b**2).mean()
  p, q = jax.nn.log_softmax(want), jax.nn.log_softmax(logits)
  if kind == "kl":
    return _kl(p, q)
  if kind == "jsd":
    m = jnp.logaddexp(p, q) - jnp.log(2.0)
    return 0.5 * (_kl(p, m) + _kl(q, m))
  raise ValueError(f"loss={kind!r}: choose jsd, kl or mse")


def _kl(p: jax.Array, q: jax.Array) -> jax.Array:
  return (jnp.exp(p) * (p - q)).sum(-1).mean()


@functools.lru_cache(maxsize=16)
def hard_loss(apply_fn: ApplyFn, kind: str | Loss) -> Any:
  """Return a compiled `(params, units, values, images, want) -> loss`."""
  return jax.jit(
    lambda params, units, values, x, want: loss(
      kind, forward(apply_fn, params, units, values, x), want
    )
  )


def examples(view: View, kind: str | Loss, seed: int) -> tuple[Any, Any]:
  """Return images and their targets: labels, or the oracle's logits.

  The oracle is queried with the attacker's images, then with noise, until no
  query is left. Their rows are divided over `device_rows.workers`, which then
  share each pass over them.
  """
  mesh = device_rows.over(device_rows.workers())
  if callable(kind):
    return device_rows.cut_rows(mesh, tuple(view.data))
  assert view.oracle is not None
  images = view.data.image[: view.oracle.left]
  shape = (view.oracle.left - len(images), *images.shape[1:])
  noise = np.random.default_rng(seed).random(shape, np.float32)
  images = np.concatenate([images, noise])
  return device_rows.cut_rows(mesh, (images, view.oracle(images)))


# ---------------------------------------------------------------------- claims


def key_of(problem: Problem, values: Any) -> HpnnKey:
  """Return the key that signs stand for: -1 is a 1 bit."""
  bits = (np.asarray(values) < 0).astype(np.uint8)
  return HpnnKey(bits=jnp.asarray(bits), units=problem.units)


def model_of(key: HpnnKey, apply_fn: ApplyFn, params: PyTree) -> Model:
  """Return the model under a key; one compiled pass serves every key."""
  return Model((params, key.bits, key.units), _under_key(apply_fn))


@functools.lru_cache(maxsize=16)
def _under_key(apply_fn: ApplyFn) -> ApplyFn:
  def apply(tree: Any, x: jax.Array) -> jax.Array:
    params, bits, units = tree
    values = 1 - 2 * bits.astype(jnp.float32)
    return forward(apply_fn, params, units, values, x)

  return apply
