"""The leaderboard: every scheme, with what its strongest attack leaves of it.

Rows over seeds come from RESULTS/attacks.json, whose attackers are those that
suit a scheme, and from RESULTS/leaderboard.json, whose attacker is the same for
all. The strongest attack is that on the stolen file which gets furthest from
chance to the owner's model, or to the whole key; of equal ones, that which
needs least. An attack that claims a function and has labelled images counts if
it gets further than training from scratch with the same images.
"""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.tables import headlines, markdown
from keyjax.attacks import held, verdict
from keyjax.schemes import registry as schemes

Row = Mapping[str, Any]
_STANDARD = "leaderboard"  # Config of the attacker that is the same for all.
FILE = f"{_STANDARD}.json"
_HEAD = (
  "lock",
  "class",
  "key space, bits",
  "strongest attack on the file",
  "what it needs",
  "what it gets, %",
  "seconds",
  "what queries get, %",
  "known break, as the scheme states it",
  "run",
)
_PLAIN = "identity"  # No lock: the row that others are compared with.
_ON_THE_FILE = ("key", "weights", "function")
# Files whose rows count key spaces.
_COUNTED = (
  "table_mnist",
  "table_gtsrb",
  "table_cifar10_resnet18",
  "segmentation",
  "detection",
)
# What old releases may have left out, "seconds" and "right" apart.
_FIELDS = (
  "config",
  "dataset",
  "title",
  "mechanism",
  "options",
  "attack_title",
  "game",
  "condition",
  "metric",
  "attacker",
  "value",
  "low",
  "high",
)


class Lock(NamedTuple):
  """A scheme with options, and the rows of attacks that met it."""

  mechanism: str
  options: Row
  title: str
  rows: list[Row]


def leaderboard(results: pathlib.Path) -> list[str]:
  """Return the table of all schemes, best first, and where it comes from."""
  played = _played(results)
  if not played:
    return []
  bits = _key_spaces(results, played)
  found = sorted(_locks(played), key=lambda x: _rank(x, played))
  lines = markdown.lines(_HEAD, [_cells(x, bits, played) for x in found])
  used = [r for x in found for r in _shown(x, played)]
  return [*lines, "", *_origins(used)]


def measured(results: pathlib.Path) -> dict[str, str]:
  """Return the strongest attack on each file, in words, by `lock_name`."""
  played = _played(results)
  found = ((x, _strongest(x.rows, played)) for x in _locks(played))
  return {lock_name(x.mechanism, x.options): _told(r) for x, r in found if r}


def lock_name(mechanism: str, options: Row) -> str:
  """Return what names a lock: its scheme with every option.

  Example:
    >>> lock_name("shf", {"block_size": 4})
    '["shf", {"block_size": 4}]'
  """
  entry = schemes.find(mechanism)
  defaults = entry.defaults() if entry else {}
  return json.dumps([mechanism, defaults | dict(options)], sort_keys=True)


def _played(results: pathlib.Path) -> list[Row]:
  """Return attacks on a lock; what many networks reveal is of the data."""
  files = (results / "attacks.json", results / FILE)
  rows = [r for file in files for r in headlines.read_some(file, _FIELDS)]
  return [r for r in rows if "property" not in r]


def _told(row: Row) -> str:
  """Return an attack with what it needs and gets, and on which data."""
  title = row["attack_title"]
  # "19 known int8 weights" says that it needs 19 known weights.
  first = {x: x.removeprefix("the ").split()[0] for x in _needs(row)}
  more = [x for x, start in first.items() if start not in title.split()]
  needs = f" with {', '.join(more)}" if more else ""
  unit = " %" if row["metric"] == "function" and "games" not in row else ""
  data = f"{row['dataset']}, {row['config']}"
  return f"{title}{needs}: {_gets(row)}{unit} ({data})"


def _locks(played: Sequence[Row]) -> list[Lock]:
  """Return every lock that was attacked, and every other known scheme."""
  found: dict[str, Lock] = {}
  for row in played:
    made = Lock(row["mechanism"], row["options"], row["title"], [])
    key = lock_name(row["mechanism"], row["options"])
    found.setdefault(key, made).rows.append(row)
  attacked = {_PLAIN, *(x.mechanism for x in found.values())}
  for name in schemes.names():
    if name not in attacked:
      title = name.replace("_", " ")
      found[lock_name(name, {})] = Lock(name, {}, title, [])
  return list(found.values())


def _key_spaces(
  results: pathlib.Path, played: Sequence[Row]
) -> dict[str, list[float]]:
  """Return the bits of key spaces, over seeds, by lock."""
  found: dict[str, list[float]] = {}
  for row in played:
    if "key_bits" in row:
      found[lock_name(row["mechanism"], row["options"])] = row["key_bits"]
  for name in _COUNTED:
    file = results / f"{name}.json"
    needed = "mechanism", "options", "values"
    for row in headlines.read_some(file, needed, metric="key_bits"):
      lock = lock_name(row["mechanism"], row["options"])
      found.setdefault(lock, row["values"])
  return found


def _progress(row: Row) -> float:
  """Return how far an attack got, from 0 to 1; see `verdict.progress`."""
  right = row.get("right", {}).get("value")
  return verdict.progress({**row, "right": right})


def _needs(row: Row) -> list[str]:
  return held.in_words(row["attacker"])


def _strongest(rows: Iterable[Row], played: Sequence[Row]) -> Row | None:
  """Return the attack that gets furthest; of equal ones, the cheapest."""
  counted = [r for r in rows if _counts(r, played)]

  def rank(row: Row) -> tuple[float, float, bool, int, int]:
    amount = sum(row["attacker"][k] for k in held.COUNTED)
    least = _progress({**row, "value": row["low"]})
    reached = -round(_progress(row), 2), -round(least, 2)
    # Of attacks that get nothing, one of many games says most.
    nothing = not any(reached) and "games" in row
    return *reached, not nothing, len(_needs(row)), amount

  return min(counted, key=rank, default=None)


def _counts(row: Row, played: Sequence[Row]) -> bool:
  """Return whether an attack is on the file, and better than no file."""
  if row["metric"] not in _ON_THE_FILE or row["condition"] != "wrong":
    return False
  if row["game"] == "scratch":
    return False
  same = row["config"], row["attacker"]["images"]
  scratch = [
    x["high"]
    for x in played
    if x["game"] == "scratch" and (x["config"], x["attacker"]["images"]) == same
  ]
  # What trains a network by itself needs a baseline to count.
  needs_one = verdict.fits_any(row["game"])
  if needs_one or (row["metric"] == "function" and scratch):
    return any(row["low"] > high for high in scratch)
  return True


def _asked(rows: Iterable[Row]) -> Row | None:
  """Return the best attack by queries to a server with the key."""
  found = [r for r in rows if r["condition"] == "api"]
  return max(found, key=_progress, default=None)


def _best(lock: Lock, played: Sequence[Row]) -> Row | None:
  """Return the strongest attack; without a lock, the control of the others."""
  if lock.mechanism != _PLAIN:
    return _strongest(lock.rows, played)
  found = [r for r in lock.rows if r["game"] == "scratch"]
  standard = [r for r in found if r["config"] == _STANDARD]
  return next(iter(standard or found), None)


def _shown(lock: Lock, played: Sequence[Row]) -> list[Row]:
  found = _best(lock, played), _asked(lock.rows)
  return [x for x in found if x]


def _rank(lock: Lock, played: Sequence[Row]) -> tuple[int, float, str]:
  """Order locks: none, then those of which most is left, then the others."""
  if lock.mechanism == _PLAIN:
    return 0, 0.0, ""
  on_file = [r for r in lock.rows if r["condition"] == "wrong"]
  best = _strongest(on_file, played)
  reached = round(_progress(best), 3) if best else 0.0
  return (1 if on_file else 2), reached, lock.title


def _cells(
  lock: Lock, bits: Mapping[str, list[float]], played: Sequence[Row]
) -> list[str]:
  """Return the cells of one lock."""
  known = verdict.known(lock.mechanism, lock.options)
  best = _best(lock, played)
  asked = _asked(lock.rows)
  shown = _shown(lock, played)
  return [
    lock.title,
    known.security_class,
    _bits(lock, bits),
    _title(best) if best else _without(lock),
    ", ".join(_needs(best) or ["the file alone"]) if best else "-",
    _gets(best) if best else "-",
    _seconds(best) if best else "-",
    f"{_gets(asked)}; {', '.join(_needs(asked))}" if asked else "-",
    known.breaks,
    ", ".join(dict.fromkeys(f"`{r['config']}`" for r in shown)) or "-",
  ]


def _bits(lock: Lock, bits: Mapping[str, list[float]]) -> str:
  """Return the key space; of a cipher, the size of its key."""
  counted = bits.get(lock_name(lock.mechanism, lock.options))
  entry = schemes.find(lock.mechanism)
  options = (entry.defaults() if entry else {}) | dict(lock.options)
  size = [options["key_bits"]] if "key_bits" in options else []
  return markdown.bits(counted or size)


def _without(lock: Lock) -> str:
  on_file = [r for r in lock.rows if r["condition"] == "wrong"]
  if lock.mechanism == _PLAIN:
    return "-"
  if not on_file:
    return "none run"
  return f"no gain over training from scratch ({len(on_file)} run)"


def _title(row: Row) -> str:
  if row["game"] == "scratch":
    return "training from scratch, the control"
  return str(row["attack_title"])


def _gets(row: Row) -> str:
  """Return the score of an attack, in words."""
  if "games" in row:
    games = row["games"]
    return f"the {row['metric']} in {games['won']:,} of {games['of']:,} games"
  if row["metric"] != "function":
    whole = row["low"] == 1
    share = "the whole" if whole else f"{markdown.median(row)} of the"
    return f"{share} {row['metric']}"
  return f"{markdown.median(row)} of {100 * row['right']['value']:.1f}"


def _seconds(row: Row) -> str:
  """Return the time of an attack; a dash where old rows do not have it."""
  if "seconds" not in row:
    return "-"
  low, high = (f"{f(row['seconds']):.2g}" for f in (min, max))
  return low if low == high else f"{low} to {high}"


def _origins(rows: Sequence[Row]) -> list[str]:
  """Say where rows come from: one line for each command."""
  made: dict[str, list[Row]] = {}
  for row in rows:
    command = re.sub(r" --config.train.seed=\d+", "", row["command"][0])
    command = re.sub(r"--workdir=\S+", "--workdir=DIR", command)
    if row["config"] == _STANDARD:
      command = re.sub(r"--only=\w+/", "--only=SCHEME/", command)
    made.setdefault(command, []).append(row)
  return [
    f"- `{command}`, with --config.train.seed={_all(own, 'seeds')}: commits "
    f"{_all(own, 'commit')}; {_all(own, 'hardware')}; "
    f"{min(_dates(own))} to {max(_dates(own))}."
    for command, own in made.items()
  ]


def _all(rows: Sequence[Row], name: str) -> str:
  return ", ".join(dict.fromkeys(str(x) for r in rows for x in r[name]))


def _dates(rows: Sequence[Row]) -> list[str]:
  return [x[:10] for r in rows for x in r["date"]]


def over_runs(
  found: Sequence[Sequence[Row]], network: str
) -> list[dict[str, Any]]:
  """Return the rows over seeds of one scheme, with the bits of its keys.

  Args:
    found: Rows of `experiments.attack` for each seed, from 0.
    network: The network, in words.
  """
  made = headlines.over_runs(found, range(len(found)), network)
  counted = [r["key_bits"] for rows in found for r in rows if "key_bits" in r]
  return [r | ({"key_bits": counted} if counted else {}) for r in made]
