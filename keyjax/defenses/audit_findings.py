"""What the audit of masked gradients concludes from what attacks broke."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keyjax.attacks import intervals
from keyjax.defenses.audit_attacks import SCALED, Outcomes

# Of each check: shares to count, and attacks to compare with another.
_QUESTIONS: dict[str, tuple[tuple[str, str | None], ...]] = {
  "zero_gradients": (("zero", None),),
  "single_step": (("fgsm", "pgd"),),
  "black_box": (("square", "pgd"), ("transfer", "pgd")),
  "unbounded": (("survived", None),),
  "noise": (("noise", "pgd"),),
  "rescaled_loss": (("margin", "pgd"), ("dlr", "pgd")),
  "hidden_steps": (
    ("moved", None),
    ("eot_next_draw", "pgd_next_draw"),
    ("bpda", "pgd"),
  ),
}
_MEANING = {
  "zero_gradients": "attacks along them cannot move",
  "single_step": "more steps should break more",
  "black_box": "gradients should break more than queries or another model",
  "unbounded": "a change of any size should break every input",
  "noise": "the gradient is worse than chance",
  "rescaled_loss": "the loss stops the attack, not the model",
  "hidden_steps": "attack the mean over draws (EOT), or through BPDA",
}
_TITLES = {
  "zero": "of the input gradients are zero or not finite",
  "survived": "of the inputs withstand PGD without a bound",
  "moved": "of the attacked inputs change class from pass to pass",
  "fgsm": "FGSM",
  "pgd": "PGD",
  "noise": "random noise",
  "square": "Square",
  "transfer": "PGD on the substitute",
  "margin": "PGD on the margin",
  "dlr": "PGD on DLR",
  "bpda": "PGD through BPDA",
  "pgd_next_draw": "PGD on one draw",
  "eot_next_draw": "PGD on the mean of draws",
}


class Finding(NamedTuple):
  """Result of one check.

  Attributes:
    name: Name of the check.
    suspicious: Whether `low` is above the tolerance.
    figures: Accuracies under the attacks that were compared, by name; or the
      share that was counted.
    value: What is judged: a share of the inputs. In a comparison, of those that
      the attack breaks and its rival does not, minus the reverse.
    low: Lower end of its interval.
    high: Upper end.
    sentence: The finding in words.
  """

  name: str
  suspicious: bool
  figures: dict[str, float]
  value: float
  low: float
  high: float
  sentence: str


class Audit(NamedTuple):
  """Result of an audit.

  Attributes:
    findings: The seven findings by name.
    accuracy: Accuracy without attack ("clean") and under each attack.
    n: Number of inputs.
  """

  findings: dict[str, Finding]
  accuracy: dict[str, float]
  n: int

  @property
  def masked(self) -> bool:
    """Whether any check is suspicious."""
    return bool(self.suspicious)

  @property
  def suspicious(self) -> tuple[str, ...]:
    """Names of the suspicious checks."""
    return tuple(x.name for x in self.findings.values() if x.suspicious)

  def words(self) -> str:
    """Return the conclusion in one sentence."""
    attacked = f"{self.n} inputs, PGD accuracy {self.accuracy['pgd']:.1%}"
    if not self.masked:
      return f"No sign of masked gradients in 7 checks ({attacked})."
    names = ", ".join(self.suspicious)
    return f"Masked gradients: {names} ({attacked}, which is not reliable)."

  def table(self) -> str:
    """Return the findings as a Markdown table."""
    rows = ["| check | masked | share | 95 % interval | finding |"]
    rows.append("|---|---|---|---|---|")
    for x in self.findings.values():
      answer = "yes" if x.suspicious else "no"
      between = f"{100 * x.low:.1f} to {100 * x.high:.1f} %"
      rows.append(
        f"| {x.name} | {answer} | {x.value:.1%} | {between} | {x.sentence} |"
      )
    return "\n".join(rows)


def judge(found: Outcomes, *, tolerance: float = 0.05) -> Audit:
  """Draw the conclusions from what attacks broke.

  Args:
    found: From `audit_attacks.outcomes`, on the inputs of one model.
    tolerance: Share of the inputs above which a difference matters.

  Raises:
    ValueError: If the model gets no input right, or the tolerance is no share.
  """
  if not 0 <= tolerance < 1:
    raise ValueError(f"tolerance is {tolerance}: from 0 to below 1")
  broken = {name: np.asarray(x) for name, x in found.broken.items()}
  n = len(broken["clean"])
  if broken["clean"].all():
    raise ValueError(
      f"the model gets none of {n} inputs right: there is nothing to attack"
    )
  counted = broken | {
    "zero": np.asarray(found.flat),
    "survived": ~broken["unbounded"],
    "moved": np.asarray(found.moved),
  }
  scaled = tuple((x, "pgd") for x in broken if x.startswith(SCALED))
  findings = {}
  for name, questions in _QUESTIONS.items():
    if name == "rescaled_loss":
      questions += scaled
    asked = [x for x in questions if x[0] in counted]
    answers = [_answer(name, *x, counted, len(asked)) for x in asked]
    findings[name] = _conclude(answers, tolerance)
  accuracy = {name: 1 - float(x.mean()) for name, x in broken.items()}
  return Audit(findings, accuracy, n)


def _answer(
  name: str,
  attack: str,
  rival: str | None,
  counted: dict[str, np.ndarray],
  among: int,
) -> Finding:
  """Return the finding of one question of a check, not judged yet."""
  hits = counted[attack]
  title = _TITLES.get(attack, f"PGD on {attack}")
  if rival is None:
    share = float(hits.mean())
    low, high = intervals.clopper_pearson(int(hits.sum()), len(hits), among)
    sentence = f"{share:.1%} {title}"
    return Finding(name, False, {attack: share}, share, low, high, sentence)
  gain, low, high = _gain(hits, counted[rival], among)
  left = {x: 1 - float(counted[x].mean()) for x in (attack, rival)}
  sentence = (
    f"{title} leaves an accuracy of {left[attack]:.1%}, {_TITLES[rival]} "
    f"{left[rival]:.1%}"
  )
  return Finding(name, False, left, gain, low, high, sentence)


def _conclude(answers: Sequence[Finding], tolerance: float) -> Finding:
  """Return the answer whose lower end is highest, judged, with all figures."""
  best = max(answers, key=lambda x: x.low)
  figures = {k: v for x in answers for k, v in x.figures.items()}
  if best.low <= tolerance:
    return best._replace(figures=figures)
  sentence = f"{best.sentence}: {_MEANING[best.name]}"
  return best._replace(figures=figures, suspicious=True, sentence=sentence)


def _gain(
  hits: np.ndarray, rival: np.ndarray, among: int
) -> tuple[float, float, float]:
  """Return how much larger one share is than another, of the same inputs.

  Only inputs that one of the two has count: the interval is that of two exact
  ones, each with half of the error.
  """
  more, less = hits & ~rival, rival & ~hits
  above = intervals.clopper_pearson(more.sum(), len(hits), 2 * among)
  below = intervals.clopper_pearson(less.sum(), len(hits), 2 * among)
  gain = float(more.mean() - less.mean())
  return gain, above[0] - below[1], above[1] - below[0]
