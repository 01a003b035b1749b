"""Attacks on any number of inputs, by one compiled program."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import device_rows
from keyjax.attacks.evasion import checks, problem
from keyjax.attacks.evasion.keyed import Attack, as_pytree
from keyjax.attacks.evasion.problem import Bounds, Evasion, LogitsFn


def in_batches(
  attack: Attack,
  size: int,
  *,
  bounds: Bounds = (0.0, 1.0),
  devices: Sequence[jax.Device] | None = None,
) -> Attack:
  """Return an attack that runs in batches, and compiles once.

  The model is an argument of the program, with its key if it is a pytree as
  those of `keyed`: another key, epsilon, rng or number of inputs compiles
  nothing. The last batch is filled with repeated inputs, which are dropped from
  the result. Results do not depend on the size.

  Logits that are not finite are no error here: `finite` counts them.

  Args:
    attack: Attack on examples that do not depend on each other. Bind its static
      options with `functools.partial(pgd, steps=40)`.
    size: Inputs of a batch, over all devices.
    bounds: Least and greatest value of a pixel.
    devices: Devices that share each batch, every one on its own inputs; by
      default all of this process, or a single CPU device.

  Returns:
    `attack(logits_fn, inputs, labels, *, targets, epsilon, rng)`, run from
    Python; what is None is not passed.

  Raises:
    ValueError: If the size is no positive multiple of the number of devices;
      by the attack, if its arguments are wrong.

  Example:
    >>> from keyjax.attacks.evasion import fgsm
    >>> x, y = jnp.full((5, 2), 0.5), jnp.zeros(5, jnp.int32)
    >>> found = in_batches(fgsm, 2)(lambda x: 4 * x, x, y, epsilon=0.25)
    >>> found.success.shape, found.success.all().tolist()
    ((5,), True)
  """
  mesh = device_rows.over(devices or device_rows.workers())
  count = mesh.size if mesh else 1
  if size < 1 or size % count:
    raise ValueError(f"size is {size}: pass a multiple of {count} devices")

  def one(shared: Any, rows: Any) -> Evasion:
    logits_fn, options = shared
    return attack(logits_fn, bounds=bounds, **options, **rows)

  compiled = jax.jit(device_rows.each_device(one, mesh))

  def run(
    logits_fn: LogitsFn,
    inputs: jax.Array,
    labels: jax.Array,
    *,
    targets: jax.Array | None = None,
    epsilon: Any = None,
    rng: jax.Array | None = None,
  ) -> Evasion:
    _check(logits_fn, inputs, labels, targets, epsilon, bounds)
    rows: dict[str, Any] = {
      "inputs": np.asarray(inputs),
      "labels": np.asarray(labels),
    }
    if targets is not None:
      rows["targets"] = np.asarray(targets)
    if rng is not None:
      rows["rng"] = problem.example_rngs(rng, len(inputs))
    options = {} if epsilon is None else {"epsilon": epsilon}
    shared = device_rows.copy_to(mesh, (as_pytree(logits_fn), options))
    found = []
    for start in range(0, len(inputs), size):
      part = np.arange(start, min(start + size, len(inputs)))
      full = np.resize(part, size)  # Repeats inputs, to fill the batch.
      batch = device_rows.cut_rows(mesh, {k: v[full] for k, v in rows.items()})
      found.append(jax.tree.map(np.asarray, compiled(shared, batch)))
    return jax.tree.map(
      lambda *x: jnp.asarray(np.concatenate(x)[: len(inputs)]), *found
    )

  return run


def _check(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  targets: jax.Array | None,
  epsilon: Any,
  bounds: Bounds,
) -> None:
  """Raise ValueError for values that the program could not check."""
  checks.check_epsilon(epsilon)
  checks.check_inputs(inputs, bounds)
  classes = checks.count_classes(logits_fn, inputs)
  checks.check_classes("labels", labels, len(inputs), classes)
  if targets is not None:
    checks.check_classes("targets", targets, len(inputs), classes)
