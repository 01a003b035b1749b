"""Fine-tuning of a few coordinates only."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from keyjax import tasks
from keyjax.attacks import fit, registry
from keyjax.attacks.adv_params import kernels
from keyjax.attacks.game import Attacker, Budget, Claim, Cost, Goal, Model
from keyjax.attacks.views import View
from keyjax.scheme import PyTree


@registry.register(
  "sparse_tune",
  Goal.FUNCTION,
  kernels.SCHEMES,
  Attacker(images=1),
  tuple(
    {"coordinates": k, "learning_rate": r}
    for k in (64, 1024)
    for r in (0.01, 0.1)
  ),
)
def sparse_tune(
  view: View, budget: Budget, coordinates: int = 64, learning_rate: float = 0.1
) -> Iterator[Claim]:
  """Fine-tune the weights with the largest first-order gain, and no others.

  Args:
    view: The stolen file and labelled images.
    budget: Its `steps` are training steps.
    coordinates: Number of weights that train.
    learning_rate: Initial learning rate of Adam.
  """
  params = view.stolen()
  training = fit.fit(
    view.apply_fn,
    params,
    view.data,
    budget.marks(),
    recipe=fit.Recipe(learning_rate=learning_rate, batch_size=128),
    seed=budget.seed,
    mask=_mask(view, params, coordinates),
    loss=view.task.loss,
  )
  for at in training:
    cost = Cost(steps=at.step, flops=at.flops)
    yield Claim(Model(at.params, view.apply_fn), cost)


def _mask(view: View, params: PyTree, coordinates: int) -> PyTree:
  """Return a tree of 1.0 where a weight trains and 0.0 elsewhere."""
  batch, _ = kernels.split(view.data, tasks.num_examples(view.data))

  def loss(params: PyTree) -> jax.Array:
    return view.task.loss(view.apply_fn(params, batch[0]), batch[1]).mean()

  leaves, treedef = jax.tree.flatten(params)
  slopes = jax.tree.leaves(jax.jit(jax.grad(loss))(params))
  chosen = set(kernels.indices(params))
  gains = [
    kernels.first_order(x, g, kernels.inner_range(x))
    if i in chosen
    else np.zeros(np.size(x), np.float32)
    for i, (x, g) in enumerate(zip(leaves, slopes, strict=True))
  ]
  every = np.sort(np.concatenate(gains))
  least = max(every[-min(coordinates, every.size)], 1e-30)
  # [size] -> the shape of the leaf
  mask = [
    jnp.asarray((g >= least).astype(np.float32).reshape(np.shape(x)))
    for g, x in zip(gains, leaves, strict=True)
  ]
  return jax.tree.unflatten(treedef, mask)
