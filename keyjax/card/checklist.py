"""The checklist of "On Evaluating Adversarial Robustness", with answers.

The paper is about defences against perturbed inputs. A lock is a defence, too:
the stolen file is what is perturbed, the budget is what the attacker may spend,
the randomness is the key. Rows answer the items that they decide; the owner can
answer the others; the rest is marked as not answered. The paper's first item is
that no list replaces thinking: a column of "yes" proves nothing.

References:
  N. Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705,
    2019, section 3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keyjax.card import evidence
from keyjax.card.errors import CardError

# Part of the format: a card with other questions is refused.
ITEMS = {
  # Severe flaws.
  "judgement": "Was the evaluation thought about, beyond this list?",
  "threat_model": "Is there a precise threat model, which knows the scheme?",
  "adaptive": "Were there attacks made for this scheme, end to end?",
  "release": "Are models and source code released, with one command to run?",
  "clean_accuracy": "Is the accuracy reported when nobody attacks?",
  "sanity": "Does more budget never make an attack weaker?",
  "curve": "Is there a curve of success against budget?",
  "adaptive_wins": "Do attacks made for the scheme beat all others?",
  "description": "Are the attacks described, with their hyper-parameters?",
  # Pitfalls.
  "diversity": "Are the attacks diverse?",
  "gradient_free": "Is there one without gradients, and one by labels alone?",
  "transfer": "Is there one that goes by way of a similar model?",
  "randomness": "Is it averaged over the scheme's randomness, its keys?",
  "differentiability": "Are parts without gradients attacked around?",
  "convergence": "Have the attacks converged: do twice the steps change it?",
  "hyperparameters": "Were the attacks' hyper-parameters searched?",
  "prior_work": "Is it compared with prior work, and what broke that?",
  "breadth": "Are broader threat models tested?",
  # Special cases.
  "provable": "Were provable approaches considered?",
  "random_noise": "Were 10,000 or more random tries made?",
  "targeted": "Is it said which attacks have a target, and are there both?",
  "ablation": "Are there ablations, and attacks on an unprotected model?",
  "validation": "Are new attacks validated on schemes known to be broken?",
  "domains": "Is it tried on other domains, or said that it is for one?",
  "worst_case": "Is the worst case per example reported, over attacks?",
}
ANSWERS = ("yes", "no", "does not apply")
NOT_ANSWERED = "not answered"
_RULES: dict[str, Callable[[evidence.Found], evidence.Answer]] = {
  "threat_model": evidence.threat_model,
  "adaptive": evidence.adaptive,
  "clean_accuracy": evidence.clean_accuracy,
  "sanity": evidence.sanity,
  "curve": evidence.curve,
  "adaptive_wins": evidence.adaptive_wins,
  "description": evidence.description,
  "diversity": evidence.diversity,
  "randomness": evidence.randomness,
  "convergence": evidence.convergence,
  "hyperparameters": evidence.hyperparameters,
  "random_noise": evidence.random_noise,
}


def fill(
  found: evidence.Found, answers: Mapping[str, Any]
) -> list[dict[str, str]]:
  """Return every item with its answer.

  Args:
    found: Accuracies and attacks of the card.
    answers: The owner's answers, `{"answer": ..., "because": ...}` by item.

  Raises:
    CardError: If an answer is malformed, to an unknown item, or to an item that
      the rows decide.
  """
  unknown = sorted(set(answers) - set(ITEMS))
  if unknown:
    raise CardError(
      f"the checklist has no item {unknown[0]!r}; it has {', '.join(ITEMS)}"
    )
  return [_item(name, found, answers.get(name)) for name in ITEMS]


def _item(name: str, found: evidence.Found, given: Any) -> dict[str, str]:
  item = {"item": name, "asks": ITEMS[name]}
  decided = _RULES[name](found) if name in _RULES else None
  if decided and given is not None:
    raise CardError(f"the rows answer the item {name!r}: remove your answer")
  if decided:
    answer, because = decided
    return item | {"answer": answer, "because": because, "by": "rows"}
  if given is None:
    return item | {"answer": NOT_ANSWERED, "because": "", "by": "nobody"}
  _check_answer(name, given)
  return item | dict(given) | {"by": "owner"}


def _check_answer(name: str, given: Any) -> None:
  valid = (
    isinstance(given, Mapping)
    and set(given) == {"answer", "because"}
    and given["answer"] in ANSWERS
    and isinstance(given["because"], str)
    and given["because"].strip()
  )
  if not valid:
    raise CardError(
      f"the answer to {name!r} needs an `answer` ({', '.join(ANSWERS)}) and a "
      "non-empty `because`"
    )


def check(items: Sequence[Mapping[str, str]]) -> None:
  """Raise a CardError unless all items are present and consistent."""
  if [(x["item"], x["asks"]) for x in items] != list(ITEMS.items()):
    raise CardError("the checklist is incomplete, or has other questions")
  for item in items:
    by_nobody = item["by"] == "nobody"
    if by_nobody != (item["answer"] == NOT_ANSWERED):
      raise CardError(f"the item {item['item']!r} does not say who answered it")
    if not by_nobody and not item["because"].strip():
      raise CardError(f"the answer to {item['item']!r} has no reason")
