"""What the documentation calls strong is backed by an attack that fails.

It has a row with an interval in the matrix, and that row's attack fails here
against the lock and succeeds without it.
"""

import dataclasses
import re

import pytest
from ml_collections import ConfigDict

import keyjax
from experiments.attacking import plan, rows
from keyjax.attacks import intervals, referee, registry
from keyjax.attacks.game import Budget, Goal, Target
from tests.attacks import toys
from tests.conftest import ROOT
from tests.experiments.docstrings import load_config, sections_of

WORDS = re.compile(
  r"\b(robust(ly)?|resist\w*|withst\w+|surviv\w+|unbreakable|immune"
  r"|tamper-?proof|confidential|secure against|(nothing|no attack) known"
  r"|worth nothing)\b",
  re.IGNORECASE,
)
# Words of a claim, and the row of configs/matrix.py that supports it.
CLAIMS = {
  "as confidential as AES-CTR if no nonce": ("counter", "known"),
  "Signs and mantissas of the chosen leaves are": ("keyed_noise", "guess"),
  "nothing known; malleable": ("counter", "known"),
  "Ciphertext is worth nothing": ("counter", "tune_0"),
  "file is worth nothing without the key": ("counter", "tune_1"),
}
# A title of a paper, a denial, a premise.
NOT_CLAIMS = (
  "Block-wise Image Transformation with Secret Key for",
  "Nothing that leaves most weights right survives",
  "With nothing known*, the schedule",
  "The file must be confidential",
  "Make a model robust",
)


# Pages about changed inputs, whose figures are accuracies, not worth of a lock.
OF_INPUTS = {
  "docs/defenses.md",
  "docs/robustness.md",
  "docs/robustness_figures.md",
  *(
    f"docs/attacks/{x}.md"
    for x in ("evasion", "fooling", "parity", "physical", "transfer")
  ),
}


def texts() -> dict[str, str]:
  """README, docs, and what the schemes guarantee."""
  found = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if str(file.relative_to(ROOT)) not in OF_INPUTS
  }
  for file in sorted((ROOT / "keyjax" / "schemes").glob("*.py")):
    found[str(file.relative_to(ROOT))] = "\n\n".join(
      sections_of(file, "Guarantees")
    )
  return found


def unbacked(text: str) -> list[str]:
  """Return the strong claims of a text, except those that are listed."""
  flat = re.sub(r"\s+", " ", text)
  for known in (*CLAIMS, *NOT_CLAIMS):
    # A listed sentence is removed up to its end.
    flat = re.sub(re.escape(known) + r"[^.|]*", "", flat)
  return [
    flat[max(m.start() - 60, 0) : m.end() + 40] for m in WORDS.finditer(flat)
  ]


@pytest.fixture(scope="module")
def matrix() -> ConfigDict:
  return load_config("matrix.py")


def test_no_claim_is_without_evidence() -> None:
  for name, text in texts().items():
    assert not unbacked(text), f"{name}: no row of the matrix is named for it"


def test_a_claim_without_evidence_is_found() -> None:
  for text in (
    "The lock is robust\nto fine-tuning.",
    "It resists pruning.",
    "| HPNN | nothing known | x |",
    "As\nconfidential as a wall.",
  ):
    assert len(unbacked(text)) == 1, text
  assert unbacked("nothing known; malleable. It is robust.") != []


def test_what_is_listed_occurs_in_the_texts() -> None:
  flat = re.sub(r"\s+", " ", " ".join(texts().values()))
  for known in (*CLAIMS, *NOT_CLAIMS):
    assert known in flat, f"{known!r} occurs nowhere: remove it from the list"


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_a_row_with_an_interval(
  claim: str, matrix: ConfigDict
) -> None:
  pair = CLAIMS[claim]
  assert pair in set(plan.pairs(matrix))
  spec = matrix.attacks[pair[1]]
  # Of images, or of games with fresh keys: one game has no interval.
  many = registry.get(spec.attack).goal == Goal.FUNCTION or spec.trials > 1
  assert many, f"{pair} is played once"


def locked(kind: str) -> Target:
  """Lock the digits model as the claim says, or with a weak lock."""
  schemes = {
    "counter": ("deep_lock", keyjax.deep_lock("counter")),
    "chain": ("deep_lock", keyjax.deep_lock()),
    "keyed_noise": ("keyed_noise", keyjax.keyed_noise()),
    "none": ("identity", keyjax.identity()),
  }
  name, scheme = schemes[kind]
  return toys.target(scheme, name)


def score(label: str, target: Target, matrix: ConfigDict) -> referee.Score:
  """Play the attack of a row against a target, with its own attacker."""
  spec = matrix.attacks[label]
  attacker = rows.attacker_of(spec, len(target.train.label))
  attacker = dataclasses.replace(
    attacker, known_leaf="", images=min(attacker.images, 100)
  )
  budget = Budget(steps=min(spec.steps, 40), points=2)
  attack = registry.get(spec.attack)
  grid = spec.grid.settings or attack.grid
  return referee.sweep(attack, target, attacker, budget, grid).score


def test_known_weights_open_the_chain_and_not_the_counter_mode(
  matrix: ConfigDict,
) -> None:
  assert score("known", locked("chain"), matrix).value == 1
  assert score("known", locked("counter"), matrix).value == 0


def test_guessing_leaves_keyed_noise_locked(matrix: ConfigDict) -> None:
  target = locked("keyed_noise")
  right = referee.judge(target.authorized(), target.test)
  assert score("guess", target, matrix).high < right.low


@pytest.mark.parametrize("label", ["tune_0", "tune_1"])
def test_fine_tuning_ciphertext_gains_nothing(
  label: str, matrix: ConfigDict
) -> None:
  """An open file gains, which shows that the attack can."""
  fresh = score(label.replace("tune", "scratch"), locked("none"), matrix)
  gains = {
    kind: intervals.difference(
      score(label, locked(kind), matrix)[:3], fresh[:3]
    )
    for kind in ("counter", "none")
  }
  assert gains["counter"][0] <= 0 <= gains["counter"][1]
  assert gains["none"][0] > 0
