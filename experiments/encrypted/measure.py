"""Rows of encrypted inference: is it right, how fast, how many bytes."""

import functools
import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.encrypted import process, training
from experiments.run import files, results
from keyjax.defenses.homomorphic import ckks, paillier
from keyjax.defenses.homomorphic.connection import Remote

Row = dict[str, Any]
Note = Callable[[str], None]
_NOTED = 50  # Questions between two lines of progress.
_REGRESSION = {"low": -1.0, "high": 1.0}  # Of inputs.


class Asked(NamedTuple):
  """Answers to questions, and what they cost.

  Attributes:
    outputs: float64[n, outputs], decrypted.
    costs: Costs, by metric; those of a question are medians or means.
  """

  outputs: np.ndarray
  costs: Mapping[str, float]


def tasks(
  config: ConfigDict, note: Note = lambda _: None
) -> dict[str, Callable[[], list[Row]]]:
  """Return what there is to measure: functions that return rows, by name.

  Args:
    config: From `configs/homomorphic.py`.
    note: Called with what was done, now and then.

  Raises:
    ArgumentError: If the network is too deep for any secure parameters.
    ValueError: If a field is out of range; the message names it.
  """
  _check(config)
  return {
    f"{part}/{seed}/{_hash(config[part])}": functools.partial(
      _rows, config, part, seed, note
    )
    for part in config.parts
    for seed in range(config.seed, config.seed + config.seeds)
  }


def _hash(section: ConfigDict) -> str:
  return hashlib.sha256(section.to_json().encode()).hexdigest()[:8]


def _check(config: ConfigDict) -> None:
  """Check fields before anything is trained."""
  made, other, linear = config.network, config.paillier, config.regression
  fits = {
    "parts": set(config.parts) <= set(PARTS) and bool(config.parts),
    "seeds": config.seeds >= 1,
    "network.hidden": bool(made.hidden) and min(made.hidden) >= 1,
    "network.epochs": made.epochs >= 1,
    "network.batch": made.batch >= 1,
    "network.queries": made.queries >= 1,
    "paillier.outputs": other.outputs >= 1,
    "paillier.bits": bool(other.bits)
    and all(
      isinstance(x, int) and x >= 2048 and x % 2 == 0 for x in other.bits
    ),
    "regression.test": 2 <= linear.test <= 400,
  }
  for field, right in fits.items():
    if not right:
      value: Any = config
      for part in field.split("."):
        value = value[part]
      raise ValueError(f"{field}={value}: out of range")
  # Depth and activation: what is too deep ends here, in one line.
  sizes = itertools.pairwise((64, *made.hidden, 10))
  zeros = {
    f"dense_{i}": {"kernel": np.zeros(shape), "bias": np.zeros(shape[1])}
    for i, shape in enumerate(sizes)
  }
  ckks.Server(zeros, tuple(made.activation))


def _rows(config: ConfigDict, part: str, seed: int, note: Note) -> list[Row]:
  base = results.provenance() | {
    "config": config.name,
    "part": part,
    "seed": seed,
  }
  note(f"{part}: seed {seed}")
  return [
    results.row(base, **fields)
    for fields in PARTS[part](config[part], seed, note)
  ]


def _metrics(fields: Row, values: Mapping[str, Any]) -> Iterator[Row]:
  for metric, value in values.items():
    yield fields | {"metric": metric, "value": float(value)}


def _network(config: ConfigDict, seed: int, note: Note) -> Iterator[Row]:
  """Yield figures of a network of digits that is asked one by one."""
  train, test = training.digits()
  forward = training.quadratic(config)
  params = training.trained(config, seed, train, forward)
  other = training.trained(config, seed, train, training.with_relu)
  questions = test.inputs[: config.queries]
  plain = np.asarray(jax.jit(forward)(params, questions))
  note("trained")
  asked = ask(params, questions, note, activation=tuple(config.activation))
  agree = asked.outputs.argmax(-1) == plain.argmax(-1)
  right = asked.outputs.argmax(-1) == test.targets[: len(questions)]
  fields = {
    "dataset": "digits",
    "model": "-".join(map(str, (64, *config.hidden, 10))),
    "title": "CKKS network",
    "queries": len(questions),
  }
  yield from _metrics(
    fields,
    {
      "accuracy": training.accuracy(forward, params, test),
      "accuracy_relu": training.accuracy(training.with_relu, other, test),
      "accuracy_encrypted": right.mean(),
      "agreement": agree.mean(),
      "max_error": np.abs(asked.outputs - plain).max(),
      "largest_output": np.abs(plain).max(),
      **asked.costs,
    },
  )


def _regression(config: ConfigDict, seed: int, note: Note) -> Iterator[Row]:
  """Yield figures of a linear regression on encrypted rows."""
  train, test = training.diabetes(config, seed)
  params = training.fitted(train)
  layer = params["dense_0"]
  plain = (test.inputs @ layer["kernel"] + layer["bias"])[:, 0]
  asked = ask(params, test.inputs, note, **_REGRESSION)
  found = asked.outputs[:, 0]
  yield from _metrics(
    {
      "dataset": "diabetes",
      "model": "linear regression",
      "title": "CKKS regression",
      "queries": len(found),
    },
    {
      "r2": training.determination(plain, test.targets),
      "r2_encrypted": training.determination(found, test.targets),
      "max_error": np.abs(found - plain).max(),
      "largest_output": np.abs(plain).max(),
      **asked.costs,
    },
  )


def ask(params: Any, inputs: np.ndarray, note: Note, **options: Any) -> Asked:
  """Ask a server in another process about each input.

  Args:
    params: Weights, which the server gets sealed.
    inputs: float[n, inputs].
    note: Called with what was done, now and then.
    **options: Of `ckks.Server`.
  """
  with tempfile.TemporaryDirectory() as folder:
    sealed = files.path(folder) / "weights"
    with process.serving(params, sealed, **options) as (remote, pid):
      note(f"the server is process {pid}, this one {os.getpid()}")
      return _ask(remote, inputs, note)


def _ask(remote: Remote, inputs: np.ndarray, note: Note) -> Asked:
  start = time.process_time()
  client = ckks.Client(remote.facts())
  public = client.public()
  setup = time.process_time() - start
  remote.open(public)
  note(f"{client.parameters}; the server has {len(public):,} bytes of keys")
  outputs, walls, sizes = [], [], []
  start = time.process_time()
  for i, x in enumerate(inputs, 1):
    begun = time.monotonic()
    question = client.encrypt(x)
    answer = remote.answer(question)
    outputs.append(client.decrypt(answer))
    walls.append(time.monotonic() - begun)
    sizes.append((len(question), len(answer)))
    if not i % _NOTED:
      note(f"{i} of {len(inputs)} questions, {np.median(walls):.2f} s each")
  spent = time.process_time() - start
  cost, (sent, received) = remote.cost(), np.mean(sizes, 0)
  costs = {
    "seconds": np.median(walls),
    "client_cpu_seconds": spent / len(inputs),
    "server_cpu_seconds": cost["seconds"] / cost["answers"],
    "setup_cpu_seconds": setup,
    "question_bytes": sent,
    "answer_bytes": received,
    "public_bytes": len(public),
    "degree": client.parameters.degree,
    "modulus_bits": sum(client.parameters.prime_bits),
  }
  return Asked(np.stack(outputs), costs)


def _paillier(config: ConfigDict, seed: int, note: Note) -> Iterator[Row]:
  """Yield figures of a first layer that adds ciphertexts, on one digit."""
  _, test = training.digits()
  x = test.inputs[seed]
  rng = np.random.default_rng(seed)
  kernel = rng.normal(size=(len(x), config.outputs)) / np.sqrt(len(x))
  bias = rng.normal(size=config.outputs)
  for bits in config.bits:
    clock = [time.process_time()]
    owner = paillier.Owner(bits)
    clock.append(time.process_time())
    question = owner.encrypt(x)
    clock.append(time.process_time())
    answer = paillier.linear(owner.modulus, question, kernel, bias)
    clock.append(time.process_time())
    found = owner.decrypt(answer)
    clock.append(time.process_time())
    names = ("setup", "encrypt", "server", "decrypt")
    spent = dict(zip(names, np.diff(clock), strict=True))
    note(f"{bits} bits: {spent['server']:.1f} s of the server")
    yield from _metrics(
      {
        "dataset": "digits",
        "model": f"{len(x)}-{config.outputs}",
        "title": f"Paillier layer, {bits} bits",
        "queries": 1,
      },
      {
        "max_error": np.abs(found - (x @ kernel + bias)).max(),
        **{f"{k}_cpu_seconds": v for k, v in spent.items()},
        "question_bytes": len(question),
        "answer_bytes": len(answer),
      },
    )


PARTS: Mapping[str, Callable[[ConfigDict, int, Note], Iterator[Row]]] = {
  "network": _network,
  "paillier": _paillier,
  "regression": _regression,
}
