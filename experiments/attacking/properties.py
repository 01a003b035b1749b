r"""Do locked weights still tell what the training data were like?

    python -m experiments.attacking.properties --out=runs/properties

It trains shadow networks and targets on disjoint halves of the digits, half of
them with a property of the data: the digit 7 three times as frequent; none at
all (which must show on plain weights); no difference (which must not). It locks
each under a key of its own, and three meta-classifiers guess the property of
the targets. One attacker learns from plain shadows, the other from shadows that
he locked under keys of his own. It writes OUT/rows.jsonl, once all is measured.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags, logging

import keyjax
from experiments import data
from experiments.attacking import meta, shadows
from experiments.protection import lock
from experiments.run import ending, files, out, results
from keyjax import tree
from keyjax.attacks import intervals
from keyjax.schemes import hpnn

_NETS = flags.DEFINE_integer("nets", 192, "Shadows, and as many targets.")
_STEPS = flags.DEFINE_integer("steps", 200, "Of training each network.")
_SCHEMES: dict[str, tuple[str, str, dict[str, Any]]] = {
  "plain": ("no lock", "identity", {}),
  "chain": ("Deep-Lock, published", "deep_lock", {}),
  "counter": (
    "Deep-Lock, AES counter mode",
    "deep_lock",
    {"schedule": "counter"},
  ),
  "keyed_noise": ("keyed noise", "keyed_noise", {}),
  "hpnn": ("HPNN", "hpnn", {}),
}


def run(
  out: str,
  nets: int = 192,
  steps: int = 200,
  schemes: tuple[str, ...] = tuple(_SCHEMES),
) -> list[dict[str, Any]]:
  """Plays every property against every scheme; returns rows.

  Args:
    out: a folder for the rows.
    nets: how many shadows, and how many targets.
    steps: of training each.
    schemes: names in `_SCHEMES`.

  Raises:
    ValueError: too few networks or steps.
    OSError: the folder cannot be written.
  """
  if nets < 2 or steps < 1:
    raise ValueError(
      f"nets={nets}, steps={steps}: at least 2 networks, of which one has the "
      "property, and 1 step"
    )
  dataset = data.load("digits")
  model = shadows.make_model(dataset)
  folder = pathlib.Path(out)
  folder.mkdir(parents=True, exist_ok=True)
  # Once, so that each cipher is compiled once.
  locks = {
    label: lock.build(*_SCHEMES[label][1:], model).scheme for label in schemes
  }
  base = results.provenance() | {
    "config": "properties",
    "dataset": dataset.name,
    "model": "mlp",
    "source": dataset.source,
  }
  rows = []
  for i, (name, prevalence) in enumerate(shadows.PROPERTIES.items()):
    halves = [
      shadows.train(
        model,
        dataset.train_images[half::2],
        dataset.train_labels[half::2],
        prevalence,
        nets,
        steps,
        2 * i + half,
      )
      for half in (0, 1)
    ]
    this = base | {"property": name}
    for label in schemes:
      rows += _play(this, locks[label], dataset, label, *halves)
  # Whole or not at all: what an earlier run wrote stays until then.
  files.write(folder / "rows.jsonl", results.lines(rows))
  return rows


def _play(
  base: dict[str, Any],
  scheme: keyjax.Scheme,
  dataset: data.Dataset,
  label: str,
  own: shadows.Nets,
  targets: shadows.Nets,
) -> list[dict[str, Any]]:
  """Returns the rows of both attackers against one scheme."""
  title, name, args = _SCHEMES[label]
  x = jnp.asarray(dataset.train_images[:1].astype(np.float32) / 255)
  stolen = lock_all(scheme, name, targets.params, {"image": x})
  learned = {"plain shadows": own.params}
  if label != "plain":
    learned["locked shadows"] = lock_all(scheme, name, own.params, {"image": x})
  rows = []
  for attacker, seen in learned.items():
    hits = {
      kind: int((guess(seen, own.label, stolen) == targets.label).sum())
      for kind, guess in meta.CLASSIFIERS.items()
    }
    total, best = len(targets.label), max(hits, key=lambda k: hits[k])
    low, high = intervals.clopper_pearson(hits[best], total, len(hits))
    rows.append(
      results.row(
        base,
        scheme=label,
        title=title,
        mechanism=name,
        options=args,
        condition="wrong",
        metric="property",
        value=hits[best] / total,
        low=low,
        high=high,
        interval="Clopper-Pearson over networks, Bonferroni over classifiers",
        attacker=attacker,
        details={k: n / total for k, n in hits.items()} | {"best": best},
        networks=total,
      )
    )
  return rows


def lock_all(scheme: keyjax.Scheme, name: str, params: Any, batch: Any) -> Any:
  """Locks each network under a key of its own; returns the files as floats.

  Args:
    scheme: from `lock.build`.
    name: of the mechanism. HPNN's file is the plain network with signs
      absorbed: training under its key gives the same (capacity theorem).
    params: a tree with a first axis over networks.
    batch: for `keygen`.
  """
  one = jax.tree.map(lambda x: x[0], params)
  count = len(jax.tree.leaves(params)[0])
  keys = [
    scheme.keygen(keyjax.Secret.generate(), one, batch) for _ in range(count)
  ]
  if not jax.tree.leaves(keys[0]):
    return params
  encrypt: Callable[..., Any] = scheme.encrypt
  if name == "hpnn":
    encrypt = hpnn.absorb
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *keys)
  return tree.as_floats(_many(encrypt)(stacked, params), params)


_many = functools.lru_cache(maxsize=16)(lambda f: jax.jit(jax.vmap(f)))


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """Returns the best classifier of each game, with its interval."""
  out = rich.table.Table(title="A property of the training data, from weights")
  for name in ("property", "scheme", "learned from", "best"):
    out.add_column(name, overflow="fold")
  for name in ("right, %", "95 %"):
    out.add_column(name, justify="right")
  for r in rows:
    span = f"{100 * r['low']:.0f} - {100 * r['high']:.0f}"
    share = f"{100 * r['value']:.1f}"
    out.add_row(
      r["property"],
      r["title"],
      r["attacker"],
      r["details"]["best"],
      share,
      span,
    )
  return out


def main(argv: list[str]) -> None:
  """Runs from the command line."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  logging.set_verbosity(logging.ERROR)  # JAX's notes.
  folder = str(out.folder("runs/properties"))
  with ending.one_line():
    rows = run(folder, _NETS.value, _STEPS.value)
  rich.console.Console().print(table(rows))


if __name__ == "__main__":
  app.run(main)
