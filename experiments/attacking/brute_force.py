r"""What trying every key of a scheme costs, at a measured rate.

    python -m experiments.attacking.brute_force --config=configs/matrix.py \
      --workdir=runs/matrix

A trial is what a guesser does: decrypt with a wrong key, bind it, run a few
test images; 64 keys go through one compiled call. The row of a scheme holds the
bits of its key space (`keyjax.attacks.key_space`), the trials per second, and
the expected years: half of the keys. Rows go to WORKDIR/brute_force.json; the
models in WORKDIR are those of `experiments.attack`, trained if need be.

The years bound guessing alone. Most schemes fall to an attack that does not
guess: `experiments.attack`.
"""

import time
from typing import Any

import jax
import rich.console
import rich.table
from absl import app
from ml_collections import ConfigDict

import keyjax
from experiments.attacking.targets import Targets
from experiments.protection import evaluate, judge, lock
from experiments.protection import job as context
from experiments.run import flags as cli
from experiments.run import results
from keyjax.attacks import key_space

_KEYS = 64
_IMAGES = 16  # Enough to tell a right key from a wrong one.


def run(
  config: ConfigDict,
  workdir: str,
  keydir: str = "",
  secret: keyjax.Secret | None = None,
) -> list[dict[str, Any]]:
  """Measures every scheme that has a key, and returns the rows.

  Args:
    config: with `schemes`; attacks are left aside.
    workdir: for rows and trained models.
    keydir: for keys; `<workdir>.keys` by default.
    secret: see `experiments.main.run`.

  Raises:
    ValueError: the config or a folder is wrong; the message says how.
    FileNotFoundError: the data set is not on this machine.
  """
  console = rich.console.Console()
  this = context.start(config, workdir, keydir, secret, console.print)
  targets, rows = Targets(this), []
  for label, spec in config.schemes.items():
    target = targets.get(label)
    if not jax.tree.leaves(target.key):
      continue
    bits = key_space.entropy_bits(target.key)
    rate = keys_a_second(
      this, lock.build(spec.scheme, dict(spec.args), this.model), target
    )
    rows.append(
      results.row(
        this.base | results.names(label, spec),
        metric="log10_years",
        value=key_space.log10_years(bits, rate),
        key_bits=bits,
        keys_a_second=rate,
        keys=_KEYS,
        images=_IMAGES,
      )
    )
  results.write_json(this.workdir.path / "brute_force.json", rows)
  console.print(table(rows))
  return rows


def keys_a_second(run: context.Run, this: lock.Lock, target: Any) -> float:
  """Returns how many wrong keys a second one call of 64 tries.

  Args:
    run: the config and the data.
    this: the scheme as the model runs it.
    target: the locked model, its key and its plain params.
  """
  guesses = judge.wrong_keys(run, this, target.key, target.params, _KEYS)
  images = judge.images(run, _IMAGES)
  evaluate.count(this, target.locked, guesses, images)  # Compiles.
  start = time.perf_counter()
  evaluate.count(this, target.locked, guesses, images)
  return _KEYS / (time.perf_counter() - start)


def table(rows: list[dict[str, Any]]) -> rich.table.Table:
  """Returns bits, trials per second and years of every scheme."""
  out = rich.table.Table(title="Trying every key")
  out.add_column("scheme", overflow="fold")
  for name in ("key bits", "keys a second", "years"):
    out.add_column(name, justify="right")
  for r in rows:
    out.add_row(
      r["title"],
      f"{r['key_bits']:.1f}",
      f"{r['keys_a_second']:,.0f}",
      f"10^{r['value']:.1f}",
    )
  return out


def main(argv: list[str]) -> None:
  """Runs from the command line."""
  cli.serve(argv, run)


if __name__ == "__main__":
  app.run(main, flags_parser=cli.parse_flags)
