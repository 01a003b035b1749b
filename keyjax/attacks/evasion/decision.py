"""HopSkipJump: a decision-based attack, which sees predicted classes only."""

import jax
import jax.numpy as jnp

from keyjax.attacks.evasion.boundary import Counts, State, Walk
from keyjax.attacks.evasion.problem import (
  Bounds,
  Evasion,
  LogitsFn,
  all_finite,
  as_float,
  check,
  choose,
  example_rngs,
  misclassified,
  refuse_nan,
  sizes,
)


def hop_skip_jump(
  logits_fn: LogitsFn,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  norm: str = "l2",
  targets: jax.Array | None = None,
  start: jax.Array | None = None,
  steps: int = 40,
  initial_samples: int = 100,
  maximum_samples: int = 10_000,
  gamma: float = 1.0,
  budget: int = 25_000,
  bounds: Bounds = (0.0, 1.0),
  rng: jax.Array,
) -> Evasion:
  """Return misclassified inputs near the originals, from predicted classes.

  Starts at random noise, moved to the boundary. Each step estimates the
  boundary's normal from initial_samples * sqrt(step) random probes, goes along
  it by a length that is halved until the class is still wrong, and bisects back
  to the boundary. No gradient is taken and only the greatest logit is read, so
  logits_fn may return any scores of the classes, such as 10 for the predicted
  one and 0 elsewhere.

  Args:
    logits_fn: Function from inputs to logits.
    inputs: float[n, ...].
    labels: int[n].
    norm: "l2" or "linf", which is minimised.
    targets: int[n], the classes to reach; None for any wrong class. Noise is
      seldom of a given class: pass `start` too.
    start: float[n, ...], inputs that succeed, one for each example; None for
      random noise.
    steps: Greatest number of steps.
    initial_samples: Probes of the first step: B0.
    maximum_samples: Greatest number of probes of a step.
    gamma: Scale of the width at which bisections end.
    budget: Greatest number of queries for each example. A step begins only if
      its probes and bisections fit.
    bounds: Least and greatest value of a pixel.
    rng: PRNG key.

  Returns:
    An `Evasion`.

  Raises:
    ValueError: If an argument is wrong, or a logit not finite.

  Reference:
    Jianbo Chen, Michael I. Jordan and Martin J. Wainwright, "HopSkipJumpAttack:
    a query-efficient decision-based attack", IEEE S&P 2020.

  Example:
    >>> logits_fn = lambda x: (x - 0.4) @ jnp.asarray([[0.0, 3.0], [0.0, 4.0]])
    >>> found = hop_skip_jump(
    ...   logits_fn, jnp.asarray([[0.5, 0.5]]), jnp.asarray([1]),
    ...   rng=jax.random.key(0))
    >>> found.success.tolist(), round(float(found.distance[0]), 2)
    ([True], 0.14)
  """
  check(
    logits_fn,
    inputs,
    labels,
    norm=norm,
    norms=("l2", "linf"),
    targets=targets,
    bounds=bounds,
  )
  least = min(steps, initial_samples, maximum_samples, budget)
  if least < 1 or not gamma > 0:
    raise ValueError(
      f"steps {steps}, initial_samples {initial_samples}, maximum_samples "
      f"{maximum_samples}, budget {budget}, gamma {gamma}: all must be above 0"
    )
  if start is not None and start.shape != inputs.shape:
    raise ValueError(f"start has shape {start.shape}: pass {inputs.shape}")

  def decide(
    points: jax.Array, asked: jax.Array, counts: Counts
  ) -> tuple[jax.Array, Counts]:
    """Return whether points succeed, and the counts with asked[n] added."""
    logits = as_float(logits_fn(points))
    finite = all_finite(logits) | ~asked
    return misclassified(logits, labels, targets), Counts(
      queries=counts.queries + asked.astype(jnp.int32),
      finite=counts.finite & finite,
    )

  zero = jnp.zeros_like(labels, jnp.int32)
  none = Counts(queries=zero, finite=zero == 0)
  solved, counts = decide(inputs, zero == 0, none)
  walk = Walk(
    decide=decide,
    inputs=inputs,
    norm=norm,
    bounds=bounds,
    budget=budget,
    gamma=gamma,
  )
  rngs = jax.vmap(jax.random.split)(example_rngs(rng, len(inputs)))  # [n, 2]
  wanted = ~solved & counts.finite
  if start is None:
    first, found, counts = walk.from_noise(rngs[:, 0], wanted, counts)
  else:
    first = jnp.clip(start, *bounds)
    asked = wanted & (counts.queries < budget)
    found, counts = decide(first, asked, counts)
    found &= asked

  def samples(step: jax.Array) -> jax.Array:
    count = initial_samples * jnp.sqrt(step.astype(jnp.float32) + 1)
    count = count.astype(jnp.int32)
    return jnp.minimum(count, maximum_samples)

  def affords(step: jax.Array, counts: Counts) -> jax.Array:
    needed = samples(step) + walk.bisections + 1
    return counts.queries + needed <= budget

  def advance(state: State) -> State:
    normal, counts = walk.normal(
      state,
      samples(state.step),
      jax.vmap(jax.random.fold_in, in_axes=(0, None))(rngs[:, 1], state.step),
    )
    state = state._replace(counts=counts)
    reached, counts = walk.along(normal, state)
    current, counts = walk.to_boundary(reached, state.active, counts)
    closer = sizes(current - inputs, norm) < sizes(state.best - inputs, norm)
    return State(
      step=state.step + 1,
      current=choose(state.active, current, state.current),
      spread=sizes(reached - inputs, norm),
      best=choose(state.active & closer, current, state.best),
      active=state.active & affords(state.step + 1, counts),
      counts=counts,
    )

  asked = found & (counts.queries + walk.bisections <= budget)
  current, counts = walk.to_boundary(first, asked, counts)
  current = choose(asked, current, first)
  state = jax.lax.while_loop(
    lambda state: (state.step < steps) & state.active.any(),
    advance,
    State(
      step=jnp.int32(0),
      current=current,
      spread=sizes(first - inputs, norm),
      best=current,
      active=asked & affords(jnp.int32(0), counts),
      counts=counts,
    ),
  )
  counts = state.counts
  changed = choose(found & counts.finite, state.best, inputs)
  result = Evasion(
    inputs=changed,
    success=(found | solved) & counts.finite,
    distance=sizes(changed - inputs, norm),
    queries=counts.queries,
    finite=counts.finite,
  )
  return refuse_nan(result, "hop_skip_jump")
