"""One protection from end to end: train, lock, store, restore, evaluate."""

import functools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import keyjax
from experiments import data, evaluate, lock, results, train
from experiments.workdir import Workdir
from keyjax import checkpoint, keys, tree
from keyjax.attacks import near_keys
from keyjax.schemes import adv_params, pixel_shuffle

KEYGEN_IMAGES = 1000
_DEMO_IMAGES = 60_000  # seen by the model that a picture is made of
Rows = list[dict[str, Any]]
Say = Callable[[str], None]


class Run(NamedTuple):
  """What all protections of a run share.

  Attributes:
    config: the whole config.
    workdir: the run's folders.
    dataset: the data.
    model: the linen module.
    base: fields of every row.
    say: prints a line.
  """

  config: ConfigDict
  workdir: Workdir
  dataset: data.Dataset
  model: nn.Module
  base: dict[str, Any]
  say: Say


class Outcome(NamedTuple):
  """Rows for `results.json`, and what the report draws."""

  rows: Rows
  figures: dict[str, Any]


def plain(run: Run) -> tuple[Any, Outcome]:
  """Trains the unprotected model and evaluates it on all test images."""
  folder = run.workdir.folder("plain")
  variables = train.train(
    run.config.train,
    run.dataset,
    run.model,
    keyjax.identity(),
    (),
    folder,
    "plain",
  )
  file = folder / "outcome.json"
  if not file.exists():
    alone = lock.Lock(keyjax.identity(), False, lambda v: v, run.model.apply)
    counts = evaluate.count_without_key(alone, variables, _images(run, 0))
    base = run.base | {"scheme": "plain", "title": "plain"}
    rows = [
      _accuracy(base, counts, "plain"),
      _value(base, "parameters", _num_params(variables)),
    ]
    outcome = Outcome(rows, {"curve": _curve(folder)})
    results.write_json(file, outcome._asdict())
  return variables, _load(file)


def protect(
  run: Run, label: str, spec: ConfigDict, trained: Any, plain_rows: Rows
) -> Outcome:
  """Does all that `config.schemes[label]` asks for, or what is left of it.

  Args:
    run: what protections share.
    label: the protection's name, and that of its folder and key file.
    spec: from `experiments.config.scheme`.
    trained: the plain model's variables.
    plain_rows: its rows, for the drop.

  Raises:
    RuntimeError: the restored and decrypted params are not the locked ones.
  """
  folder = run.workdir.folder(label)
  file = folder / "outcome.json"
  if file.exists():
    run.say(f"{label}: done before")
    return _load(file)
  this = lock.build(spec.scheme, dict(spec.args), run.model)
  base = run.base | {"scheme": label, "title": spec.title}
  variables, key = _variables_and_key(run, label, this, trained)
  prepared = jax.tree.map(jnp.asarray, this.prepare(variables))
  rows, locked = _lock_and_ship(run, label, this, key, prepared, base)
  plain_accuracy = results.find(plain_rows, metric="accuracy")["value"]
  run.say(f"{label}: evaluating")
  judged = _judge(run, this, key, prepared, locked, base, plain_accuracy)
  figures = judged.figures | _pictures(run, label, spec)
  if this.trains:
    figures["curve"] = _curve(folder)
  outcome = Outcome(rows + judged.rows, figures)
  results.write_json(file, outcome._asdict())
  return outcome


def _load(file: pathlib.Path) -> Outcome:
  return Outcome(**json.loads(file.read_text()))


def _variables_and_key(
  run: Run, label: str, this: lock.Lock, trained: Any
) -> tuple[Any, Any]:
  """Makes or loads the key, and trains under it where the scheme does."""
  file = run.workdir.key_file(label)
  if file.exists():
    key = keys.load(file)
  elif (run.workdir.folder(label) / "locked").exists():
    raise ValueError(
      f"{label}: params are locked, but their key is not at {file}; put it "
      f"back, or delete {run.workdir.folder(label)} to lock again"
    )
  else:
    run.say(f"{label}: making the key")
    batch = _keygen_batch(run)
    secret = run.workdir.secret.child(label)
    key = this.scheme.keygen(secret, this.prepare(trained), batch)
    keys.save(file, key)
  if not this.trains:
    return trained, key
  variables = train.train(
    run.config.train,
    run.dataset,
    run.model,
    this.scheme,
    key,
    run.workdir.folder(label),
    label,
  )
  return variables, key


def _keygen_batch(run: Run) -> dict[str, jax.Array]:
  count = min(KEYGEN_IMAGES, len(run.dataset.train_labels))
  return {
    "image": data.to_float(jnp.asarray(run.dataset.train_images[:count])),
    "label": jnp.asarray(run.dataset.train_labels[:count]),
  }


def _lock_and_ship(
  run: Run,
  label: str,
  this: lock.Lock,
  key: Any,
  prepared: Any,
  base: dict[str, Any],
) -> tuple[Rows, Any]:
  """Encrypts, saves, restores with the stored key, and checks every bit."""
  encrypt, decrypt = jax.jit(this.scheme.encrypt), jax.jit(this.scheme.decrypt)
  locked, lock_seconds = _timed(encrypt, key, prepared)
  folder = run.workdir.folder(label) / "locked"
  if not folder.exists():
    checkpoint.save(folder, locked)
  restored = checkpoint.restore(folder, locked)
  stored = keys.load(run.workdir.key_file(label))
  opened, open_seconds = _timed(decrypt, stored, restored)
  if not _same_bits(opened, prepared):
    raise RuntimeError(f"{label}: decrypted params differ from the original")
  run.say(f"{label}: locked, stored, restored, decrypted: bit for bit the same")
  changed = _num_changed(prepared, locked)
  rows = [
    _value(base, "round_trip", 1),
    _value(base, "parameters", _num_params(prepared)),
    _value(base, "changed_parameters", changed),
    _value(base, "key_bytes", _key_bytes(key)),
    _value(base, "encrypt_seconds", lock_seconds),
    _value(base, "decrypt_seconds", open_seconds),
  ]
  return rows, restored


def _timed(function: Callable, *args: Any) -> tuple[Any, float]:
  """Returns a compiled function's result, and the median of 5 calls."""
  out = jax.block_until_ready(function(*args))
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    seconds.append(time.perf_counter() - start)
  return out, float(np.median(seconds))


def _words(x: Any) -> np.ndarray:
  """Returns a leaf's bit patterns on the host."""
  if tree.lockable(x):
    x = tree.as_words(x)
  return np.asarray(x)


def _same_bits(a: Any, b: Any) -> bool:
  same = [
    x.dtype == y.dtype and np.array_equal(_words(x), _words(y))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  ]
  return all(same)


def _key_bytes(key: Any) -> int:
  """Returns a key's size; of AdvParams, without the padding."""
  if isinstance(key, tuple):
    return sum(map(_key_bytes, key))
  if isinstance(key, adv_params.AdvKey):
    return adv_params.SLOT_BYTES * adv_params.num_changes(key)
  return keys.size_in_bytes(key)


def _num_changed(prepared: Any, locked: Any) -> int:
  pairs = zip(jax.tree.leaves(prepared), jax.tree.leaves(locked), strict=True)
  return sum(int((_words(a) != _words(b)).sum()) for a, b in pairs)


def _num_params(variables: Any) -> int:
  return sum(int(x.size) for x in jax.tree.leaves(variables))


def _judge(
  run: Run,
  this: lock.Lock,
  key: Any,
  prepared: Any,
  locked: Any,
  base: dict[str, Any],
  plain_accuracy: float,
) -> Outcome:
  """Evaluates the conditions: right, api, no key, wrong keys, near keys."""
  config = run.config.evaluate
  right = evaluate.count(this, locked, [key], _images(run, 0))
  stolen = tree.as_floats(locked, prepared)
  bare = evaluate.count_without_key(this, stolen, _images(run, 0))
  few = _images(run, config.wrong_images)
  guesses = _wrong_keys(run, this, key, prepared, config.wrong_keys)
  wrong = evaluate.count(this, locked, guesses, few)
  bad_weights = {"nonfinite_weights": int(tree.count_nonfinite(stolen))}
  rows = [
    _accuracy(base, right, "right"),
    # A server with the key answers anybody: the same function, by queries.
    _accuracy(base, right, "api"),
    _accuracy(base, bare, "no_key") | bad_weights,
    _mean_accuracy(base, wrong, "wrong"),
    _drop(base, bare, "no_key", plain_accuracy),
    _drop(base, wrong, "wrong", plain_accuracy),
  ]
  near, curve = _near(run, this, key, locked, few, base)
  figures = {"wrong": wrong.accuracy.tolist(), "near": curve}
  return Outcome(rows + near, figures)


def _wrong_keys(
  run: Run, this: lock.Lock, key: Any, prepared: Any, count: int
) -> list[Any]:
  """Returns keys of other secrets, none of them the right one by chance.

  An AdvParams key is made from the plain params, which no guesser has: those
  are random positions with the right values.
  """
  rng, batch = np.random.default_rng(0), _keygen_batch(run)
  made: list[Any] = []
  while len(made) < count:
    if _holds(key, adv_params.AdvKey):
      guess = near_keys.random_key(key, rng)
    else:
      guess = this.scheme.keygen(keyjax.Secret.generate(), prepared, batch)
    if not _same_bits(guess, key):
      made.append(guess)
  return made


def _holds(key: Any, cls: type) -> bool:
  if isinstance(key, tuple):
    return any(_holds(k, cls) for k in key)
  return isinstance(key, cls)


def _near(
  run: Run,
  this: lock.Lock,
  key: Any,
  locked: Any,
  images: evaluate.Images,
  base: dict[str, Any],
) -> tuple[Rows, list[dict[str, Any]]]:
  """Evaluates keys at growing distances from the right one."""
  count = run.config.evaluate.distance_keys
  rng = np.random.default_rng(0)
  most = near_keys.max_distance(key)
  if "bits" in near_keys.unit(key):
    most //= 2  # Where random keys are; all bits wrong is one key alone.
  distances = graded(most)
  if not distances:
    return [], []
  guesses = [
    near_keys.near_key(key, d, rng) for d in distances for _ in range(count)
  ]
  counts = evaluate.count(this, locked, guesses, images)
  rows, curve = [], []
  for i, distance in enumerate(distances):
    part = slice(i * count, (i + 1) * count)
    here = evaluate.Counts(
      counts.correct[part], counts.nonfinite[part], counts.total
    )
    more = {"distance": distance, "unit": near_keys.unit(key)}
    rows.append(_mean_accuracy(base, here, "near") | more)
    curve.append(
      more
      | {
        "accuracies": here.accuracy.tolist(),
        "nonfinite": int(here.nonfinite.sum()),
      }
    )
  return rows, curve


def graded(most: int, points: int = 8) -> list[int]:
  """Returns up to `points` distances from 1 to `most`, evenly on a log scale.

  Example:
    >>> graded(256)
    [1, 2, 5, 11, 24, 53, 116, 256]
  """
  if most < 1:
    return []
  found = np.geomspace(1, most, points).round().astype(int)
  return sorted(set(found.tolist()))


def _images(run: Run, count: int) -> evaluate.Images:
  """Returns the first `count` test images, or all for 0."""
  stop = count or len(run.dataset.test_labels)
  return evaluate.pack(
    run.dataset.test_images[:stop],
    run.dataset.test_labels[:stop],
    run.config.evaluate.batch_size,
  )


def _value(base: dict[str, Any], metric: str, value: float) -> dict[str, Any]:
  return results.row(base, metric=metric, value=value)


def _accuracy(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Returns the row of one model on `total` images."""
  low, high = evaluate.clopper_pearson(counts.correct[0], counts.total)
  return results.row(
    base,
    condition=condition,
    metric="accuracy",
    value=float(counts.accuracy[0]),
    low=low,
    high=high,
    interval="Clopper-Pearson over images",
    images=counts.total,
    keys=1,
    nonfinite=int(counts.nonfinite[0]),
  )


def _mean_accuracy(
  base: dict[str, Any], counts: evaluate.Counts, condition: str
) -> dict[str, Any]:
  """Returns the row of several keys: mean, largest and smallest."""
  accuracy, total = counts.accuracy, counts.total
  low, high = evaluate.mean_interval(accuracy)
  interval = "Student t over keys"
  if len(set(counts.correct.tolist())) == 1:  # No spread to go by.
    low, high = evaluate.clopper_pearson(counts.correct[0], total)
    interval = "Clopper-Pearson over images"
  best = evaluate.clopper_pearson(counts.correct.max(), total, len(accuracy))
  return results.row(
    base,
    condition=condition,
    metric="accuracy",
    value=float(accuracy.mean()),
    low=low,
    high=high,
    interval=interval,
    images=counts.total,
    keys=len(accuracy),
    max=float(accuracy.max()),
    max_high=best[1],
    min=float(accuracy.min()),
    nonfinite=int(counts.nonfinite.sum()),
  )


def _drop(
  base: dict[str, Any],
  counts: evaluate.Counts,
  condition: str,
  plain_accuracy: float,
) -> dict[str, Any]:
  drop = 100 * (plain_accuracy - float(counts.accuracy.mean()))
  return results.row(
    base, condition=condition, metric="drop", value=drop, unit="points"
  )


def _curve(folder: pathlib.Path) -> list[dict[str, float]]:
  file = folder / "metrics.jsonl"
  return [json.loads(line) for line in file.read_text().splitlines()]


def _pictures(run: Run, label: str, spec: ConfigDict) -> dict[str, Any]:
  """Returns what the report draws of this scheme in particular.

  Each picture is made with a key of its own: an image before and after the
  model's key, or its weights before and after, would give the key away.
  """
  if spec.scheme in ("shf", "np", "ffx"):
    return {"shuffle": _shuffled(run, spec)}
  if spec.scheme == "adv_params":
    return {"histogram": _histogram(run, label, spec)}
  return {}


def _shuffled(run: Run, spec: ConfigDict) -> dict[str, Any]:
  """Transforms a few images under a key made for this picture alone."""
  before = run.dataset.test_images[:6]
  scheme = pixel_shuffle.pixel_shuffle(spec.scheme, **dict(spec.args))
  batch = {"image": data.to_float(jnp.asarray(before))}
  key = scheme.keygen(keyjax.Secret.generate(), None, batch)
  after = pixel_shuffle.transform(key, batch["image"])
  pixels = np.asarray(jnp.round(after * 255)).astype(np.uint8)
  return {"before": before.tolist(), "after": pixels.tolist()}


def _histogram(run: Run, label: str, spec: ConfigDict) -> dict[str, Any]:
  """Bins the weights of the leaf that changes most, of a model for this alone.

  It trains for a few hundred steps from another seed and keeps no key.
  """
  config = run.config.train.copy_and_resolve_references()
  config.seed += 1
  config.epochs = min(
    config.epochs, _DEMO_IMAGES / len(run.dataset.train_labels)
  )
  folder = run.workdir.folder(label) / "demonstration"
  plain = keyjax.identity()
  model = train.train(config, run.dataset, run.model, plain, (), folder, "demo")
  scheme = lock.build(spec.scheme, dict(spec.args), run.model).scheme
  key = scheme.keygen(keyjax.Secret.generate(), model, _keygen_batch(run))
  return _bins(model, scheme.encrypt(key, model))


def _bins(plain: Any, locked: Any) -> dict[str, Any]:
  paths, before, _ = tree.flatten(plain)
  after = tree.flatten(locked)[1]
  pairs = list(zip(before, after, strict=True))
  differs = [int((_words(a) != _words(b)).sum()) for a, b in pairs]
  i = int(np.argmax(differs))
  both = np.concatenate([np.ravel(before[i]), np.ravel(after[i])])
  edges = np.histogram_bin_edges(both, 40)
  count = functools.partial(np.histogram, bins=edges)
  return {
    "leaf": paths[i],
    "changed": differs[i],
    "edges": edges.tolist(),
    "before": count(np.ravel(before[i]))[0].tolist(),
    "after": count(np.ravel(after[i]))[0].tolist(),
  }
