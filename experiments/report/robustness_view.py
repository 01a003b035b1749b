"""Rows of `experiments.robustness` by model and by setting."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.evasion import measure
from experiments.evasion.comparisons import attacked, of_game
from experiments.report.charts import Estimate
from experiments.report.svg import percent
from experiments.report.view import interval, number

Row = Mapping[str, Any]


class Setting(NamedTuple):
  """A norm and the largest change in it."""

  norm: str
  epsilon: float

  def __str__(self) -> str:
    """Return the setting in words."""
    return f"{self.norm} {self.epsilon:g}"


class Model(NamedTuple):
  """A model, and its rows of robust accuracy."""

  title: str
  rows: Sequence[Row]

  @property
  def clean(self) -> Estimate:
    """Accuracy without attack."""
    return estimate(next(iter(of_game(self.rows, "clean")), {}))

  @property
  def is_defended(self) -> bool:
    """Whether it has a defence."""
    return bool(self.rows[0]["defense"] != "none")

  @property
  def is_locked(self) -> bool:
    """Whether it has a lock."""
    return bool(self.rows[0]["mechanism"] != "identity")

  def row(self, game: str, setting: Setting) -> Row:
    """Return the row of "worst" or "noise"; an empty one if there is none."""
    found = of_game(self.rows, game)
    return next((r for r in found if of(r) == setting), {})

  def at(self, game: str, setting: Setting) -> Estimate:
    """Return the accuracy of such a row."""
    return estimate(self.row(game, setting))


def models(rows: Sequence[Row]) -> list[Model]:
  """Return the models, in the order of their rows."""
  groups: dict[str, list[Row]] = {}
  for r in rows:
    if r["metric"] == measure.ACCURACY:
      groups.setdefault(r["model_name"], []).append(r)
  return [Model(members[0]["title"], members) for members in groups.values()]


def of(row: Row) -> Setting:
  """Return the setting of a row."""
  return Setting(row["norm"], row["epsilon"])


def settings(rows: Sequence[Row]) -> list[Setting]:
  """Return the settings of attacks: norm by norm, small changes first."""
  norms = list(dict.fromkeys(r["norm"] for r in attacked(rows)))
  found = {of(r) for r in attacked(rows)}
  return sorted(found, key=lambda s: (norms.index(s.norm), s.epsilon))


def reference(rows: Sequence[Row]) -> Setting | None:
  """Return the largest change that most kinds of attackers have tried."""

  def rank(setting: Setting) -> tuple[int, int, float]:
    own = [r for r in attacked(rows) if of(r) == setting]
    return len({r["condition"] for r in own}), len(own), setting.epsilon

  return max(settings(rows), key=rank, default=None)


def estimate(row: Row) -> Estimate:
  """Return the value of a row with its interval."""
  value, low, high = (number(row.get(k)) for k in ("value", "low", "high"))
  return Estimate(value, low, high)


def words(found: Estimate) -> str:
  """Return an estimate with its interval, in percent."""
  around = interval(found)
  return percent(found.value) + (f" ({around})" if around else "")
