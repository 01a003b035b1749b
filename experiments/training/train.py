"""A data-parallel trainer: one pure step, checkpoints, exact resumption.

Step i sees batch i and the random numbers of step i, so a run that stops and
goes on from its last checkpoint ends with the same bits. A scheme that trains
under its key (`bind`) gets it as an argument of the step, replicated: the key
is in no closure, no checkpoint and no log.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import keyjax
from experiments import data
from experiments.run import files, preemption
from experiments.run.encryption import NOBODY, People
from experiments.run.metrics import Log
from experiments.training.optimizer import averaged, make_optimizer
from experiments.training.step import State, make_step
from keyjax import checkpoint, parallel


def train(
  config: ConfigDict,
  dataset: data.Dataset,
  model: nn.Module,
  scheme: keyjax.Scheme,
  key: Any,
  workdir: files.AnyPath,
  title: str = "",
  people: People = NOBODY,
) -> dict[str, Any]:
  """Trains a model under a key, from the last checkpoint if there is one.

  Args:
    config: `config.train` of `experiments.run.config.base`.
    dataset: what to train on.
    model: a linen module over images in [0, 1], or over tokens.
    scheme: its `bind` is applied in every step; `identity()` for plain.
    key: the scheme's key.
    workdir: folder for `checkpoints/` and what `run.metrics` writes.
    title: what the progress bar says.
    people: whom checkpoints are sealed for; nobody leaves them plain.

  Returns:
    The trained variables, on the host; averaged params under `config.ema`.

  Raises:
    ValueError: the devices do not divide the batch, or the loss is not finite.
    CheckpointError: a checkpoint could not be written.
    Preempted: the machine is about to go; all steps so far are saved.
  """
  check_devices(config)
  steps = num_steps(config, dataset.num_examples)
  optimizer = make_optimizer(config, steps)
  state = init_state(model, optimizer, dataset, config.seed)
  step_fn = parallel.data_parallel(
    make_step(config, model, scheme, optimizer), config.parallel
  )
  processes = jax.process_index(), jax.process_count()
  source = data.batches(dataset, config.batch_size, config.seed, *processes)
  workdir.mkdir(parents=True, exist_ok=True)
  with checkpoint.Manager(
    workdir / "checkpoints",
    config.keep,
    recipients=people.recipients,
    identities=people.identities,
  ) as manager:
    if manager.latest() is not None:
      state = manager.restore(state)
    done, size = int(state.step), config.batch_size
    about = title, dataset.unit, config.log_every, config.profile
    log = Log(workdir, done, steps, *about)
    with log, preemption.watch() as preempted:
      state = parallel.place(state, config.parallel)
      ahead = _ahead(config, source, done, steps)
      for step in range(done + 1, steps + 1):
        log.begin(step)
        state, metrics = step_fn(state, key, next(ahead))
        log.add(step, metrics, size * dataset.labels_per_example)
        stops = preempted(step)
        if stops or step % config.checkpoint_every == 0 or step == steps:
          host = parallel.to_host(state)
          _check_finite(metrics["loss"], host.variables)
          log.flush()  # Before a checkpoint says that its lines are there.
          manager.save(step, host)
        if stops:
          raise preemption.Preempted(step, steps)
  state = parallel.to_host(state)
  params = averaged(state.opt_state, state.variables["params"])
  return state.variables | {"params": params}


def _ahead(
  config: ConfigDict, source: Any, done: int, steps: int
) -> Iterator[parallel.Placed]:
  """Returns the batches of the steps that are left, on the devices."""
  left = itertools.islice(
    data.iterate(source, done, config.threads), steps - done
  )
  put = functools.partial(parallel.put, how=config.parallel)
  return data.prefetch(left, put, config.prefetch)


def check_devices(config: ConfigDict) -> None:
  """Raises a ValueError unless the devices divide the batch."""
  count, parts = jax.device_count(), config.accumulate
  if config.batch_size % (count * parts):
    times = f" x {parts} parts (train.accumulate)" if parts > 1 else ""
    raise ValueError(
      f"train.batch_size={config.batch_size} does not divide over "
      f"{count} devices{times}; choose a multiple"
    )


def num_steps(config: ConfigDict, num_examples: int) -> int:
  """Returns how many steps `config.epochs` take, at least one."""
  per_epoch = data.steps_per_epoch(num_examples, config.batch_size)
  return max(1, round(config.epochs * per_epoch))


def init_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  dataset: data.Dataset,
  seed: int,
) -> State:
  """Returns the state before the first step, on the host."""
  example = data.to_input(jnp.asarray(dataset.train_images[:1]))
  variables = jax.jit(model.init)(jax.random.key(seed), example)
  state = State(
    step=jnp.int32(0),
    variables=variables,
    opt_state=optimizer.init(variables["params"]),
  )
  return jax.device_get(state)


def _check_finite(loss: Any, variables: Any) -> None:
  """Raises a ValueError rather than let a run resume from NaN."""
  # A last update may overflow after a loss that was finite.
  found = [loss, *jax.tree.leaves(variables)]
  if not all(np.isfinite(np.asarray(x)).all() for x in found):
    raise ValueError(
      "the training loss is not finite; nothing was saved from here on: "
      "try a smaller train.learning_rate"
    )
