"""Data-parallel training: one pure step, checkpoints, exact resumption.

Step i sees batch i and the random numbers of step i, so a run that stops and
resumes from its last checkpoint ends with the same bits. A scheme that trains
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
from experiments.run.encryption import UNENCRYPTED, Encryption
from experiments.run.metrics import MetricsLog
from experiments.training import defense, dp, lora
from experiments.training.optimizer import averaged, make_optimizer
from experiments.training.step import State, make_step
from keyjax import checkpoint, parallel


def train(
  config: ConfigDict,
  *,
  dataset: data.Dataset,
  model: nn.Module,
  scheme: keyjax.Scheme,
  key: Any,
  folder: files.AnyPath,
  title: str = "",
  encryption: Encryption = UNENCRYPTED,
  initial: Any = None,
  secret: keyjax.Secret | None = None,
) -> dict[str, Any]:
  """Train a model under a key, from the last checkpoint if there is one.

  Args:
    config: `config.train` of `experiments.run.config.base`.
    dataset: Data to train on.
    model: Linen module over images in [0, 1], or over tokens.
    scheme: Scheme whose `bind` is applied in every step; `identity()` for a
      plain model.
    key: Key of the scheme.
    folder: Folder for `checkpoints/` and what `run.metrics` writes.
    title: Title of the progress bar.
    encryption: Keys of the checkpoints.
    initial: Variables to start from, on the host; by default those of
      `model.init`. With `config.lora` they stay, and adapters of them train.
    secret: Of the batches and the noise of `config.dp`, for this training
      alone; a run that resumes brings the same one.

  Returns:
    The trained variables, on the host; averaged params under `config.ema`.

  Raises:
    ValueError: If the devices do not divide the batch, if the loss is not
      finite, or if a private training has no secret.
    CheckpointError: If a checkpoint cannot be written.
    Preempted: If the machine is about to be taken away; all steps so far are
      saved.
  """
  check_devices(config)
  steps = num_steps(config, dataset.num_examples)
  optimizer = make_optimizer(config, steps)
  adapted = lora.Adapted(model, **config.lora) if config.lora.rank else None
  if adapted:
    initial = adapted.start(jax.random.key(config.seed), initial)
  trained: Any = adapted or model
  state = init_state(trained, optimizer, dataset, config.seed, initial)
  teacher = None
  if defense.needs_teacher(config):
    teacher = train(
      defense.of_teacher(config),
      dataset=dataset,
      model=model,
      scheme=scheme,
      key=key,
      folder=folder / "teacher",
      title=f"{title}, teacher",
      encryption=encryption,
      initial=initial,
    )
  loss = defense.make_loss(config, model, steps, teacher)
  if config.dp.on:
    if secret is None:
      raise ValueError("train.dp: the secret of its noise is missing")
    noise = dp.guarantee(config, dataset).noise_multiplier
    one_step = dp.make_step(
      config, trained, scheme, optimizer, noise, dataset.task
    )
    batches = dp.batches(config, dataset, secret)
    key = dp.keyed(key, config, secret)
  else:
    one_step = make_step(config, trained, scheme, optimizer, loss, dataset.task)
    batches = data.batches(
      dataset,
      config.batch_size,
      config.seed,
      jax.process_index(),
      jax.process_count(),
    )
  step_fn = parallel.data_parallel(one_step, config.parallel)
  folder.mkdir(parents=True, exist_ok=True)
  with checkpoint.Manager(
    folder / "checkpoints",
    config.keep,
    recipients=encryption.recipients,
    identities=encryption.identities,
    run=encryption.run,
  ) as manager:
    if manager.latest_step() is not None:
      state = manager.restore(state)
    done = int(state.step)
    log = MetricsLog(
      folder,
      done=done,
      steps=steps,
      title=title,
      unit=dataset.unit,
      every=config.log_every,
      profile=config.profile,
    )
    labels_per_step = config.batch_size * dataset.labels_per_example
    with log, preemption.watch() as preempted:
      state = parallel.place(state, config.parallel)
      placed = _placed_batches(config, batches, done, steps)
      for step in range(done + 1, steps + 1):
        log.begin(step)
        state, metrics = step_fn(state, key, next(placed))
        log.add(step, metrics, labels_per_step)
        stops = preempted(step)
        if stops or step % config.checkpoint_every == 0 or step == steps:
          host = parallel.to_host(state)
          _check_finite(metrics["loss"], host.variables)
          log.flush()  # The lines of a checkpoint come before it.
          manager.save(step, host)
        if stops:
          raise preemption.Preempted(step, steps)
  state = parallel.to_host(state)
  params = averaged(state.opt_state, state.variables["params"])
  variables = state.variables | {"params": params}
  return jax.device_get(adapted.merged(variables)) if adapted else variables


def _placed_batches(
  config: ConfigDict, batches: Any, done: int, steps: int
) -> Iterator[parallel.Placed]:
  """Return the batches of the remaining steps, on the devices."""
  remaining = itertools.islice(
    data.iterate(batches, done, config.threads), steps - done
  )
  put = functools.partial(parallel.put, how=config.parallel)
  return data.prefetch(remaining, put, config.prefetch)


def check_devices(config: ConfigDict) -> None:
  """Raise a ValueError unless the devices divide the batch.

  A Poisson batch is filled with rows until they do.
  """
  if config.dp.on:
    return
  count = jax.device_count()
  parts = config.accumulate
  if config.batch_size % (count * parts):
    times = f" x {parts} parts (train.accumulate)" if parts > 1 else ""
    raise ValueError(
      f"train.batch_size={config.batch_size} does not divide over "
      f"{count} devices{times}; choose a multiple"
    )


def num_steps(config: ConfigDict, num_examples: int) -> int:
  """Return the number of steps in `config.epochs`, at least one."""
  per_epoch = data.steps_per_epoch(num_examples, config.batch_size)
  return max(1, round(config.epochs * per_epoch))


def init_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  dataset: data.Dataset,
  seed: int,
  initial: Any = None,
) -> State:
  """Return the state before the first step, on the host."""
  variables = initial
  if variables is None:
    example = data.to_input(jnp.asarray(dataset.train_images[:1]))
    variables = jax.jit(model.init)(jax.random.key(seed), example)
  state = State(
    step=jnp.int32(0),
    variables=variables,
    opt_state=optimizer.init(variables["params"]),
  )
  return jax.device_get(state)


def _check_finite(loss: Any, variables: Any) -> None:
  """Raise a ValueError, so that no run resumes from NaN."""
  # The last update may overflow after a finite loss.
  arrays = [loss, *jax.tree.leaves(variables)]
  if not all(np.isfinite(np.asarray(x)).all() for x in arrays):
    raise ValueError(
      "the training loss is not finite; nothing was saved from here on: "
      "try a smaller train.learning_rate"
    )
