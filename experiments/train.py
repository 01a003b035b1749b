"""A data-parallel trainer: one pure step, checkpoints, exact resumption.

Step i sees batch i and the random numbers of step i, so a run that stops and
goes on from its last checkpoint ends with the same bits. A scheme that trains
under its key (`bind`) gets it as an argument of the step, replicated: the key
is in no closure, no checkpoint and no log.
"""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.progress
from ml_collections import ConfigDict

import keyjax
from experiments import data, preemption
from keyjax import checkpoint, parallel


@flax.struct.dataclass
class State:
  """What a checkpoint holds.

  Attributes:
    step: int32[], how many steps are done.
    variables: the model's params and batch statistics.
    opt_state: the optimiser's.
  """

  step: jax.Array
  variables: dict[str, Any]
  opt_state: Any


def train(
  config: ConfigDict,
  dataset: data.Dataset,
  model: nn.Module,
  scheme: keyjax.Scheme,
  key: Any,
  workdir: pathlib.Path,
  title: str = "",
) -> dict[str, Any]:
  """Trains a model under a key, from the last checkpoint if there is one.

  Args:
    config: `config.train` of `experiments.config.base`.
    dataset: what to train on.
    model: a linen module over images in [0, 1].
    scheme: its `bind` is applied in every step; `identity()` for plain.
    key: the scheme's key.
    workdir: folder for `checkpoints/` and `metrics.jsonl`.
    title: what the progress bar says.

  Returns:
    The trained variables, on the host.

  Raises:
    ValueError: the devices do not divide the batch, or the loss is not finite.
    CheckpointError: a checkpoint could not be written.
    Preempted: the machine is about to go; all steps so far are saved.
  """
  check_devices(config)
  steps = num_steps(config, len(dataset.train_labels))
  optimizer = make_optimizer(config, steps)
  state = init_state(model, optimizer, dataset, config.seed)
  step_fn = parallel.data_parallel(
    make_step(config, model, scheme, optimizer), config.parallel
  )
  processes = jax.process_index(), jax.process_count()
  source = data.batches(dataset, config.batch_size, config.seed, *processes)
  workdir.mkdir(parents=True, exist_ok=True)
  with checkpoint.Manager(workdir / "checkpoints", config.keep) as manager:
    if manager.latest() is not None:
      state = manager.restore(state)
    done = int(state.step)
    where = workdir / "metrics.jsonl", done, steps
    log = _Log(*where, title, config.log_every)
    with log, preemption.watch() as preempted:
      state = parallel.place(state, config.parallel)
      for step in range(done + 1, steps + 1):
        state, metrics = step_fn(state, key, source[step - 1])
        log.add(step, metrics, config.batch_size)
        stops = preempted(step)
        if stops or step % config.checkpoint_every == 0 or step == steps:
          host = parallel.to_host(state)
          _check_finite(metrics["loss"], host.variables)
          manager.save(step, host)
        if stops:
          raise preemption.Preempted(step, steps)
  return parallel.to_host(state.variables)


def check_devices(config: ConfigDict) -> None:
  """Raises a ValueError unless the devices divide the batch."""
  count = jax.device_count()
  if config.batch_size % count:
    raise ValueError(
      f"train.batch_size={config.batch_size} does not divide over "
      f"{count} devices; choose a multiple"
    )


def num_steps(config: ConfigDict, num_examples: int) -> int:
  """Returns how many steps `config.epochs` take, at least one."""
  per_epoch = data.steps_per_epoch(num_examples, config.batch_size)
  return max(1, round(config.epochs * per_epoch))


def make_optimizer(
  config: ConfigDict, steps: int
) -> optax.GradientTransformation:
  """Builds the optimiser and its schedule from `config.train`.

  Raises:
    ValueError: an unknown optimiser or schedule.
  """
  peak, warmup = config.learning_rate, max(1, int(config.warmup * steps))
  schedules: dict[str, Callable[[], optax.Schedule]] = {
    "constant": lambda: optax.constant_schedule(peak),
    "cosine": lambda: optax.warmup_cosine_decay_schedule(
      0.0, peak, warmup, max(steps, warmup + 1)
    ),
    # CyclicLR of the block-wise papers' recipe: up and down in straight lines.
    "triangle": lambda: optax.join_schedules(
      [
        optax.linear_schedule(0.0, peak, max(1, steps // 2)),
        optax.linear_schedule(peak, 0.0, max(1, steps - steps // 2)),
      ],
      [max(1, steps // 2)],
    ),
  }
  optimizers = {
    "adam": optax.adam,
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
  }
  if config.schedule not in schedules:
    raise ValueError(f"unknown schedule {config.schedule!r}: {[*schedules]}")
  if config.optimizer not in optimizers:
    raise ValueError(f"unknown optimizer {config.optimizer!r}: {[*optimizers]}")
  rule = optimizers[config.optimizer](schedules[config.schedule]())
  return optax.chain(optax.add_decayed_weights(config.weight_decay), rule)


def init_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  dataset: data.Dataset,
  seed: int,
) -> State:
  """Returns the state before the first step, on the host."""
  images = data.to_float(jnp.asarray(dataset.train_images[:1]))
  variables = jax.jit(model.init)(jax.random.key(seed), images)
  state = State(
    step=jnp.int32(0),
    variables=variables,
    opt_state=optimizer.init(variables["params"]),
  )
  return jax.device_get(state)


def make_step(
  config: ConfigDict,
  model: nn.Module,
  scheme: keyjax.Scheme,
  optimizer: optax.GradientTransformation,
) -> parallel.Step:
  """Returns the pure step of one device, for `parallel.data_parallel`."""

  def step(state: State, key: Any, batch: Any) -> tuple[State, Any]:
    images = data.to_float(batch["image"])
    if config.pad or config.flip:
      images = data.augment(
        _rng(config.seed, state.step), images, config.pad, config.flip
      )
    apply_fn = scheme.bind(key, model.apply)
    params = state.variables["params"]
    rest = {k: v for k, v in state.variables.items() if k != "params"}

    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
      logits, new = apply_fn(
        {"params": params, **rest}, images, train=True, mutable=list(rest)
      )
      loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"]
      ).mean()
      hits = jnp.mean(logits.argmax(-1) == batch["label"], dtype=jnp.float32)
      return loss, (new, {"loss": loss, "accuracy": hits})

    grads, (new, metrics) = jax.grad(loss_fn, has_aux=True)(params)
    grads, new, metrics = parallel.mean((grads, new, metrics))
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    variables = {"params": optax.apply_updates(params, updates), **new}
    return State(state.step + 1, variables, opt_state), metrics

  return step


def _rng(seed: int, step: jax.Array) -> jax.Array:
  """Returns the random numbers of one step on one device."""
  rng = jax.random.fold_in(jax.random.key(seed), step)
  return jax.random.fold_in(rng, parallel.device_index())


class _Log:
  """Metrics as JSON lines, and a progress bar; process 0 writes."""

  def __init__(
    self, path: pathlib.Path, done: int, steps: int, title: str, every: int
  ):
    self._path, self._steps, self._every = path, steps, every
    self._writes = parallel.is_first()
    self._start, self._count = time.monotonic(), 0
    if self._writes:
      _forget(path, done)
    columns = (
      rich.progress.TextColumn("{task.description:<24}"),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn("{task.fields[text]}"),
    )
    self._bar = rich.progress.Progress(*columns, disable=not self._writes)
    self._task = self._bar.add_task(title, total=steps, completed=done, text="")

  def __enter__(self) -> "_Log":
    self._bar.start()
    return self

  def __exit__(self, *_: Any) -> None:
    self._bar.stop()

  def add(self, step: int, metrics: Any, rows: int) -> None:
    """Counts a step; now and then reads its metrics and writes them."""
    self._count += rows
    if step % self._every and step != self._steps:
      return
    values = {k: float(np.asarray(v)) for k, v in metrics.items()}
    rate = self._count / (time.monotonic() - self._start)
    text = (
      f"loss {values['loss']:.3f}  accuracy {values['accuracy']:.3f}  "
      f"{rate:,.0f} images/s"
    )
    self._bar.update(self._task, completed=step, text=text)
    if self._writes:
      line = {"step": step, **values, "images_per_second": round(rate, 1)}
      with self._path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _check_finite(loss: Any, variables: Any) -> None:
  """Raises a ValueError rather than let a run resume from NaN."""
  # A last update may overflow after a loss that was finite.
  found = [loss, *jax.tree.leaves(variables)]
  if not all(np.isfinite(np.asarray(x)).all() for x in found):
    raise ValueError(
      "the training loss is not finite; nothing was saved from here on: "
      "try a smaller train.learning_rate"
    )


def _forget(path: pathlib.Path, done: int) -> None:
  """Drops the lines of steps after the checkpoint that a run resumes from."""
  if not path.exists():
    return
  lines = path.read_text().splitlines(keepends=True)
  kept = [
    x for x in lines if x.endswith("\n") and json.loads(x)["step"] <= done
  ]
  path.write_text("".join(kept))
